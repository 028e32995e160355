"""The one trainer: the epoch loop, optimisation, checkpoints, loggers."""

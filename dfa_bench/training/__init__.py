"""The one trainer: the epoch loop, optimisation, checkpoints, loggers."""

from dfa_bench.errors import require_suite

require_suite()

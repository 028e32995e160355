"""The figures of the paper, and the learning curves of its tables."""

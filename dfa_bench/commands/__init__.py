"""The command line: one file for each command of `dfa-bench`, named after it."""

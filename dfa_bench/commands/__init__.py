"""The command line: one file for each command of `dfa-bench`, named after it."""

from dfa_bench.errors import require_suite

require_suite()

"""From records to tables. Numbers are never typed in: they come from runs."""

from dfa_bench.errors import require_suite

require_suite()

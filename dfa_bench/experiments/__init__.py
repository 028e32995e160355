"""What a table needs: the schema of its YAML, the plan of its runs, and the engines that do them."""

from dfa_bench.errors import require_suite

require_suite()

"""What a run is: its identity, its record on disk, and the store of all records."""

from dfa_bench.errors import require_suite

require_suite()

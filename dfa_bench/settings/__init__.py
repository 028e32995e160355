"""What a run may be: the typed schema, and its composition from `configs/` by Hydra."""

from dfa_bench.errors import require_suite

require_suite()

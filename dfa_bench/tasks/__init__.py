"""One room per domain of the paper, all with the same doors (see `base.Task`)."""

from dfa_bench.errors import require_suite

require_suite()

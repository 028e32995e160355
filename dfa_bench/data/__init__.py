"""Where data come from: the data folder, the user's cache, the official source, or a labelled stand-in."""

from dfa_bench.errors import require_suite

require_suite()

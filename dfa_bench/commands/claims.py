"""`dfa-bench claims`: check the paper's claims against the recorded runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfa_bench.commands.grammar import table_command
from dfa_bench.experiments.request import EVERYTHING

if TYPE_CHECKING:
    from dfa_bench.experiments.request import Request


@table_command(
    default=EVERYTHING,
    examples="""
    dfa-bench claims
    dfa-bench claims table3 studies/regularisation
    """,
)
def command(request: Request) -> int:
    """Check what the paper concludes from its tables against the recorded runs. Runs nothing.

    Each claim is supported, contradicted (at reduced scale, where runs are not the paper's), undecided, or not tested
    (too few seeds). What a figure shows with a single seed is "seen once".

    \b
    TABLE     3 or table3, ..., all; studies/dna_feedback, ...; or a folder of them (default: all, studies, search)
    OVERRIDE  a Hydra override for all runs: scale=paper, store.root=DIR, data.root=DIR, ...
    """
    from dfa_bench.reporting.results import print_claims

    print_claims(request)
    return 0

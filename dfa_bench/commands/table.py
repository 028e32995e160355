"""`dfa-bench table`: show tables from the recorded runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfa_bench.commands.grammar import table_command

if TYPE_CHECKING:
    from dfa_bench.experiments.request import Request


@table_command(
    examples="""
    dfa-bench table 3
    dfa-bench table all --seeds 3
    """,
)
def command(request: Request) -> int:
    """Show tables from the recorded runs, those in the run store and in DIR/runs.csv. Runs nothing.

    \b
    TABLE     3 or table3, ..., all; studies/dna_feedback, ...; or a folder of them: studies, search, first
    OVERRIDE  a Hydra override for all runs: scale=paper, store.root=DIR, data.root=DIR, ...
    """
    from dfa_bench.reporting.results import print_tables

    print_tables(request)
    return 0

"""`dfa-bench results`: rewrite all tables from the recorded runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfa_bench.commands.grammar import table_command
from dfa_bench.experiments.request import EVERYTHING

if TYPE_CHECKING:
    from dfa_bench.experiments.request import Request


@table_command(
    default=EVERYTHING,
    examples="""
    dfa-bench results
    dfa-bench results table3
    """,
)
def command(request: Request) -> int:
    """Rewrite DIR/TABLE.{md,csv,tex} and DIR/TABLE-claims.md from the recorded runs. Runs nothing.

    README.md and docs/*.md beside DIR quote these files between <!-- from results/table3.md --> and <!-- end -->; the
    quotes are updated too.

    \b
    TABLE     3 or table3, ..., all; studies/dna_feedback, ...; or a folder of them (default: all, studies, search)
    OVERRIDE  a Hydra override for all runs: store.root=DIR, data.root=DIR, ...
    """
    from dfa_bench.reporting.results import write_results

    write_results(request)
    return 0

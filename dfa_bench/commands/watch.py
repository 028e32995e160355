"""`dfa-bench watch`: how far the runs of tables are, whoever does them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dfa_bench.commands.grammar import table_command

if TYPE_CHECKING:
    from dfa_bench.experiments.request import Request


@table_command(
    default=("all",),
    seeds=1,
    examples="""
    dfa-bench watch table3 --seeds 10
    dfa-bench watch all store.root=/shared/runs --once
    """,
)
@click.option("--once", is_flag=True, help="Look once instead of until all runs are done.")
def command(request: Request, once: bool) -> int:
    """Show which runs of tables are done, running, failed, lost and waiting, and how long they will take.

    It reads the run store and DIR/runs.csv, and nothing else: start it in another terminal, or on another machine that
    sees the store, with the same tables and overrides as `dfa-bench reproduce`. A run is lost if nothing was heard from
    its process for a minute; the time left goes by the times recorded for other seeds, and by as many runs at a time
    as there are now.
    """
    from dfa_bench.reporting.reproduction import watch

    return watch(request, once)

"""`dfa-bench collect`: bring finished runs of other machines here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from dfa_bench.commands.grammar import RESULTS, Command, words_argument
from dfa_bench.errors import counted
from dfa_bench.settings.overrides import is_whereabouts, whereabouts


@click.command(
    cls=Command,
    no_args_is_help=True,
    epilog="""
    dfa-bench collect gpu-runs.zip
    dfa-bench collect /mnt/cluster/runs ../other/results/runs.csv store.root=runs
    """,
)
@words_argument("PLACE... [store.root=DIR]")
@RESULTS
def command(words: Sequence[str], results: Path) -> int:
    """Bring finished runs into this run store, and rows into DIR/runs.csv.

    A PLACE is a run store, an archive of `dfa-bench pack`, or the runs.csv of another machine. Every record is checked:
    its checksums, and that its identity is that of its settings and data. It is copied as it is, so that it still says
    when, where and by which commit it was done. Runs that are here already are passed over, so the command can be
    repeated; where numbers differ, both are named, those here stay, and the exit status is 1. `dfa-bench reproduce`
    then writes the tables and their rows.
    """
    from dfa_bench.experiments.collection import collect
    from dfa_bench.runs.ledger import Ledger

    given = [word for word in words if is_whereabouts(word)]
    places = [Path(word) for word in words if word not in given]
    if not places:
        raise click.UsageError("Name a place.")
    found = collect(places, Path(whereabouts(given)[0].root), Ledger(results / "runs.csv"))
    for sentence in (*found.conflicts, *found.refused):
        print(sentence, file=sys.stderr)
    counts = f"{counted(len(found.added), 'run')} added, {found.known} here already"
    print(f"{counts}, {len(found.conflicts)} differ from those here, {len(found.refused)} refused.")
    return 1 if found.conflicts or found.refused else 0

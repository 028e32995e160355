"""`dfa-bench migrate`: give runs recorded by version 0.1 their current identities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dfa_bench.commands.grammar import RESULTS, Command, words_argument


@click.command(
    cls=Command,
    epilog="""
    dfa-bench migrate
    dfa-bench migrate --results elsewhere store.root=/big/disk/runs
    """,
)
@words_argument("[store.root=DIR]", lambda: [])
@RESULTS
def command(words: Sequence[str], results: Path) -> int:
    """Rename the runs in DIR/runs.csv and in the run store that version 0.1 recorded, so that they count as done.

    Version 0.1 hashed where a model's class lies in the source code. Weights, metrics and provenance stay as they are.
    Runs that are not finished keep their old name and start again. Repeating the command does no harm.
    """
    from dfa_bench.runs.ledger import Ledger
    from dfa_bench.runs.migration import migrate_ledger, migrate_store
    from dfa_bench.settings.overrides import whereabouts

    ledger = Ledger(results / "runs.csv")
    print(f"{ledger.path}: {migrate_ledger(ledger)} of {len(ledger.runs)} runs renamed.")
    store = Path(whereabouts(words)[0].root)
    renamed = 0
    for old, new in migrate_store(store):
        renamed += 1
        print(f"{old.name} -> {new.name}")
    print(f"{store}: {renamed} records renamed.")
    return 0

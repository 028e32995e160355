"""`dfa-bench pack`: finished runs as one small file, for `dfa-bench collect` on another machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from dfa_bench.commands.grammar import FILE, Command, words_argument
from dfa_bench.settings.overrides import is_whereabouts, whereabouts


@click.command(
    cls=Command,
    no_args_is_help=True,
    epilog="""
    dfa-bench pack gpu-runs.zip
    dfa-bench pack table1.zip task=view_synthesis scale=paper store.root=/scratch/runs
    """,
)
@click.argument("archive", type=FILE)
@words_argument("[FILTER]... [store.root=DIR]")
@click.option("--weights", is_flag=True, help="Include model.pt, the tested weights; without it a run takes a few kB.")
def command(archive: Path, words: Sequence[str], weights: bool) -> int:
    """Write the finished records of the run store into ARCHIVE, a zip file: settings, curves and results.

    \b
    FILTER  as of `dfa-bench runs`: KEY=PATTERN,... or METRIC>NUMBER
    """
    from dfa_bench.commands.runs import parse
    from dfa_bench.errors import ConfigError, counted
    from dfa_bench.experiments.collection import pack
    from dfa_bench.runs.listing import read_store
    from dfa_bench.runs.record import Record

    given = [word for word in words if is_whereabouts(word)]
    passes = parse([word for word in words if word not in given])
    store = read_store(Path(whereabouts(given)[0].root))
    chosen = [key for key, run in store.runs.items() if all(check(run) for check in passes)]
    for problem in store.problems:
        print(problem, file=sys.stderr)
    if not chosen:
        raise ConfigError("There is no finished record that matches. `dfa-bench runs` lists what there is.")
    number = pack((Record(store.folders[key]) for key in sorted(chosen)), archive, weights)
    size = f"{archive.stat().st_size / 1000:.0f} kB"
    print(f"{archive}: {counted(number, 'run')}, {size}. `dfa-bench collect` brings them elsewhere.")
    return 0

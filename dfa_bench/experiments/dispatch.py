"""Runs through an engine: what is lost is done again, what fails is told, and neither stops the others."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from dfa_bench.errors import counted
from dfa_bench.experiments.engines import Engine, build_engine
from dfa_bench.experiments.plan import PlannedRun, readable_result
from dfa_bench.experiments.progress import Board, Watched
from dfa_bench.experiments.schema import Cell
from dfa_bench.settings.schema import RunSettings
from dfa_bench.training.execute import run_identity

WAIT = 1.0  # seconds between looks at progress


@dataclass(frozen=True)
class Failure:
    command: str
    reason: str

    def __str__(self) -> str:
        return f"Failed: {self.command}\n    {self.reason}"


def planned_alone(settings: RunSettings, overrides: Sequence[str]) -> PlannedRun:
    """A run of no table, by the overrides that it was composed from.

    Raises:
        MissingData, CorruptData: see `dfa_bench.data.resolve.find`.
    """
    chosen = tuple(each for each in overrides if not each.startswith("seed="))
    cell = Cell(settings.dataset.name, settings.model.name, settings.rule.name, settings.variant, chosen, 1.0)
    return PlannedRun(cell, chosen, settings, run_identity(settings)[0], changed=True)


def do_alone(runs: Sequence[PlannedRun], engine: Any, retry: int) -> list[Failure]:
    """Do those of some runs that are not done, through an engine made for them, and show progress.

    Args:
        runs: of one store, of no table.
        engine: its settings.
        retry: see `do_all`.
    """
    todo = {run.identity: run for run in runs if run.settings.force or readable_result(run) is None}
    if not todo:
        return []
    with Board(Watched([[*todo.values()]], {*todo}, {}), Console()) as board:
        built = build_engine(engine, [run.settings for run in todo.values()])
        print(f"{len(todo)} of {counted(len(runs), 'run')} to do, {built.says}.", flush=True)
        return do_all([*todo.values()], built, board, retry, None)


def do_all(
    todo: Sequence[PlannedRun], engine: Engine, board: Board, retry: int, max_failures: int | None
) -> list[Failure]:
    """Do runs, the first first; returns those that failed.

    Args:
        todo: each once.
        engine: is closed at the end, whatever that is.
        board: shows progress.
        retry: how often a run is started again whose process was killed, whose node failed or whose job vanished.
        max_failures: so many failed runs end the others; None: none do.
    """
    runs = {run.identity: run for run in todo}
    lost = Counter[str]()
    failures: list[Failure] = []
    try:
        engine.submit({identity: run.settings for identity, run in runs.items()})
        while runs:
            for identity, report in engine.finished(WAIT).items():
                lost[identity] += report.status == "lost"
                if report.status == "preempted" or (report.status == "lost" and lost[identity] <= retry):
                    engine.submit({identity: runs[identity].settings})
                    continue
                run = runs.pop(identity)
                if report.status != "done":
                    tries = f", {lost[identity]} times" if lost[identity] > 1 else ""
                    failures.append(Failure(run.command, f"{report.reason}{tries}"))
            board.update(at_once=not runs)
            if max_failures is not None and len(failures) >= max_failures and runs:
                left = "1 is" if len(runs) == 1 else f"{len(runs)} are"
                print(f"{counted(len(failures), 'run')} failed: the other {left} not done.", file=sys.stderr)
                break
    finally:
        engine.close()
    return failures

"""Runs through an engine: what is lost is done again, what fails is told, and neither stops the others."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dfa_bench.experiments.engines import Engine
from dfa_bench.experiments.plan import PlannedRun
from dfa_bench.experiments.progress import Board

WAIT = 1.0  # seconds between looks at progress


@dataclass(frozen=True)
class Failure:
    command: str
    reason: str


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
                print(f"{len(failures)} runs failed: the other {len(runs)} are not done.", file=sys.stderr)
                break
    finally:
        engine.close()
    return failures

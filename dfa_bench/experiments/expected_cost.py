"""What runs that are not done yet are expected to cost, by the recorded time of others."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dfa_bench.errors import counted
from dfa_bench.experiments.plan import PlannedRun
from dfa_bench.experiments.schema import Cell


@dataclass(frozen=True)
class ExpectedCost:
    """Expected seconds of one run, if anything is known, and the basis of the estimate."""

    seconds: float | None
    source: str

    def __str__(self) -> str:
        return f"about {time_text(self.seconds)}, {self.source}" if self.seconds is not None else self.source


def expected_seconds(
    planned: Sequence[PlannedRun], todo: Sequence[PlannedRun], seconds: Mapping[str, float]
) -> list[ExpectedCost]:
    """The mean recorded time of the same cell's other seeds; else its relative cost, in the time of the table's others.

    Args:
        planned: runs of one table, with the seeds that may be recorded.
        todo: those of them whose cost is wanted.
        seconds: what recorded runs took, by identity.
    """
    recorded: dict[Cell, list[float]] = {}
    for run in planned:
        if (known := seconds.get(run.identity)) is not None:
            recorded.setdefault(run.cell, []).append(known)
    of_one = [statistics.fmean(times) / cell.cost for cell, times in recorded.items()]

    def cost(cell: Cell) -> ExpectedCost:
        if times := recorded.get(cell):
            return ExpectedCost(statistics.fmean(times), f"as recorded for {counted(len(times), 'other seed')}")
        if of_one:
            return ExpectedCost(statistics.median(of_one) * cell.cost, "from its relative cost in the table")
        return ExpectedCost(None, f"no recorded time to go by (relative cost {cell.cost:g})")

    return [cost(run.cell) for run in todo]


def time_text(seconds: float) -> str:
    """ "42 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

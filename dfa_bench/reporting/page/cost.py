"""What a training step costs with each rule: medians over the runs of each cell."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from dfa_bench.reporting.tables import Run, Table


@dataclass(frozen=True)
class Cost:
    """Of one rule at one place."""

    runs: int
    step: float  # milliseconds, median over runs
    memory: float | None  # MiB, highest use of the process, median over the runs that have it


@dataclass(frozen=True)
class CostLine:
    """One place of a table."""

    place: str
    by_rule: dict[str, Cost]
    devices: Sequence[str]

    def ratio(self, rule: str, reference: str, what: str) -> float | None:
        """A rule's time ("step") or memory over that of another; None where one of them is missing."""
        if rule not in self.by_rule or reference not in self.by_rule:
            return None
        ours, theirs = (getattr(self.by_rule[each], what) for each in (rule, reference))
        return float(ours / theirs) if theirs and ours is not None else None


def cost_lines(table: Table) -> list[CostLine]:
    """The places of a table that have runs with a known cost."""
    places: dict[str, dict[str, list[Run]]] = {}
    for cell, runs in table.runs.items():
        timed = [run for run in runs if math.isfinite(run.step_seconds)]
        if timed:
            place = f"{cell.row}, {table.experiment.column_text(cell.column, cell.variant)}"
            places.setdefault(place, {})[cell.rule] = timed
    return [
        CostLine(
            place,
            {rule: _cost(runs) for rule, runs in by_rule.items()},
            sorted({machine(run) for runs in by_rule.values() for run in runs}),
        )
        for place, by_rule in places.items()
    ]


def machine(run: Run) -> str:
    return f"{run.device}, {run.threads} thread{'s' if run.threads > 1 else ''}"


def _cost(runs: Sequence[Run]) -> Cost:
    measured = [run.peak_memory_mib for run in runs if math.isfinite(run.peak_memory_mib)]
    return Cost(
        len(runs),
        1000 * statistics.median(run.step_seconds for run in runs),
        statistics.median(measured) if measured else None,
    )

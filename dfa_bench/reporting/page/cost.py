"""What a training step costs with BP and with DFA: medians over the runs of each cell."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from dfa_bench.experiments.schema import Rule
from dfa_bench.reporting.tables import Table
from dfa_bench.runs.summary import RunSummary


@dataclass(frozen=True)
class StepCost:
    """Of one rule at one place."""

    runs: int
    step: float  # milliseconds, median over runs
    memory: float | None  # MiB, highest use of the process, median over the runs that have it


@dataclass(frozen=True)
class CostLine:
    """One place of a table."""

    place: str
    by_rule: dict[Rule, StepCost]
    devices: Sequence[str]

    def ratio(self, what: str) -> float | None:
        """DFA's time ("step") or memory over BP's; None where one of them is missing."""
        if "bp" not in self.by_rule or "dfa" not in self.by_rule:
            return None
        bp, dfa = (getattr(self.by_rule[rule], what) for rule in ("bp", "dfa"))
        return float(dfa / bp) if bp and dfa is not None else None


def cost_lines(table: Table) -> list[CostLine]:
    """The places of a table that have runs with a known cost."""
    places: dict[str, dict[Rule, list[RunSummary]]] = {}
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


def machine(run: RunSummary) -> str:
    return f"{run.device}, {run.threads} thread{'s' if run.threads > 1 else ''}"


def _cost(runs: Sequence[RunSummary]) -> StepCost:
    measured = [run.peak_memory_mib for run in runs if run.peak_memory_mib is not None]
    return StepCost(
        len(runs),
        1000 * statistics.median(run.step_seconds for run in runs),
        statistics.median(measured) if measured else None,
    )

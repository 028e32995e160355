"""What a training step costs with BP and with DFA: medians over the runs of each cell."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from dfa_bench.experiments.schema import Rule
from dfa_bench.reporting.grid import Grid, cells
from dfa_bench.reporting.tables import RULE_NAMES, Table
from dfa_bench.runs.summary import RunSummary

COMPARED: tuple[Rule, Rule] = ("bp", "dfa")
HEADS = ["place", "BP, ms", "DFA, ms", "DFA / BP", "BP, MiB", "DFA, MiB", "DFA / BP", "runs", "machine"]


def cost_grid(table: Table, name: str) -> Grid | None:
    """A line for each place of a table; None where no run has a known cost."""
    places: dict[str, dict[Rule, list[RunSummary]]] = {}
    for cell, runs in table.runs.items():
        if timed := [run for run in runs if math.isfinite(run.step_seconds)]:
            place = f"{cell.row}, {table.experiment.column_text(cell.column, cell.variant)}"
            places.setdefault(place, {})[cell.rule] = timed
    rows = [
        cells(
            place,
            *_texts({rule: _milliseconds(runs) for rule, runs in by_rule.items()}, digits=1),
            *_texts({rule: _memory(runs) for rule, runs in by_rule.items()}, digits=0),
            ", ".join(f"{RULE_NAMES[rule]} {len(by_rule[rule])}" for rule in COMPARED if rule in by_rule),
            "; ".join(sorted({machine(run) for runs in by_rule.values() for run in runs})),
        )
        for place, by_rule in places.items()
    ]
    return Grid(HEADS, rows, f"{name}: time per training step and peak memory", numbers=range(1, 7)) if rows else None


def machine(run: RunSummary) -> str:
    return f"{run.device}, {run.threads} thread{'s' if run.threads > 1 else ''}"


def _milliseconds(runs: Sequence[RunSummary]) -> float:
    return 1000 * statistics.median(run.step_seconds for run in runs)


def _memory(runs: Sequence[RunSummary]) -> float | None:
    """MiB, the highest use of the process; None where it was not measured."""
    measured = [run.peak_memory_mib for run in runs if run.peak_memory_mib is not None]
    return statistics.median(measured) if measured else None


def _texts(medians: Mapping[Rule, float | None], digits: int) -> Iterator[str]:
    """BP's, DFA's, and DFA's over BP's; empty where there is none."""
    bp, dfa = (medians.get(rule) for rule in COMPARED)
    for value in (bp, dfa):
        yield "" if value is None else f"{value:.{digits}f}"
    yield f"{dfa / bp:.2f}" if bp and dfa is not None else ""

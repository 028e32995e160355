"""What a training step costs with each rule: medians over the runs of each cell."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from dfa_bench.errors import counted
from dfa_bench.reporting.grid import Grid, cells
from dfa_bench.reporting.tables import Table
from dfa_bench.runs.summary import RunSummary
from dfa_bench.settings.rules import compared_pairs, rules


def cost_grid(table: Table, name: str) -> Grid | None:
    """A line for each place of a table; None where no run has a known cost."""
    places: dict[str, dict[str, list[RunSummary]]] = {}
    for cell, runs in table.runs.items():
        if timed := [run for run in runs if math.isfinite(run.step_seconds)]:
            place = f"{cell.row}, {table.experiment.column_text(cell.column, cell.variant)}"
            places.setdefault(place, {})[cell.rule] = timed
    pairs = compared_pairs(table.experiment.rules)
    costed = list(dict.fromkeys([*(other for _, other in pairs), *(rule for rule, _ in pairs)]))
    rows = [
        cells(
            place,
            *_texts({rule: _milliseconds(runs) for rule, runs in by_rule.items()}, costed, pairs, digits=1),
            *_texts({rule: _memory(runs) for rule, runs in by_rule.items()}, costed, pairs, digits=0),
            ", ".join(f"{rules()[rule].label} {len(by_rule[rule])}" for rule in costed if rule in by_rule),
            "; ".join(sorted({machine(run) for runs in by_rule.values() for run in runs})),
        )
        for place, by_rule in places.items()
    ]
    heads = ["place", *_heads("ms", costed, pairs), *_heads("MiB", costed, pairs), "runs", "machine"]
    title = f"{name}: time per training step and peak memory"
    return Grid(heads, rows, title, numbers=range(1, len(heads) - 2)) if rows else None


def _heads(unit: str, costed: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    label = {rule: rules()[rule].label for rule in costed}
    return [
        *(f"{label[rule]}, {unit}" for rule in costed),
        *(f"{label[rule]} / {label[other]}" for rule, other in pairs),
    ]


def machine(run: RunSummary) -> str:
    return f"{run.device}, {counted(run.threads, 'thread')}"


def _milliseconds(runs: Sequence[RunSummary]) -> float:
    return 1000 * statistics.median(run.step_seconds for run in runs)


def _memory(runs: Sequence[RunSummary]) -> float | None:
    """MiB, the highest use of the process; None where it was not measured."""
    measured = [run.peak_memory_mib for run in runs if run.peak_memory_mib is not None]
    return statistics.median(measured) if measured else None


def _texts(
    medians: Mapping[str, float | None], costed: Sequence[str], pairs: Sequence[tuple[str, str]], digits: int
) -> Iterator[str]:
    """Each rule's, then each rule's over that of the one it is compared with; empty where there is none."""
    for rule in costed:
        value = medians.get(rule)
        yield "" if value is None else f"{value:.{digits}f}"
    for rule, other in pairs:
        ours, theirs = medians.get(rule), medians.get(other)
        yield f"{ours / theirs:.2f}" if theirs and ours is not None else ""

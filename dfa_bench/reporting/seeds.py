"""Where the paper's single numbers lie among our seeds: is a difference more than a good seed?"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from dfa_bench.errors import counted
from dfa_bench.reporting.grid import Grid, GridCell, cells
from dfa_bench.reporting.tables import Head, Table
from dfa_bench.settings.rules import rules

FEWEST = 3  # seeds that make a range
HEADS = ["paper", "lowest seed", "mean", "highest seed", "reach it", "paper − mean, in std", "the paper is"]


@dataclass(frozen=True)
class PaperAmongSeeds:
    """One number of the paper among the seeds of its cell."""

    place: tuple[str, str, str]  # row, column, rule as shown
    paper: float
    values: Sequence[float]  # one per seed
    digits: int

    @property
    def difference(self) -> float:
        """The paper's number minus our mean."""
        return self.paper - statistics.fmean(self.values)

    @property
    def deviations(self) -> float | None:
        """The difference in standard deviations of our seeds; None where they have no spread."""
        spread = statistics.stdev(self.values)
        return self.difference / spread if spread else None

    @property
    def side(self) -> str:
        if self.paper > max(self.values):
            return "above all seeds"
        return "below all seeds" if self.paper < min(self.values) else "among the seeds"

    def line(self) -> list[GridCell]:
        low, mean, high = min(self.values), statistics.fmean(self.values), max(self.values)
        numbers = [f"{value:.{self.digits}f}" for value in (self.paper, low, mean, high)]
        away = "" if self.deviations is None else f"{self.deviations:+.1f}"
        reached = f"{sum(value >= self.paper for value in self.values)} of {len(self.values)}"
        return cells(*self.place, *numbers, reached, away, self.side)


def among_seeds(table: Table) -> list[PaperAmongSeeds]:
    """The numbers of a table of the paper that runs of its own protocol can be compared with, each once."""
    seen: set[tuple[str, ...]] = set()
    found: list[PaperAmongSeeds] = []
    if table.experiment.kind != "paper":  # its numbers only accompany a study
        return found
    for (cell, metric), entry in table.entries.items():
        runs = (metric, *sorted(run.identity for run in table.runs.get(cell, ())))  # BP's are alike in both variants
        if (
            cell not in table.runs
            or entry.paper is None
            or entry.protocol != "paper"
            or len(entry.values) < FEWEST
            or runs in seen
        ):
            continue
        seen.add(runs)
        column = table.head_text(Head(cell.column, cell.variant, metric))
        place = (cell.row, column, rules()[cell.rule].label)
        found.append(PaperAmongSeeds(place, entry.paper, entry.values, table.experiment.metrics[metric].digits))
    return found


def among_seeds_grid(found: Sequence[PaperAmongSeeds]) -> Grid:
    sides = [each.side for each in found]
    labels = [entry.label for entry in rules().values()]
    by_rule = {label: [each for each in found if each.place[2] == label] for label in labels}
    count = (
        f"Of {counted(len(found), 'comparison')} {sides.count('among the seeds')} find the paper among our seeds, "
        f"{sides.count('above all seeds')} above all of them and {sides.count('below all seeds')} below. "
        + " ".join(_lean(rule, those) for rule, those in by_rule.items() if those)
    )
    return Grid(
        heads=["", "", "", *HEADS],
        rows=[each.line() for each in found],
        notes=[count.strip(), f"Cells with fewer than {FEWEST} seeds are left out."],
        numbers=range(3, 9),
    )


def _lean(rule: str, found: Sequence[PaperAmongSeeds]) -> str:
    """Good seeds would show as numbers of the paper that lie above our means more often than below."""
    above = sum(each.difference > 0 for each in found)
    away = [each.deviations for each in found if each.deviations is not None]
    return f"{rule}: above our mean in {above} of {len(found)}, by {statistics.median(away):+.1f} std in the median."

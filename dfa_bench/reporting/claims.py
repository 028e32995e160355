"""What the paper concludes from a table, checked over records with paired seeds.

A claim says that in each of some cells one side is higher than the other by more than a margin. The difference is
taken seed by seed; its two-sided t interval, widened for the number of cells (Bonferroni), decides.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.markup import escape
from rich.table import Table as RichTable
from scipy import stats

from dfa_bench.reporting.experiment import Cell, Claim, Experiment, Term
from dfa_bench.reporting.tables import Table

Verdict = Literal["supported", "not supported", "undecided", "not tested"]
CONFIDENCE = 0.95  # of all cells of a claim together
COLOURS: dict[Verdict, str] = {"supported": "green", "not supported": "red", "undecided": "yellow", "not tested": "dim"}


@dataclass(frozen=True)
class Evidence:
    """One cell of a claim."""

    place: str
    seeds: int  # that both sides have
    difference: float  # mean over seeds, in the table's unit
    low: float  # of the interval
    high: float
    verdict: Verdict


@dataclass(frozen=True)
class Checked:
    """A claim with its verdict."""

    claim: Claim
    verdict: Verdict
    evidence: Sequence[Evidence]

    def summary(self) -> str:
        """The cell that decides and how many agree, in one line."""
        tested = [each for each in self.evidence if each.verdict != "not tested"]
        if not tested:
            return f"no cell has {self.claim.min_seeds} seeds of both sides"
        count = sum(each.verdict == "supported" for each in tested)
        agree = f"{count} of {len(tested)} cells, {_range([each.seeds for each in tested])} seeds"
        untested = len(self.evidence) - len(tested)
        worst = min(tested, key=lambda each: each.low)
        least = f"{worst.place} {worst.difference:+.3g} [{worst.low:+.3g}, {worst.high:+.3g}]"
        rest = f", {untested} not tested" if untested else ""
        return f"{agree}{rest}; least: {least}; claimed: more than {self.claim.by:+.3g}"


def check(table: Table) -> list[Checked]:
    """All claims of a table over its runs. A stand-in tests nothing."""
    return [_check(claim, table) for claim in table.experiment.claims]


def _check(claim: Claim, table: Table) -> Checked:
    values = {} if table.stand_in else _values(table, claim.metric)
    places = _places(claim, table.experiment)
    level = 1 - (1 - CONFIDENCE) / len(places)
    evidence = [_weigh(claim, place, values, level, table.experiment) for place in places]
    verdicts = {each.verdict for each in evidence}
    tested = verdicts - {"not tested"}
    verdict: Verdict
    if "not supported" in verdicts:
        verdict = "not supported"
    elif not tested:
        verdict = "not tested"
    else:
        verdict = "supported" if tested == {"supported"} else "undecided"
    return Checked(claim, verdict, evidence)


def _weigh(
    claim: Claim,
    place: Cell,
    values: Mapping[tuple[str, ...], Mapping[int, float]],
    level: float,
    experiment: Experiment,
) -> Evidence:
    higher, lower = (_side(terms, place, values, experiment) for terms in (claim.higher, claim.lower))
    seeds = sorted(set(higher) & set(lower))
    where = f"{place.row}/{place.column}" + (f" ({place.variant})" if place.variant != "released" else "")
    if len(seeds) < claim.min_seeds:
        return Evidence(where, len(seeds), math.nan, math.nan, math.nan, "not tested")
    differences = [higher[seed] - lower[seed] for seed in seeds]
    low, high = interval(differences, level)
    verdict: Verdict = "supported" if low > claim.by else "not supported" if high < claim.by else "undecided"
    return Evidence(where, len(seeds), statistics.fmean(differences), low, high, verdict)


def _side(
    terms: Sequence[Term], place: Cell, values: Mapping[tuple[str, ...], Mapping[int, float]], experiment: Experiment
) -> dict[int, float]:
    """Seed to the mean over the terms of one side; a column that lacks the place's variant is taken with its first."""
    found = []
    for term in terms:
        column = term.column or place.column
        variants = experiment.columns[column].variants
        variant = place.variant if place.variant in variants else variants[0]
        found.append(values.get((place.row, column, variant, term.rule), {}))
    common = set.intersection(*(set(each) for each in found))
    return {seed: statistics.fmean(each[seed] for each in found) for seed in common}


def interval(values: Sequence[float], level: float) -> tuple[float, float]:
    """Two-sided t interval of a mean of at least two values."""
    mean, spread = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * spread
    return mean - half, mean + half


def _values(table: Table, metric: str) -> dict[tuple[str, ...], dict[int, float]]:
    """(row, column, variant, rule) to seed to value, in the table's unit."""
    shown = table.experiment.metrics[metric]
    return {(cell.row, cell.column, cell.variant, cell.rule): table.by_seed(cell, shown) for cell in table.runs}


def _places(claim: Claim, experiment: Experiment) -> list[Cell]:
    """The cells that a claim is about, one for all rules."""
    places = {
        (cell.row, cell.column, cell.variant): cell
        for cell in experiment.cells()
        if (not claim.rows or cell.row in claim.rows) and (not claim.columns or cell.column in claim.columns)
    }
    return list(places.values())


def rich(checked: Sequence[Checked]) -> RichTable:
    out = RichTable(title="What the paper concludes, over our runs", show_lines=True)
    out.add_column("claim", overflow="fold")
    out.add_column("verdict")
    out.add_column("evidence (95% t intervals over paired seeds, Bonferroni over cells)", overflow="fold")
    for each in checked:
        colour = COLOURS[each.verdict]
        out.add_row(
            f"[bold]{each.claim.id}[/bold]\n{escape(each.claim.says)}",
            f"[{colour}]{each.verdict}[/{colour}]",
            escape(each.summary()),
        )
    return out


def markdown(checked: Sequence[Checked]) -> str:
    out = ["| claim | verdict | evidence |", "| --- | --- | --- |"]
    out += [f"| `{each.claim.id}`: {each.claim.says} | **{each.verdict}** | {each.summary()} |" for each in checked]
    out += ["", "95% t intervals over paired seeds, Bonferroni over the cells of a claim."]
    return "\n".join(out) + "\n"


def _range(counts: Sequence[int]) -> str:
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"

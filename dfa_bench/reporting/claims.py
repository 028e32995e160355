"""What the paper concludes from a table, checked over records with paired seeds.

A claim says that in each of some places one side is higher than the other by more than a margin. Differences are taken
seed by seed. A claim that has to hold everywhere is an intersection-union test (Berger 1982): it is supported if each
place is at 5%, without correction. One place is enough to contradict it, so that is tested at 5% over the number of
places (Bonferroni). docs/evidence.md gives the reasons.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from dfa_bench.experiments.schema import Cell, Claim, Experiment, Metric, Quoted, Term, Variant
from dfa_bench.reporting.grid import Grid, GridCell
from dfa_bench.reporting.tables import Table
from dfa_bench.runs.summary import RunSummary
from dfa_bench.settings.rules import rules

Verdict = Literal["supported", "seen once", "contradicted", "contradicted at reduced scale", "undecided", "not tested"]
AGREES: tuple[Verdict, ...] = ("supported", "seen once")
CONTRADICTS: tuple[Verdict, ...] = ("contradicted", "contradicted at reduced scale")
ERROR = 0.05  # probability of a wrong "supported", and of a wrong "contradicted", of a claim
POWER = 0.8  # probability with which the seeds that are said to decide do so
MOST_SEEDS = 100  # with more, their number is not worked out
NOTE = (
    "[a, b]: one-sided t bounds of the mean over paired seeds. Supported: in every place a, at 5%, is above what is "
    "claimed. Contradicted: in some place b, at 5% over the number of places (Bonferroni), is below it. The seeds that "
    "would decide do so with a probability of 80%, if mean and spread stay as they are (noncentral t)."
)


class CellKey(NamedTuple):
    """A cell, without what its runs need."""

    row: str
    column: str
    variant: Variant
    rule: str


class CellMean(NamedTuple):
    """A part of a side that our runs give: a cell, or the mean over several."""

    cells: tuple[Cell, ...]
    metric: str


@dataclass(frozen=True)
class Place:
    """One place of a claim, and what stands there on either side."""

    name: str
    higher: tuple[CellMean | Quoted, ...]
    lower: tuple[CellMean | Quoted, ...]


@dataclass(frozen=True)
class Evidence:
    """What our runs say about one place of a claim."""

    place: str
    seeds: int  # that both sides have
    difference: float  # mean over seeds in the table's unit, or their ratio
    low: float  # bound that decides about support
    high: float  # bound that decides about contradiction
    verdict: Verdict
    reason: str = ""  # why it is not tested
    lost: int = 0  # seeds that one of the sides has no number for, since its run diverged or is NaN
    would_decide: float | None = None  # seeds in all; infinite if more than MOST_SEEDS; None if more do not help


class Stated(Protocol):
    """What a verdict is about: a Claim over a table, or a reading of a figure."""

    @property
    def id(self) -> str: ...

    @property
    def says(self) -> str: ...

    @property
    def of(self) -> str: ...

    @property
    def by(self) -> float: ...

    @property
    def ratio(self) -> float | None: ...


@dataclass(frozen=True)
class Checked:
    """A claim with its verdict."""

    claim: Stated
    verdict: Verdict
    evidence: Sequence[Evidence]
    protocol: str = ""  # of all runs that it is about, "paper and reduced" if they differ

    def summary(self) -> str:
        """The place that decides and how many agree, in one line."""
        tested = [each for each in self.evidence if each.verdict != "not tested"]
        if not tested:
            return "; ".join(dict.fromkeys(each.reason for each in self.evidence)) or "the table has no such place"
        count = sum(each.verdict in AGREES for each in tested)
        agree = f"{count} of {len(tested)} places, {_seeds([each.seeds for each in tested])}"
        untested = len(self.evidence) - len(tested)
        decisive = [each for each in tested if each.verdict == self.verdict] or tested
        worst = min(decisive, key=lambda each: each.high if self.verdict in CONTRADICTS else each.low)
        rest = f", {untested} not tested" if untested else ""
        lost = max(each.lost for each in tested)
        rest += f", up to {lost} seeds of a place diverged or NaN" if lost else ""
        text = f"{agree}{rest}; least: {self.measured(worst)}; claimed: more than {self.margin_text}"
        return f"{text}; {self.outlook}" if self.outlook else text

    @property
    def outlook(self) -> str:
        """How many seeds would decide; "" if it is decided, or if that cannot be said."""
        if self.verdict != "undecided" or (seeds := self._would_decide()) is None:
            return ""
        count = f"about {seeds:.0f}" if seeds < math.inf else f"more than {MOST_SEEDS}"
        return f"{count} seeds would decide"

    def _would_decide(self) -> float | None:
        """One place that falls short decides. If none does, all of them have to be decided."""
        open_places = [each for each in self.evidence if each.verdict == "undecided"]
        short = [each.would_decide for each in open_places if each.difference <= self.margin]
        needed = short or [each.would_decide for each in open_places]
        known = [each for each in needed if each is not None]
        if not known or (not short and len(known) < len(needed)):
            return None
        return min(known) if short else max(known)

    @property
    def margin_text(self) -> str:
        return self._text(self.margin)

    @property
    def margin(self) -> float:
        """What the difference or the ratio has to exceed."""
        return self.claim.by if self.claim.ratio is None else self.claim.ratio

    def measured(self, evidence: Evidence) -> str:
        """A place with its difference and, with several seeds, its bounds."""
        bounds = f" [{self._text(evidence.low)}, {self._text(evidence.high)}]" if evidence.seeds > 1 else ""
        return f"{evidence.place} {self._text(evidence.difference)}{bounds}"

    def _text(self, value: float) -> str:
        return f"{value:+.3g}" if self.claim.ratio is None else f"× {value:.3g}"


def check(table: Table) -> list[Checked]:
    """All claims of a table over its runs. A stand-in tests nothing."""
    return [_check(claim, table) for claim in table.experiment.claims]


def _check(claim: Claim, table: Table) -> Checked:
    found = places(claim, table.experiment)
    protocols = {run.protocol for place in found for run, _ in _runs(place, table)}
    contradicted = contradiction(protocols)
    evidence = [_weigh(claim, each, table, len(found), contradicted) for each in found]
    verdicts = {each.verdict for each in evidence}
    tested = verdicts - {"not tested"}
    verdict: Verdict
    if contradicted in verdicts:
        verdict = contradicted
    elif not tested:
        verdict = "not tested"
    else:
        verdict = "supported" if tested == {"supported"} else "undecided"
    return Checked(claim, verdict, evidence, " and ".join(sorted(protocols)))


def contradiction(protocols: Collection[str]) -> Verdict:
    """What runs of these protocols can say against the paper: it did not do those of a reduced one."""
    return "contradicted" if set(protocols) == {"paper"} else "contradicted at reduced scale"


def _weigh(claim: Claim, place: Place, table: Table, number_of_places: int, contradicted: Verdict) -> Evidence:
    higher, lower = (_side(parts, table) for parts in (place.higher, place.lower))
    pairs = [(higher[seed], lower[seed]) for seed in sorted(set(higher) & set(lower))]
    if claim.ratio is not None:
        pairs = [pair for pair in pairs if min(pair) > 0]  # others have no ratio
    if reason := _why_not(claim, place, table, len(pairs)):
        return Evidence(place.name, len(pairs), math.nan, math.nan, math.nan, "not tested", reason)
    if claim.ratio is None:
        differences, margin = [above - below for above, below in pairs], claim.by
    else:
        differences, margin = [math.log(above / below) for above, below in pairs], math.log(claim.ratio)
    low, high = bounds(differences, number_of_places)
    verdict: Verdict = "supported" if low > margin else contradicted if high < margin else "undecided"
    lost = len({run.seed for run, metric in _runs(place, table) if run.value(metric.key) is None})
    needed = seeds_to_decide(differences, margin, number_of_places) if verdict == "undecided" else None
    if lost and statistics.fmean(differences) > margin:
        verdict, needed = "undecided", None  # those that are left may be the lucky ones
    shown = statistics.fmean(differences), low, high
    mean, low, high = shown if claim.ratio is None else map(_exp, shown)
    return Evidence(place.name, len(pairs), mean, low, high, verdict, lost=lost, would_decide=needed)


def _runs(place: Place, table: Table) -> Iterator[tuple[RunSummary, Metric]]:
    """All runs of both sides, and the metric that counts."""
    for part in (*place.higher, *place.lower):
        if isinstance(part, CellMean):
            for cell in part.cells:
                for run in table.runs.get(cell, []):
                    yield run, table.experiment.metrics[part.metric]


def _why_not(claim: Claim, place: Place, table: Table, seeds: int) -> str:
    """Why there can be no verdict; "" if there can."""
    if table.stand_in:
        return "stand-in data"
    if table.changed:
        return "settings of your own: the claim is about another experiment"
    if seeds < claim.min_seeds:
        return f"fewer than {claim.min_seeds} seeds of both sides"
    parts = (*place.higher, *place.lower)
    quoted = any(isinstance(part, Quoted) for part in parts)
    if quoted and any(run.protocol != "paper" for run, _ in _runs(place, table)):
        return "a number that the paper quotes is a reference only for runs of a reduced protocol"
    cells = [cell for part in parts if isinstance(part, CellMean) for cell in part.cells]
    if mixed := next((cell for cell in cells if table.is_mixed(cell)), None):
        return f"seeds of {table.cell_text(mixed)} differ in protocol or scale"
    return ""


def _side(parts: Sequence[CellMean | Quoted], table: Table) -> Mapping[int, float]:
    """Seed to the mean over the parts of one side. A quoted number is the same for all seeds that others have."""
    quoted = [part.value for part in parts if isinstance(part, Quoted)]
    metrics = table.experiment.metrics
    found = [table.mean_by_seed(part.cells, metrics[part.metric]) for part in parts if isinstance(part, CellMean)]
    seeds = set.intersection(*map(set, found)) if found else {run.seed for runs in table.runs.values() for run in runs}
    return {seed: statistics.fmean([*(each[seed] for each in found), *quoted]) for seed in seeds}


def places(claim: Claim, experiment: Experiment) -> list[Place]:
    """The places that a claim is about, for all rules at once; those where its sides have cells, each once."""
    cells: dict[CellKey, tuple[Cell, ...]] = {_key(cell): (cell,) for cell in experiment.cells()}
    keys = list(cells)
    for mean, parts in experiment.means():
        cells[_key(mean)] = tuple(parts)
        if mean.column in claim.columns:
            keys.append(_key(mean))
    found: dict[object, Place] = {}
    for key in keys:
        if not claim.is_about(key.row, key.column, key.variant):
            continue
        higher, lower = (
            tuple(_part(term, claim, key, experiment, cells) for term in side) for side in (claim.higher, claim.lower)
        )
        if all(isinstance(part, Quoted) or part.cells for part in (*higher, *lower)):
            found.setdefault((higher, lower), Place(_place_text(claim, key), higher, lower))
    return list(found.values())


def _part(
    term: Term | Quoted, claim: Claim, key: CellKey, experiment: Experiment, cells: Mapping[CellKey, tuple[Cell, ...]]
) -> CellMean | Quoted:
    """What a term means at a place. A column that lacks the place's variant is taken with its first."""
    if isinstance(term, Quoted):
        return term
    column = term.column or key.column
    variants = experiment.columns[column].variants
    variant = key.variant if key.variant in variants else variants[0]
    return CellMean(
        cells.get(CellKey(term.row or key.row, column, variant, term.rule), ()), term.metric or claim.metric
    )


def _key(cell: Cell) -> CellKey:
    return CellKey(cell.row, cell.column, cell.variant, cell.rule)


def _place_text(claim: Claim, key: CellKey) -> str:
    """What the sides take from the place; where they name all of it themselves, both sides."""
    names = [key.row] if any(term.row is None for term in claim.terms) else []
    names += [key.column] if any(term.column is None for term in claim.terms) else []
    text = "/".join(names) or " against ".join(
        " and ".join(_term_text(term) for term in side) for side in (claim.higher, claim.lower)
    )
    return text + (f" ({key.variant})" if key.variant != "released" else "")


def _term_text(term: Term | Quoted) -> str:
    if isinstance(term, Quoted):
        return f"{term.says} ({term.value:g})"
    return f"{rules()[term.rule].label} {'/'.join(name for name in (term.row, term.column) if name)}".strip()


def _exp(value: float) -> float:
    """Of the logarithm of a ratio, whose interval over few seeds may be wider than any number."""
    return math.exp(value) if value < 700 else math.inf


def bounds(differences: Sequence[float], number_of_places: int) -> tuple[float, float]:
    """One-sided t bounds of the mean: the lower at ERROR, the upper at ERROR over the number of places."""
    from scipy.special import stdtrit  # as scipy.stats.t does, which takes three times as long to import

    mean, error = statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
    below, above = (float(stdtrit(len(differences) - 1, 1 - level)) for level in (ERROR, ERROR / number_of_places))
    return mean - below * error, mean + above * error


def seeds_to_decide(differences: Sequence[float], margin: float, number_of_places: int) -> float:
    """How many seeds would put the bound beyond the margin with probability POWER; infinite if over MOST_SEEDS.

    Mean and spread are taken to be those observed, so the t statistic of more seeds has a noncentral t distribution.
    """
    from scipy.special import nctdtr, stdtrit

    away, spread = statistics.fmean(differences) - margin, statistics.stdev(differences)
    level = ERROR if away > 0 else ERROR / number_of_places
    for seeds in range(len(differences) + 1, MOST_SEEDS + 1):
        critical = stdtrit(seeds - 1, 1 - level)
        if spread and 1 - nctdtr(seeds - 1, abs(away) / spread * math.sqrt(seeds), critical) >= POWER:
            return seeds
    return math.inf


def claims_grid(checked: Sequence[Checked], title: str = "", notes: Sequence[str] = (NOTE,)) -> Grid:
    """A line for each claim, with what decides about it."""
    return Grid(
        heads=["claim", "protocol", "verdict", "evidence"],
        rows=[
            [
                GridCell(each.claim.says, label=each.claim.id),
                GridCell(each.protocol or "–"),
                GridCell(each.verdict, bold=True, look=f"verdict {each.verdict.replace(' ', '-')}"),
                GridCell(each.summary()),
            ]
            for each in checked
        ],
        title=title,
        notes=notes,
    )


def _seeds(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return f"{least} to {most} seeds" if least < most else f"{most} seed{'s' if most > 1 else ''}"

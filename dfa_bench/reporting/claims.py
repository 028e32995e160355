"""What the paper concludes from a table, checked over records with paired seeds.

A claim says that in each of some places one side is higher than the other by more than a margin. Differences are taken
seed by seed. A claim that has to hold everywhere is an intersection-union test (Berger 1982): it is supported if each
place is at 5%, without correction. One place is enough to contradict it, so that is tested at 5% over the number of
places (Bonferroni). docs/evidence.md gives the reasons.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from dfa_bench.errors import counted
from dfa_bench.experiments.schema import Claim, Metric, Quoted
from dfa_bench.reporting.grid import Grid, GridCell
from dfa_bench.reporting.places import CellMean, Place, papers_differences, places
from dfa_bench.reporting.tables import Table
from dfa_bench.runs.summary import RunSummary

Verdict = Literal["supported", "seen once", "contradicted", "contradicted at reduced scale", "undecided", "not tested"]
AGREES: tuple[Verdict, ...] = ("supported", "seen once")
CONTRADICTS: tuple[Verdict, ...] = ("contradicted", "contradicted at reduced scale")
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)  # in the order in which they are counted
ERROR = 0.05  # probability of a wrong "supported", and of a wrong "contradicted", of a claim
POWER = 0.8  # probability with which the seeds that are said to decide do so
QUOTED = "a number that the paper quotes is a reference only for runs of a reduced protocol"
NO_RUNS = "no runs"
DIGITS = 9  # of differences: what sums of floats have behind them would choose a side
MOST_SEEDS = 100  # with more, their number is not worked out
NOTE = (
    "[a, b]: one-sided t bounds of the mean over paired seeds. Supported: in every place a, at 5%, is above what is "
    "claimed. Contradicted: in some place b, at 5% over the number of places (Bonferroni), is below it. The seeds that "
    "would decide do so with a probability of 80%, if mean and spread stay as they are (noncentral t)."
)


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
    missing: Sequence[str] = ()  # cells without runs
    lost: int = 0  # seeds that one of the sides has no number for, since its run diverged or is NaN
    collapsed: str = ""  # how many seeds learned nothing, where others did: then the bounds say nothing
    # Seeds in all that would decide, or test it at all; infinite if more than MOST_SEEDS; None if more do not help.
    would_decide: float | None = None


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

    @property
    def because(self) -> str: ...


@dataclass(frozen=True)
class Checked:
    """A claim with its verdict."""

    claim: Stated
    verdict: Verdict
    evidence: Sequence[Evidence]
    protocol: str = ""  # of all runs that it is about, "paper and reduced" if they differ
    paper: Sequence[float] = ()  # the same differences or ratios, by the paper's own numbers

    def summary(self) -> str:
        """The place that decides and how many agree, in one line."""
        tested = [each for each in self.evidence if each.verdict != "not tested"]
        missing = dict.fromkeys(name for each in self.evidence for name in each.missing)
        without = f"{NO_RUNS} of {', '.join(missing)}"
        if not tested:
            reasons = dict.fromkeys(without if each.missing else each.reason for each in self.evidence)
            return "; ".join(reasons) or "the table has no such place"
        count = sum(each.verdict in AGREES for each in tested)
        agree = f"{count} of {len(tested)} places, {_seeds([each.seeds for each in tested])}"
        untested = len(self.evidence) - len(tested)
        measured = [each for each in tested if not each.collapsed] or tested
        decisive = [each for each in measured if each.verdict == self.verdict] or measured
        worst = min(decisive, key=lambda each: each.high if self.verdict in CONTRADICTS else each.low)
        rest = f", {untested} not tested{f' ({without})' if missing else ''}" if untested else ""
        lost = max(each.lost for each in tested)
        rest += f", up to {counted(lost, 'seed')} of a place diverged or NaN" if lost else ""
        rest += "".join(f"; {self.measured(each)}" for each in tested if each.collapsed and each is not worst)
        text = f"{agree}{rest}; least: {self.measured(worst)}; claimed: more than {self.margin_text}"
        text += f" ({self.claim.because})" if self.claim.because else ""
        text += f"; {self.papers_text}" if self.paper else ""
        return f"{text}; {self.outlook}" if self.outlook else text

    @property
    def outlook(self) -> str:
        """How many seeds would decide; "" if it is decided, or if that cannot be said."""
        if self.verdict != "undecided" or (seeds := self._would_decide()) is None:
            return ""
        count = f"about {seeds:.0f}" if seeds < math.inf else f"more than {MOST_SEEDS}"
        return f"{count} seeds would decide"

    def _would_decide(self) -> float | None:
        known = [seeds for way in self.ways() if (seeds := _most_seeds(way)) is not None]
        return min(known, default=None)

    def ways(self) -> list[list[Evidence]]:
        """Sets of places, each of which would decide the claim: one that falls short, else all that are undecided."""
        undecided = [each for each in self.evidence if each.verdict == "undecided"]
        short = [[each] for each in undecided if each.difference <= self.margin]
        return short or ([undecided] if undecided else [])

    @property
    def papers_text(self) -> str:
        """What the paper's own numbers are, from the least on."""
        ends = dict.fromkeys(self._text(each) for each in (min(self.paper), max(self.paper)))
        return f"in the paper: {' to '.join(ends)}"

    @property
    def margin_text(self) -> str:
        return self._text(self.margin)

    @property
    def margin(self) -> float:
        """What the difference or the ratio has to exceed."""
        return self.claim.by if self.claim.ratio is None else self.claim.ratio

    def measured(self, evidence: Evidence) -> str:
        """A place with its difference and, with several seeds, its bounds; or with its rate of collapse."""
        if evidence.collapsed:
            return f"{evidence.place} collapsed with {evidence.collapsed}"
        bounds = f" [{self._text(evidence.low)}, {self._text(evidence.high)}]" if evidence.seeds > 1 else ""
        return f"{evidence.place} {self._text(evidence.difference)}{bounds}"

    def _text(self, value: float) -> str:
        return f"{value:+.3g}" if self.claim.ratio is None else f"× {value:.3g}"


def _most_seeds(undecided: Sequence[Evidence]) -> float | None:
    """Those of the place that needs the most; None if at one of them more do not help."""
    known = [each.would_decide for each in undecided if each.would_decide is not None]
    return max(known) if len(known) == len(undecided) else None


def check(table: Table) -> list[Checked]:
    """All claims of a table over its runs. A stand-in tests nothing."""
    return [_check(claim, table) for claim in table.experiment.claims]


def _check(claim: Claim, table: Table) -> Checked:
    found = places_in(table, claim)
    with_runs = [each for each in found if not table.gaps(each.cells)]
    protocols = {run.protocol for place in found for run, _ in _runs(place, table)}
    contradicted = contradiction(protocols)
    evidence = [_weigh(claim, each, table, len(with_runs), contradicted) for each in found]
    verdicts = {each.verdict for each in evidence}
    tested = verdicts - {"not tested"}
    verdict: Verdict
    if contradicted in verdicts:
        verdict = contradicted
    elif not tested:
        verdict = "not tested"
    else:
        verdict = "supported" if tested == {"supported"} else "undecided"
    paper = papers_differences(claim, table.experiment)
    return Checked(claim, verdict, evidence, " and ".join(sorted(protocols)), paper)


def places_in(table: Table, claim: Claim) -> list[Place]:
    """The places that a claim is about and that the table has at the scale of its runs."""
    return [each for each in places(claim, table.experiment) if table.planned.issuperset(each.cells)]


def contradiction(protocols: Collection[str]) -> Verdict:
    """What runs of these protocols can say against the paper: it did not do those of a reduced one."""
    return "contradicted" if set(protocols) == {"paper"} else "contradicted at reduced scale"


def _weigh(claim: Claim, place: Place, table: Table, number_of_places: int, contradicted: Verdict) -> Evidence:
    higher, lower = (_side(parts, table) for parts in (place.higher, place.lower))
    pairs = [(higher[seed], lower[seed]) for seed in sorted(set(higher) & set(lower))]
    if claim.ratio is not None:
        pairs = [pair for pair in pairs if min(pair) > 0]  # others have no ratio
    if reason := _why_not(claim, place, table, len(pairs)):
        at_least = claim.min_seeds if reason in (NO_RUNS, _too_few(claim)) else None
        missing = table.gaps(place.cells) if reason == NO_RUNS else ()
        none = math.nan, math.nan, math.nan
        return Evidence(place.name, len(pairs), *none, "not tested", reason, missing, would_decide=at_least)
    if claim.ratio is None:
        differences, margin = [round(above - below, DIGITS) for above, below in pairs], claim.by
    else:
        differences, margin = [math.log(above / below) for above, below in pairs], math.log(claim.ratio)
    low, high = bounds(differences, number_of_places)
    verdict: Verdict = "supported" if low > margin else contradicted if high < margin else "undecided"
    lost = len({run.seed for run, metric in _runs(place, table) if run.value(metric.key) is None})
    needed = seeds_to_decide(differences, margin, number_of_places) if verdict == "undecided" else None
    if lost and statistics.fmean(differences) > margin:
        verdict, needed = "undecided", None  # those that are left may be the lucky ones
    if collapsed := ", ".join(table.collapse_text(cell) for cell in place.cells if table.is_bimodal(cell)):
        verdict, needed = "undecided", None  # no t distribution
    shown = round(statistics.fmean(differences), DIGITS) + 0.0, low, high  # + 0.0: no "-0"
    mean, low, high = shown if claim.ratio is None else map(_exp, shown)
    return Evidence(
        place.name, len(pairs), mean, low, high, verdict, lost=lost, collapsed=collapsed, would_decide=needed
    )


def _runs(place: Place, table: Table) -> Iterator[tuple[RunSummary, Metric]]:
    """All runs of both sides, and the metric that counts."""
    for part in (*place.higher, *place.lower):
        if isinstance(part, CellMean):
            for cell in part.cells:
                for run in table.runs.get(cell, []):
                    yield run, table.experiment.metrics[part.metric]


def _why_not(claim: Claim, place: Place, table: Table, seeds: int) -> str:
    """Why there can be no verdict; "" if there can."""
    if table.trial:
        return "stand-in data"
    if table.changed:
        return "settings of your own: the claim is about another experiment"
    if table.gaps(place.cells):
        return NO_RUNS
    parts = (*place.higher, *place.lower)
    quoted = any(isinstance(part, Quoted) for part in parts)
    if quoted and any(run.protocol != "paper" for run, _ in _runs(place, table)):
        return QUOTED
    if seeds < claim.min_seeds:
        return _too_few(claim)
    if mixed := next((cell for cell in place.cells if table.is_mixed(cell)), None):
        return f"seeds of {table.cell_text(mixed)} differ in protocol or scale"
    return ""


def _too_few(claim: Claim) -> str:
    return f"fewer than {claim.min_seeds} seeds of both sides"


def _side(parts: Sequence[CellMean | Quoted], table: Table) -> Mapping[int, float]:
    """Seed to the mean over the parts of one side. A quoted number is the same for all seeds that others have."""
    quoted = [part.value for part in parts if isinstance(part, Quoted)]
    metrics = table.experiment.metrics
    found = [table.mean_by_seed(part.cells, metrics[part.metric]) for part in parts if isinstance(part, CellMean)]
    seeds = set.intersection(*map(set, found)) if found else {run.seed for runs in table.runs.values() for run in runs}
    return {seed: statistics.fmean([*(each[seed] for each in found), *quoted]) for seed in seeds}


def _exp(value: float) -> float:
    """Of the logarithm of a ratio, whose interval over few seeds may be wider than any number."""
    return math.exp(value) if value < 700 else math.inf


def bounds(differences: Sequence[float], number_of_places: int) -> tuple[float, float]:
    """One-sided t bounds of the mean: the lower at ERROR, the upper at ERROR over the number of places."""
    from scipy.special import stdtrit  # as scipy.stats.t does, which takes three times as long to import

    mean, error = statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
    below, above = (float(stdtrit(len(differences) - 1, 1 - level)) for level in (ERROR, ERROR / number_of_places))
    return mean - below * error, mean + above * error


def seeds_to_decide(differences: Sequence[float], margin: float, number_of_places: int) -> float | None:
    """How many seeds would put the bound beyond the margin with probability POWER; infinite if over MOST_SEEDS.

    None where no number would: all differences are the margin itself, such as 0 of columns whose runs are the same.

    Mean and spread are taken to be those observed, so the t statistic of more seeds has a noncentral t distribution.
    """
    from scipy.special import nctdtr, stdtrit

    away, spread = round(statistics.fmean(differences) - margin, DIGITS), statistics.stdev(differences)
    if not spread:
        return None
    level = ERROR if away > 0 else ERROR / number_of_places
    for seeds in range(len(differences) + 1, MOST_SEEDS + 1):
        critical = stdtrit(seeds - 1, 1 - level)
        if 1 - nctdtr(seeds - 1, abs(away) / spread * math.sqrt(seeds), critical) >= POWER:
            return seeds
    return math.inf


def tallies(checked: Iterable[Checked]) -> dict[str, Counter[Verdict]]:
    """Verdicts counted, by protocol: "paper" first, and "" for claims without runs last."""
    found: dict[str, Counter[Verdict]] = {}
    for each in sorted(checked, key=lambda each: (not each.protocol, each.protocol)):
        found.setdefault(each.protocol, Counter())[each.verdict] += 1
    return found


def tally_text(protocol: str, verdicts: Counter[Verdict]) -> str:
    """One line of them, such as "With the paper's protocol: 5 supported, 1 undecided"."""
    known = {"": "Without such runs", "paper": "With the paper's protocol", "reduced": "With a reduced protocol"}
    counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS if verdicts[verdict])
    return f"{known.get(protocol, 'With both protocols')}: {counts}."


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
    return f"{least} to {most} seeds" if least < most else counted(most, "seed")

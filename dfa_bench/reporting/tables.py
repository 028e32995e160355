"""Tables of an experiment: cells of mean ± standard deviation beside the paper's numbers."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dfa_bench.errors import counted
from dfa_bench.experiments.plan import marked
from dfa_bench.experiments.schema import Cell, Experiment, Metric
from dfa_bench.runs.summary import RunSummary
from dfa_bench.settings.rules import compared_pairs, rules
from dfa_bench.settings.schema import Variant

ACRONYMS = {"auc", "ap", "psnr", "ssim"}


@dataclass(frozen=True)
class Entry:
    """One number of a table, in the paper's unit."""

    values: Sequence[float]  # one per seed
    paper: float | None
    code: float | None  # figure of the released code: a reference, never compared
    diverged: int
    nan: int  # runs that did not diverge and yet have no number
    collapsed: int  # runs whose number says that they learned nothing
    scale: str  # of all its runs, "cpu and paper" if they differ
    protocol: str
    over: tuple[str, ...] = ()  # rows that a mean is taken over, where others have no runs

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Standard deviation over seeds, with n − 1; None for a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


class TableLine(NamedTuple):
    """A line of a table as shown; with no rule where rules are columns."""

    row: str
    rule: str | None


class Head(NamedTuple):
    """A column of a table as shown; with no rule where rules are lines."""

    column: str
    variant: Variant
    metric: str
    rule: str | None = None


class Table:
    """An experiment with the runs that there are."""

    def __init__(
        self,
        experiment: Experiment,
        runs: Mapping[Cell, Sequence[RunSummary]],
        trial: bool = False,
        problems: Sequence[str] = (),
        changed: bool = False,
        planned: Collection[Cell] | None = None,
    ) -> None:
        """Args:
        experiment: the table.
        runs: by cell, one for each seed.
        trial: whether they only show that everything runs: on stand-ins instead of its data, or at scale smoke.
        problems: why records are left out.
        changed: a user's settings make another experiment of it, which the paper's numbers are not about.
        planned: the cells that it has at the scale of its runs; None: all.
        """
        self.experiment, self.trial, self.problems = experiment, trial, problems
        self.changed = changed
        self.runs = {cell: list(found) for cell, found in runs.items() if found}
        self.stand_in_rows = {cell.row for cell, found in self.runs.items() if any(run.stand_in for run in found)}
        self.planned = frozenset(experiment.cells() if planned is None else planned)
        self.entries: dict[tuple[Cell, str], Entry] = {}
        for cell, found in self.runs.items():
            for name, metric in experiment.shown.items():
                if entry := self._entry(cell, name, metric, found):
                    self.entries[cell, name] = entry
        for mean, cells in experiment.means():
            for name, metric in experiment.shown.items():
                if entry := self._mean(mean, cells, name, metric):
                    self.entries[mean, name] = entry

    def by_seed(self, cell: Cell, metric: Metric) -> dict[int, float]:
        """Seed to value in the paper's unit, of the runs that did not diverge, in the order of the seeds."""
        runs = sorted(self.runs.get(cell, []), key=lambda run: run.seed)
        found = {run.seed: run.value(metric.key) for run in runs}
        return {seed: value * metric.factor for seed, value in found.items() if value is not None}

    def mean_by_seed(self, cells: Sequence[Cell], metric: Metric) -> dict[int, float]:
        """Mean over cells, seed by seed; only where each of them has that seed."""
        values = [self.by_seed(cell, metric) for cell in cells]
        seeds = sorted(set.intersection(*map(set, values)))
        return {seed: statistics.fmean(each[seed] for each in values) for seed in seeds}

    def collapsed(self, cell: Cell) -> int:
        """How many runs of a cell learned nothing, as the experiment defines it."""
        collapse = self.experiment.collapse
        if collapse is None or cell.rule not in collapse.rules:
            return 0
        value, level = (
            self.by_seed(cell, self.experiment.metrics[name]) for name in (collapse.metric, collapse.not_above)
        )
        return sum(value[seed] <= level[seed] for seed in value.keys() & level.keys())

    def is_bimodal(self, cell: Cell) -> bool:
        """Whether some runs of a cell learned nothing and others did: their mean then says little of either."""
        return 0 < self.collapsed(cell) < len(self.runs.get(cell, []))

    def collapse_text(self, cell: Cell) -> str:
        """The rate of collapse of a cell, "2 of 3 seeds of BP"."""
        return f"{self.collapsed(cell)} of {len(self.runs[cell])} seeds of {rules()[cell.rule].label}"

    def _entry(self, cell: Cell, name: str, metric: Metric, runs: Sequence[RunSummary]) -> Entry | None:
        values = self.by_seed(cell, metric)
        paper, code = self.experiment.paper_value(name, cell), self.experiment.code_value(name, cell)
        return self._of(runs, metric, [*values.values()], paper, code, self.collapsed(cell)) if values else None

    def _mean(self, mean: Cell, cells: Sequence[Cell], name: str, metric: Metric) -> Entry | None:
        """Over the cells that have runs. The paper's number is one over all of them."""
        found = [cell for cell in cells if cell in self.runs]
        values = self.mean_by_seed(found, metric) if found else {}
        if not values:
            return None
        runs = [run for cell in found for run in self.runs[cell]]
        if len(found) == len(cells):
            return self._of(runs, metric, [*values.values()], self.experiment.paper_value(name, mean))
        over = tuple(cell.row for cell in found)
        return dataclasses.replace(self._of(runs, metric, [*values.values()], paper=None), over=over)

    def _of(
        self,
        runs: Sequence[RunSummary],
        metric: Metric,
        values: Sequence[float],
        paper: float | None,
        code: float | None = None,
        collapsed: int = 0,
    ) -> Entry:
        # Apart from the experiment, or the data, that printed numbers are about.
        if self.trial or self.changed or any(run.stand_in for run in runs):
            paper = code = None
        lost = [run.diverged for run in runs if run.value(metric.key) is None]
        scale, protocol = _listed(run.scale for run in runs), _listed(run.protocol for run in runs)
        return Entry(values, paper, code, sum(lost), len(lost) - sum(lost), collapsed, scale, protocol)

    def heads(self) -> list[Head]:
        """Columns shown."""
        shown = [
            Head(column, variant, metric, rule)
            for column, line in self.experiment.columns.items()
            for variant in line.variants
            for metric in self.experiment.shown
            for rule in (self.experiment.rules if self.experiment.rules_across else [None])
        ]
        return [head for head in shown if any(_is_below(cell, metric, head) for cell, metric in self.entries)]

    def lines(self) -> list[TableLine]:
        """Lines shown."""
        rules_down = [None] if self.experiment.rules_across else self.experiment.rules
        shown = [TableLine(row, rule) for row in self.experiment.rows for rule in rules_down]
        return [line for line in shown if any(_is_in(cell, line) for cell, _ in self.entries)]

    def head_text(self, head: Head) -> str:
        text = self.experiment.column_text(head.column, head.variant)
        text += f" {spoken(head.metric)}" if len(self.experiment.shown) > 1 else ""
        return f"{text} {rules()[head.rule].label}" if head.rule else text

    def cell_text(self, cell: Cell) -> str:
        """A cell in a sentence."""
        return f"{cell.row} {self.experiment.column_text(cell.column, cell.variant)} {rules()[cell.rule].label}"

    def gaps(self, cells: Iterable[Cell]) -> list[str]:
        """Those of some cells that lack runs, in a sentence; rows without any run by their names only."""
        filled = {cell.row for cell in self.runs}
        lacking = (cell for cell in cells if cell not in self.runs)
        return [*dict.fromkeys(self.cell_text(cell) if cell.row in filled else cell.row for cell in lacking)]

    def row_text(self, line: TableLine) -> str:
        text = f"{line.row}, mean" if self.experiment.rows[line.row].mean_of else line.row
        return marked(text, self.trial or line.row in self.stand_in_rows)

    def entry(self, line: TableLine, head: Head) -> Entry | None:
        cell = self.cell_at(line, head)
        return None if cell is None else self.entries[cell, head.metric]

    def cell_at(self, line: TableLine, head: Head) -> Cell | None:
        """The cell, or mean, that stands there."""
        here = (cell for cell, metric in self.entries if _is_in(cell, line) and _is_below(cell, metric, head))
        return next(here, None)

    def is_off(self, entry: Entry) -> bool:
        """Whether the mean differs from the paper's number by more than the table's limit."""
        limit = self.experiment.off_by
        if limit is None or entry.paper is None or entry.protocol != "paper":
            return False
        return abs(entry.mean - entry.paper) > limit

    def is_bold(self, cell: Cell, metric: str) -> bool:
        """As in the paper: a rule so near to the one that it is compared with."""
        within = self.experiment.metrics[metric].bold_within
        reference = rules()[cell.rule].compared_with
        if self.changed or within is None or reference is None:
            return False
        beside = TableLine(cell.row, reference), Head(cell.column, cell.variant, metric)
        ours, theirs = self.entries[cell, metric], self.entry(*beside)
        return bool(ours and theirs and ours.mean >= theirs.mean - within)

    def mean_text(self, entry: Entry, metric: str) -> str:
        """Mean ± standard deviation."""
        digits = self.experiment.metrics[metric].digits
        return f"{entry.mean:.{digits}f}" + ("" if entry.std is None else f" ± {entry.std:.{digits}f}")

    def seeds_text(self, entry: Entry) -> str:
        """How many seeds the mean is over, how many are lost or collapsed, and of what rows it is, if not of all."""
        some = {"diverged": entry.diverged, "NaN": entry.nan, "collapsed": entry.collapsed}
        parts = [f"(n={len(entry.values)})", *(f"{count} {how}" for how, count in some.items() if count)]
        return ", ".join([*parts, *([f"over {', '.join(entry.over)}"] if entry.over else [])])

    def paper_text(self, entry: Entry, metric: str) -> str:
        """The paper's number and our difference from it, else the released code's figure; "" where there is none."""
        digits = self.experiment.metrics[metric].digits
        if entry.paper is None:
            return "" if entry.code is None else f"code {entry.code:.{digits}f}"
        reference = f"{entry.mean - entry.paper:+.{digits}f}" if entry.protocol == "paper" else "reference"
        return f"paper {entry.paper:.{digits}f}, {reference}"

    def caption(self) -> str:
        if self.trial:
            return "STAND-IN DATA, scale smoke: these numbers only show that everything runs."
        other = "With settings of your own, so another experiment than the paper's: " if self.changed else ""
        runs = [run for found in self.runs.values() for run in found]
        compared = {entry.protocol for entry in self.entries.values() if entry.paper is not None}
        paper = "; below it the paper's number" if compared else ""
        paper += " and our difference from it" if "paper" in compared else ""
        paper += ", a reference only: ours is another protocol" if compared and "paper" not in compared else ""
        count = len({run.identity for run in runs})
        protocols = _listed(run.protocol for run in runs)
        return f"{other}{counted(count, 'run')}, protocol: {protocols}. Mean ± standard deviation over n seeds{paper}."

    def remarks(self) -> list[str]:
        """What a reader has to know beside the numbers."""
        return [
            *self._bold_note(),
            *self._code_note(),
            *self._off_note(),
            *self._mixed_note(),
            *self._numerics_note(),
            *self._lost_note(),
            *self._collapse_note(),
            *self._gap_note(),
            *self._problem_note(),
            *self.experiment.notes,
        ]

    def _bold_note(self) -> Iterable[str]:
        if self.changed:
            return
        for name, metric in self.experiment.shown.items():
            if metric.bold_within is not None:
                by = f" by {spoken(name)}" if len(self.experiment.shown) > 1 else ""
                for rule, reference in compared_pairs(self.experiment.rules):
                    near, to = rules()[rule].label, rules()[reference].label
                    yield f"Bold, as in the paper: {near} within {metric.bold_within} of {to}{by}."

    def _code_note(self) -> Iterable[str]:
        if any(entry.paper is None and entry.code is not None for entry in self.entries.values()):
            yield "Code: a figure of the released code, where the paper has none; a reference only."

    def _off_note(self) -> Iterable[str]:
        limit = self.experiment.off_by
        compared = [each for each in self.entries.items() if each[1].paper is not None and each[1].protocol == "paper"]
        if limit is None or not compared:
            return
        off = []
        for (cell, metric), entry in compared:
            if self.is_off(entry):
                difference = entry.mean - (entry.paper or 0.0)
                digits = self.experiment.metrics[metric].digits
                head = self.head_text(Head(cell.column, cell.variant, metric))
                off.append(f"{cell.row} {head} {rules()[cell.rule].label} ({difference:+.{digits}f})")
        all_of_them = counted(len(compared), "comparison")
        yield f"Off by more than {limit:g}: {', '.join(off) or 'none'} (of {all_of_them} with the paper)."

    def is_mixed(self, cell: Cell) -> bool:
        """Whether seeds of a cell were not run alike."""
        return len({(run.protocol, run.scale) for run in self.runs.get(cell, [])}) > 1

    def _mixed_note(self) -> Iterable[str]:
        """Seeds of one cell that were not run alike: shown, not silently averaged."""
        mixed = []
        for cell, runs in self.runs.items():
            if self.is_mixed(cell):
                kinds = {f"{run.protocol} protocol at scale {run.scale}" for run in runs}
                mixed.append(f"{self.cell_text(cell)} ({' and '.join(sorted(kinds))})")
        if mixed:
            yield f"Mixed, and so no verdict: {', '.join(mixed)}."
        several = [runs for runs in self.runs.values() if len({run.commit for run in runs}) > 1]
        if several:
            yield f"Seeds of {len(several)} of {len(self.runs)} cells were run by more than one commit of this suite."

    def _numerics_note(self) -> Iterable[str]:
        """What may move digits, where runs are known to differ in it."""
        runs = {run.identity: run.numerics for found in self.runs.values() for run in found if run.numerics}
        kinds = Counter(runs.values())
        if len(kinds) > 1:
            told = "; ".join(f"{name} ({counted(count, 'run')})" for name, count in sorted(kinds.items()))
            yield f"Runs differ in numerics, which may move digits: {told}."

    def _lost_note(self) -> Iterable[str]:
        """Cells that are empty although they have runs."""
        filled = {cell for cell, _ in self.entries}
        lost = [
            f"{self.cell_text(cell)} ({counted(len(runs), 'run')})"
            for cell, runs in self.runs.items()
            if cell not in filled
        ]
        if lost:
            yield f"Without a number, as all runs diverged or are NaN: {', '.join(lost)}."

    def _collapse_note(self) -> Iterable[str]:
        if (collapse := self.experiment.collapse) and any(entry.collapsed for entry in self.entries.values()):
            yield f"Collapsed: {collapse.says}."

    def _gap_note(self) -> Iterable[str]:
        gaps = self.gaps(cell for cell in self.experiment.cells() if cell in self.planned)
        if self.runs and gaps:
            yield f"Without runs: {', '.join(gaps)}."

    def _problem_note(self) -> Iterable[str]:
        if self.problems:
            yield f"Left out, as they cannot be read: {counted(len(self.problems), 'record')}."


def _is_in(cell: Cell, line: TableLine) -> bool:
    return cell.row == line.row and line.rule in (None, cell.rule)


def _is_below(cell: Cell, metric: str, head: Head) -> bool:
    return (cell.column, cell.variant, metric) == head[:3] and head.rule in (None, cell.rule)


def _listed(names: Iterable[str]) -> str:
    return " and ".join(sorted(set(names)))


def spoken(metric: str) -> str:
    """A metric's name in a sentence."""
    return metric.upper() if metric in ACRONYMS else metric.replace("_", " ")

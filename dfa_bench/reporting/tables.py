"""Tables of an experiment: cells of mean ± standard deviation beside the paper's numbers, in four forms."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from rich.table import Table as RichTable

from dfa_bench.reporting.experiment import Cell, Experiment, Metric, Rule, Variant

RULE_NAMES: dict[Rule, str] = {"bp": "BP", "dfa": "DFA", "shallow": "shallow"}
CSV_COLUMNS = ["table", "row", "column", "rule", "variant", "metric", "mean", "std", "n", "paper", "scale", "protocol"]


@dataclass(frozen=True)
class Run:
    """What a table needs of one run, from its record or from runs.csv."""

    identity: str
    seed: int
    metrics: Mapping[str, float]  # empty if the loss diverged
    scale: str
    protocol: str
    data_kind: str
    commit: str | None


@dataclass(frozen=True)
class Entry:
    """One number of a table, in the paper's unit."""

    values: Sequence[float]  # one per seed
    paper: float | None
    diverged: int
    scale: str
    protocol: str

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Standard deviation over seeds, with n − 1; None for a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


class Table:
    """An experiment with the runs that there are."""

    def __init__(self, experiment: Experiment, runs: Mapping[Cell, Sequence[Run]], stand_in: bool = False) -> None:
        self.experiment, self.stand_in = experiment, stand_in
        self.runs = {cell: list(found) for cell, found in runs.items() if found}
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
        return {run.seed: run.metrics[metric.key] * metric.factor for run in runs if metric.key in run.metrics}

    def mean_by_seed(self, cells: Sequence[Cell], metric: Metric) -> dict[int, float]:
        """Mean over cells, seed by seed; only where each of them has that seed."""
        values = [self.by_seed(cell, metric) for cell in cells]
        seeds = sorted(set.intersection(*map(set, values)))
        return {seed: statistics.fmean(each[seed] for each in values) for seed in seeds}

    def _entry(self, cell: Cell, name: str, metric: Metric, runs: Sequence[Run]) -> Entry | None:
        values = self.by_seed(cell, metric)
        if not values:
            return None
        paper = None if self.stand_in else self.experiment.paper_value(name, cell)
        return Entry([*values.values()], paper, len(runs) - len(values), runs[0].scale, runs[0].protocol)

    def _mean(self, mean: Cell, cells: Sequence[Cell], name: str, metric: Metric) -> Entry | None:
        by_seed = self.mean_by_seed(cells, metric)
        if not by_seed:
            return None
        paper = None if self.stand_in else self.experiment.paper_value(name, mean)
        diverged = sum(metric.key not in run.metrics for cell in cells for run in self.runs[cell])
        first = self.runs[cells[0]][0]
        return Entry([*by_seed.values()], paper, diverged, first.scale, first.protocol)

    # What all forms show alike.

    def heads(self) -> list[tuple[str, Variant, str]]:
        """Columns shown: (column, variant, metric)."""
        shown = [
            (column, variant, metric)
            for column, line in self.experiment.columns.items()
            for variant in line.variants
            for metric in self.experiment.shown
        ]
        return [head for head in shown if any((c.column, c.variant, m) == head for c, m in self.entries)]

    def head_text(self, head: tuple[str, Variant, str]) -> str:
        column, variant, metric = head
        text = self.experiment.column_text(column, variant)
        return f"{text} {_spoken(metric)}" if len(self.experiment.shown) > 1 else text

    def lines(self) -> list[tuple[str, Rule]]:
        """Lines shown: (row, rule)."""
        shown = [(row, rule) for row in self.experiment.rows for rule in self.experiment.rules]
        return [line for line in shown if any((c.row, c.rule) == line for c, _ in self.entries)]

    def row_text(self, line: tuple[str, Rule]) -> str:
        return f"{line[0]} (stand-in)" if self.stand_in else line[0]

    def entry(self, line: tuple[str, Rule], head: tuple[str, Variant, str]) -> Entry | None:
        for (cell, metric), entry in self.entries.items():
            if (cell.row, cell.rule) == line and (cell.column, cell.variant, metric) == head:
                return entry
        return None

    def is_bold(self, line: tuple[str, Rule], head: tuple[str, Variant, str]) -> bool:
        """As in the paper: DFA so near to BP."""
        within = self.experiment.metrics[head[2]].bold_within
        row, rule = line
        ours, backprop = self.entry(line, head), self.entry((row, "bp"), head)
        return bool(rule == "dfa" and within is not None and ours and backprop and ours.mean >= backprop.mean - within)

    def texts(self, entry: Entry, metric: str) -> tuple[str, str]:
        """A cell's two lines: ours, and the paper's with the difference."""
        digits = self.experiment.metrics[metric].digits
        spread = "" if entry.std is None else f" ± {entry.std:.{digits}f}"
        ours = f"{entry.mean:.{digits}f}{spread} (n={len(entry.values)})"
        if entry.diverged:
            ours += f", {entry.diverged} diverged"
        if entry.paper is None:
            return ours, ""
        reference = "reference" if entry.protocol == "reduced" else f"{entry.mean - entry.paper:+.{digits}f}"
        return ours, f"paper {entry.paper:.{digits}f}, {reference}"

    def caption(self) -> str:
        if self.stand_in:
            return "STAND-IN DATA, scale smoke: these numbers only show that everything runs."
        runs = [run for found in self.runs.values() for run in found]
        protocols = " and ".join(sorted({run.protocol for run in runs}))
        compared = {entry.protocol for entry in self.entries.values() if entry.paper is not None}
        paper = "; below it the paper's number" if compared else ""
        paper += " and our difference from it" if "paper" in compared else ""
        paper += ", a reference only: ours is another protocol" if compared == {"reduced"} else ""
        count = len({run.identity for run in runs})
        return f"{count} runs, protocol: {protocols}. Mean ± standard deviation over n seeds{paper}."

    # The forms.

    def markdown(self) -> str:
        heads = self.heads()
        out = [f"## {self.experiment.title}", "", "| | | " + " | ".join(map(self.head_text, heads)) + " |"]
        out.append("| --- | --- |" + " --- |" * len(heads))
        for line in self.lines():
            cells = []
            for head in heads:
                entry = self.entry(line, head)
                ours, paper = self.texts(entry, head[2]) if entry else ("", "")
                ours = f"**{ours}**" if ours and self.is_bold(line, head) else ours
                cells.append(f"{ours}<br>{paper}" if paper else ours)
            out.append(f"| {self.row_text(line)} | {RULE_NAMES[line[1]]} | " + " | ".join(cells) + " |")
        out += ["", " ".join([self.caption(), *self._bold_note(), *self._off_note(), *self.experiment.notes])]
        return "\n".join(out) + "\n"

    def tex(self) -> str:
        heads = self.heads()
        out = [r"\begin{tabular}{ll" + "r" * len(heads) + "}", r"\toprule"]
        out += [" & & " + " & ".join(_escape(self.head_text(head)) for head in heads) + r" \\", r"\midrule"]
        for line in self.lines():
            cells = []
            for head in heads:
                entry = self.entry(line, head)
                if entry is None:
                    cells.append("")
                    continue
                digits = self.experiment.metrics[head[2]].digits
                spread = "" if entry.std is None else rf" \pm {entry.std:.{digits}f}"
                ours = f"{entry.mean:.{digits}f}{spread}"
                ours = rf"\mathbf{{{ours}}}" if self.is_bold(line, head) else ours
                paper = "" if entry.paper is None else f" ({entry.paper:.{digits}f})"
                cells.append(f"${ours}$ [{len(entry.values)}]{paper}")
            out.append(f"{_escape(self.row_text(line))} & {RULE_NAMES[line[1]]} & " + " & ".join(cells) + r" \\")
        out += [r"\bottomrule", r"\end{tabular}"]
        note = f"% {self.experiment.title}. Mean +- std [number of seeds] (paper). {self.caption()}"
        return "\n".join([note, *out]) + "\n"

    def csv(self) -> str:
        rows = []
        for (cell, metric), entry in self.entries.items():
            where = [self.experiment.name, cell.row, cell.column, cell.rule, cell.variant, metric]
            std = None if entry.std is None else round(entry.std, 6)
            rows.append(
                [*where, round(entry.mean, 6), std, len(entry.values), entry.paper, entry.scale, entry.protocol]
            )
        return pd.DataFrame(rows, columns=CSV_COLUMNS).to_csv(index=False, lineterminator="\n")

    def rich(self) -> RichTable:
        heads = self.heads()
        table = RichTable(title=self.experiment.title, caption=self.caption(), show_lines=False)
        table.add_column("")
        table.add_column("")
        for head in heads:
            table.add_column(self.head_text(head), justify="right")
        lines = self.lines()
        for (row, rule), following in zip(lines, [*lines[1:], None], strict=True):
            texts = []
            for head in heads:
                entry = self.entry((row, rule), head)
                ours, paper = self.texts(entry, head[2]) if entry else ("", "")
                ours = f"[bold]{ours}[/bold]" if ours and self.is_bold((row, rule), head) else ours
                texts.append(f"{ours}\n[dim]{paper}[/dim]" if paper else ours)
            ends = following is None or following[0] != row
            table.add_row(self.row_text((row, rule)), RULE_NAMES[rule], *texts, end_section=ends)
        return table

    def _bold_note(self) -> Iterable[str]:
        for name, metric in self.experiment.shown.items():
            if metric.bold_within is not None:
                by = f" by {_spoken(name)}" if len(self.experiment.shown) > 1 else ""
                yield f"Bold, as in the paper: DFA within {metric.bold_within} of BP{by}."

    def _off_note(self) -> Iterable[str]:
        limit = self.experiment.off_by
        compared = [each for each in self.entries.items() if each[1].paper is not None and each[1].protocol == "paper"]
        if limit is None or not compared:
            return
        off = []
        for (cell, metric), entry in compared:
            difference = entry.mean - (entry.paper or 0.0)
            if abs(difference) > limit:
                digits = self.experiment.metrics[metric].digits
                head = self.head_text((cell.column, cell.variant, metric))
                off.append(f"{cell.row} {head} {RULE_NAMES[cell.rule]} ({difference:+.{digits}f})")
        yield f"Off by more than {limit:g}: {', '.join(off) or 'none'} (of {len(compared)} numbers of the paper)."


def _spoken(metric: str) -> str:
    return metric.replace("_", " ") if "_" in metric else metric.upper()


def _escape(text: str) -> str:
    return "".join(f"\\{character}" if character in "&%$#_{}" else character for character in text)

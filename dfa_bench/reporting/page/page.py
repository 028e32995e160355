"""The report as values, before it becomes HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dfa_bench.experiments.schema import Cell
from dfa_bench.reporting import forms
from dfa_bench.reporting.claims import Checked, Verdict, tallies
from dfa_bench.reporting.grid import Grid, cells
from dfa_bench.reporting.page.cost import machine
from dfa_bench.reporting.page.details import CellDetails, short
from dfa_bench.reporting.page.document import QuotedDocument
from dfa_bench.reporting.page.pictures import Picture
from dfa_bench.reporting.tables import Table
from dfa_bench.runs.summary import RunSummary


@dataclass(frozen=True)
class Section:
    """A table or study with all that belongs to it."""

    anchor: str
    table: Table
    checked: Sequence[Checked]
    details: Mapping[Cell, CellDetails]
    curves: Picture | None
    more: Sequence[Grid]  # further tables about the same runs
    cost: Grid | None

    @property
    def name(self) -> str:
        """ "Table 3" of "Table 3: node classification, test accuracy (%)"."""
        return self.table.experiment.title.partition(":")[0]

    @property
    def subject(self) -> str:
        return self.table.experiment.title.partition(":")[2].strip() or self.table.experiment.title

    @property
    def grid(self) -> Grid:
        """The table itself, whose numbers lead to their runs."""
        mean = "; a mean is of the cells above it" if self.table.experiment.means() else ""
        links = {cell: each.anchor for cell, each in self.details.items()}
        return replace(
            forms.readable(self.table, links),
            title=f"{self.table.caption()} A number leads to its runs{mean}.",
            notes=self.table.remarks(),
        )

    @property
    def runs(self) -> dict[str, RunSummary]:
        """By identity: one run can stand in several cells."""
        return {run.identity: run for found in self.table.runs.values() for run in found}

    @property
    def protocol(self) -> str:
        return " and ".join(sorted({run.protocol for run in self.runs.values()})) or "–"

    @property
    def seeds(self) -> str:
        counts = [len(runs) for runs in self.table.runs.values()]
        if not counts:
            return "–"
        return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)}–{max(counts)}"

    @property
    def data(self) -> list[str]:
        """Data sets with what the record counts as their rows."""
        return sorted({f"{run.data_name} ({run.data_rows:,})" for run in self.runs.values() if run.data_name})

    @property
    def claims(self) -> list[Checked]:
        """The paper's."""
        return [each for each in self.checked if each.claim.of == "paper"]

    @property
    def verdicts(self) -> Counter[Verdict]:
        return Counter(each.verdict for each in self.claims)

    def compared(self) -> tuple[int, int]:
        """How many of the paper's numbers we come near to, and how many our runs of its protocol compare with."""
        if self.table.experiment.kind != "paper" or self.table.experiment.off_by is None:
            return 0, 0
        entries = [each for each in self.table.entries.values() if each.paper is not None and each.protocol == "paper"]
        return sum(not self.table.is_off(each) for each in entries), len(entries)


@dataclass(frozen=True)
class Page:
    """All that the report shows.

    Args:
        tables: of the paper.
        studies: of our own, searches among them.
        stand_ins: tables over generated data, apart from all others.
        readings: claims about figures.
        figures: with their numbers.
        deviations: where paper, released code and this suite differ.
    """

    tables: Sequence[Section]
    studies: Sequence[Section]
    stand_ins: Sequence[Section]
    readings: Sequence[Checked]
    figures: Sequence[Picture]
    deviations: QuotedDocument | None

    @property
    def named_over_tables(self) -> list[tuple[str, Checked]]:
        """What the paper claims, over its tables and our studies, each with where it stands."""
        return [
            (_with_protocol(section.name, each), each)
            for section in (*self.tables, *self.studies)
            for each in section.claims
        ]

    @property
    def named(self) -> list[tuple[str, Checked]]:
        """All that the paper claims, that about figures behind the rest."""
        return [*self.named_over_tables, *((_with_protocol("Figures", each), each) for each in self.readings)]

    @property
    def checked(self) -> list[Checked]:
        return [each for _, each in self.named]

    @property
    def tallies(self) -> list[tuple[str, str, Counter[Verdict]]]:
        """Verdicts counted, by what they are about and by the protocol of their runs."""
        over_tables = [each for _, each in self.named_over_tables]
        found = {"tables, tested over seeds": over_tables, "figures and text": self.readings}
        return [
            (about, protocol, counted)
            for about, checked in found.items()
            for protocol, counted in tallies(checked).items()
        ]

    @property
    def runs(self) -> list[RunSummary]:
        """All of its tables and studies, each once."""
        found = {key: run for section in (*self.tables, *self.studies) for key, run in section.runs.items()}
        return list(found.values())

    @property
    def problems(self) -> list[str]:
        sections = (*self.tables, *self.studies, *self.stand_ins)
        return list(dict.fromkeys(problem for section in sections for problem in section.table.problems))

    @property
    def period(self) -> str:
        days = sorted({run.finished[:10] for run in self.runs if run.finished})
        if not days:
            return ""
        return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"

    def origins(self) -> list[Grid]:
        """Where the numbers come from: machines, numerics, software, code."""
        found = [
            _counted("Machines", "device", (machine(run) for run in self.runs if run.device)),
            _counted("Numerics", "what may move digits", (run.numerics or "not recorded" for run in self.runs)),
            _counted("Versions", "versions", (run.versions for run in self.runs if run.versions)),
            _counted("Code", "commit of dfa-bench", (short(run.commit) for run in self.runs)),
        ]
        return [grid for grid in found if grid.rows]


def _with_protocol(name: str, checked: Checked) -> str:
    """Where a claim stands, and that its runs are not the paper's."""
    return name if checked.protocol in ("", "paper") else f"{name} ({checked.protocol})"


def _counted(title: str, head: str, names: Iterable[str]) -> Grid:
    """How many runs have each of these, the most first."""
    counted = sorted(Counter(names).items(), key=lambda each: (-each[1], each[0]))
    return Grid([head, "runs"], [cells(name, count) for name, count in counted], title, numbers=(1,))

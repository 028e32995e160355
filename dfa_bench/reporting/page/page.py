"""The report as values, before it becomes HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dfa_bench.experiments.schema import Cell
from dfa_bench.reporting.claims import Checked
from dfa_bench.reporting.page.behind import CODE, Behind
from dfa_bench.reporting.page.cost import CostLine, machine
from dfa_bench.reporting.page.pictures import Picture
from dfa_bench.reporting.page.prose import Prose
from dfa_bench.reporting.tables import Table
from dfa_bench.runs.summary import RunSummary


@dataclass(frozen=True)
class Section:
    """A table or study with all that belongs to it."""

    anchor: str
    table: Table
    checked: Sequence[Checked]
    behind: Mapping[Cell, Behind]
    curves: Picture | None
    more: Sequence[Prose]  # further tables about the same runs
    cost: Sequence[CostLine]

    @property
    def name(self) -> str:
        """ "Table 3" of "Table 3: node classification, test accuracy (%)"."""
        return self.table.experiment.title.partition(":")[0]

    @property
    def subject(self) -> str:
        return self.table.experiment.title.partition(":")[2].strip() or self.table.experiment.title

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
    def verdicts(self) -> Counter[str]:
        return Counter(each.verdict for each in self.claims)

    def compared(self) -> tuple[int, int]:
        """How many of the paper's numbers we come near to, and how many our runs of its protocol compare with."""
        if self.table.experiment.off_by is None:
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
    deviations: Prose | None

    @property
    def named_over_tables(self) -> list[tuple[str, Checked]]:
        """What the paper claims, over its tables and our studies, each with where it stands."""
        return [
            (f"{section.name} (reduced)" if section.protocol == "reduced" else section.name, each)
            for section in (*self.tables, *self.studies)
            for each in section.claims
        ]

    @property
    def named(self) -> list[tuple[str, Checked]]:
        """All that the paper claims, that about figures behind the rest."""
        return [*self.named_over_tables, *(("Figures", each) for each in self.readings)]

    @property
    def checked(self) -> list[Checked]:
        return [each for _, each in self.named]

    @property
    def tallies(self) -> list[tuple[str, Counter[str]]]:
        """Verdicts counted: those with an interval over seeds, and those read off a figure, which have none."""
        found = {"over its tables, with intervals over seeds": [each for _, each in self.named_over_tables]}
        if self.readings:
            found["about its figures and text, read off one run each"] = list(self.readings)
        return [(text, Counter(each.verdict for each in checked)) for text, checked in found.items()]

    @property
    def runs(self) -> list[RunSummary]:
        """All on real data, each once."""
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

    def machines(self) -> list[tuple[str, int]]:
        return _counted(machine(run) for run in self.runs if run.device)

    def software(self) -> list[tuple[str, int]]:
        return _counted(run.versions for run in self.runs if run.versions)

    def numerics(self) -> list[tuple[str, int]]:
        return _counted(run.numerics or "not recorded" for run in self.runs)

    def commits(self) -> list[tuple[str, int]]:
        return _counted(short(run.commit) for run in self.runs)


def short(commit: str | None) -> str:
    """A commit in few digits, marked if files differed from it."""
    if not commit:
        return "not from a checkout"
    return commit[:CODE] + (" (changed)" if commit.endswith("-dirty") else "")


def _counted(names: Iterable[str]) -> list[tuple[str, int]]:
    return sorted(Counter(names).items(), key=lambda each: (-each[1], each[0]))

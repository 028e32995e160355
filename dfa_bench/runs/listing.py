"""Runs of the ledger and the store together, by what they have in common apart from their seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dfa_bench.errors import RecordError
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.record import Record
from dfa_bench.runs.store import NAMED
from dfa_bench.runs.summary import RunSummary

ALIKE = ("task", "dataset", "model", "rule", "variant", "scale", "protocol", "data_kind")  # in all runs of a group


@dataclass(frozen=True)
class StoreContents:
    """What lies in a run store: runs by identity, folders of runs that are not done, what is wrong."""

    runs: Mapping[str, RunSummary]
    unfinished: Sequence[Path]
    problems: Sequence[str]
    folders: Mapping[str, Path]  # of the runs


def read_store(root: Path) -> StoreContents:
    """All records below a folder. A damaged one, or one of another version, is reported and leaves the others alone."""
    runs: dict[str, RunSummary] = {}
    folders: dict[str, Path] = {}
    unfinished, problems = [], []
    # A copy of a record has any name; the one that a run is looked for under comes first.
    for config in sorted(root.glob("*/config.yaml"), key=lambda path: (not NAMED.search(path.parent.name), path)):
        try:
            result = Record(config.parent).read_result()
        except RecordError as error:
            problems.append(str(error))
            continue
        if result is None:
            unfinished.append(config.parent)
        elif result.identity in runs:
            problems.append(
                f"{config.parent} is a second record of the run {result.identity}; the one that counts is "
                f"{folders[result.identity]}. Move one of them away."
            )
        else:
            runs[result.identity], folders[result.identity] = result.as_in_row(), config.parent
    return StoreContents(runs, unfinished, problems, folders)


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed, and perhaps in settings that runs.csv does not name."""

    runs: Sequence[RunSummary]

    @property
    def shared(self) -> RunSummary:
        """One of them, for what they have in common."""
        return self.runs[0]

    @property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})

    @property
    def settings(self) -> int:
        """How many settings there are at least: as many as runs of one seed."""
        return max(sum(run.seed == seed for run in self.runs) for seed in self.seeds)

    @property
    def newest(self) -> datetime:
        return max(datetime.fromisoformat(run.finished) for run in self.runs)

    def metric(self, name: str | None) -> str:
        """The metric asked for, or the first one of the test set, or of the validation set."""
        there = metrics(self.runs)
        chosen = [key for key in there if key == name] if name else [key for key in there if key.startswith("test/")]
        return [*chosen, *([] if name else there), ""][0]

    def values(self, metric: str) -> list[float]:
        """Of the runs that have it, finite."""
        found = [run.value(metric) for run in self.runs]
        return [value for value in found if value is not None]


def groups(runs: Iterable[RunSummary]) -> list[Group]:
    """Sorted by what they have in common."""
    found: dict[tuple[str, ...], list[RunSummary]] = {}
    for run in runs:
        found.setdefault(tuple(getattr(run, name) for name in ALIKE), []).append(run)
    return [Group(found[key]) for key in sorted(found)]


def metrics(runs: Iterable[RunSummary]) -> list[str]:
    """All that some run has, sorted."""
    return sorted({name for run in runs for name in run.metrics})


def all_runs(ledger: Ledger, store: StoreContents) -> dict[str, RunSummary]:
    """By identity; a record in the store is nearer to the truth than its row."""
    return {**ledger.runs, **store.runs}

"""Runs of the ledger and the store together, by what they have in common apart from their seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dfa_bench.errors import RecordError
from dfa_bench.runs.ledger import COLUMNS, Ledger, row_of
from dfa_bench.runs.record import Record
from dfa_bench.runs.store import NAMED

Row = Mapping[str, str]  # of runs.csv
ALIKE = ("task", "dataset", "model", "rule", "variant", "scale", "protocol", "data_kind")  # in all runs of a group


@dataclass(frozen=True)
class Store:
    """What lies in a run store: rows by identity, folders of runs that are not done, and what is wrong."""

    rows: Mapping[str, Row]
    unfinished: Sequence[Path]
    problems: Sequence[str]


def read_store(root: Path) -> Store:
    """All records below a folder. One that is damaged or of another version is told, and costs no other."""
    rows: dict[str, Row] = {}
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
        elif result.identity in rows:
            problems.append(
                f"{config.parent} is a second record of the run {result.identity}; the one that counts is "
                f"{folders[result.identity]}. Move one of them away."
            )
        else:
            rows[result.identity], folders[result.identity] = row_of(result), config.parent
    return Store(rows, unfinished, problems)


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed, and perhaps in settings that runs.csv does not name."""

    rows: Sequence[Row]

    def __getitem__(self, name: str) -> str:
        return self.rows[0].get(name, "")

    @property
    def seeds(self) -> list[int]:
        return sorted({int(row["seed"]) for row in self.rows})

    @property
    def settings(self) -> int:
        """How many settings there are at least: as many as runs of one seed."""
        return max(sum(int(row["seed"]) == seed for row in self.rows) for seed in self.seeds)

    @property
    def newest(self) -> datetime:
        return max(finished(row) for row in self.rows)

    def metric(self, name: str | None) -> str:
        """The metric asked for, or the first one of the test set, or of the validation set."""
        there = sorted({key for row in self.rows for key in row} - set(COLUMNS))
        chosen = [key for key in there if key == name] if name else [key for key in there if key.startswith("test/")]
        return [*chosen, *([] if name else there), ""][0]

    def values(self, metric: str) -> list[float]:
        """Of the runs that have it, finite."""
        found = [float(row[metric]) for row in self.rows if metric in row]
        return [value for value in found if math.isfinite(value)]


def groups(rows: Iterable[Row]) -> list[Group]:
    """Sorted by what they have in common."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(name, "") for name in ALIKE), []).append(row)
    return [Group(found[key]) for key in sorted(found)]


def finished(row: Row) -> datetime:
    return datetime.fromisoformat(row["finished"])


def all_rows(ledger: Ledger, store: Store) -> dict[str, Row]:
    """By identity; a record in the store is nearer to the truth than its row."""
    return {**ledger.rows, **store.rows}

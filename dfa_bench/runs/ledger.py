"""results/runs.csv: one row a run, with its identity and provenance. A run that stands here counts as done."""

from __future__ import annotations

import csv
import dataclasses
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from filelock import FileLock

from dfa_bench.data.resolve import DataCard
from dfa_bench.data.writing import atomic
from dfa_bench.errors import RecordError
from dfa_bench.runs.summary import COLUMNS, REQUIRED, RunSummary

MEND = "Restore it with git, or move it away."
CHECKSUM = "crc32"  # the last column: of the row's other texts; files of earlier versions have none


class Ledger:
    """The runs of runs.csv by identity, read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = self._read()

    def __contains__(self, identity: object) -> bool:
        return identity in self.runs

    def cards(self) -> dict[str, DataCard]:
        """The data sets of the runs by name; of several versions the one that was trained on last."""
        return {run.data_name: run.card for run in sorted(self.runs.values(), key=lambda run: run.finished)}

    def seconds(self) -> dict[str, float]:
        """What each run took."""
        return {run.identity: run.wall_seconds for run in self.runs.values()}

    def add(self, runs: Iterable[RunSummary]) -> None:
        """Add runs, or replace those of the same identity, and write the file whole."""
        added = {run.identity: run.as_in_row() for run in runs}
        if not added:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            self.runs = self._read() | added  # another process may have written meanwhile
            self._write()

    def rename(self, identities: Mapping[str, str]) -> None:
        """Give runs other identities, and write the file whole."""
        with FileLock(self.path.with_suffix(".lock")):
            self.runs = {
                run.identity: run
                for run in (
                    dataclasses.replace(run, identity=identities.get(key, key)) for key, run in self._read().items()
                )
            }
            self._write()

    def _write(self) -> None:
        rows = [run.to_row() for run in sorted(self.runs.values(), key=_order)]
        named = {name for row in rows for name in row}
        columns = [name for name in COLUMNS if name in named or name in REQUIRED] + sorted(named - {*COLUMNS})
        with atomic(self.path) as file:
            writer = csv.DictWriter(file, [*columns, CHECKSUM], restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, CHECKSUM: _checksum(row)} for row in rows)

    def _read(self) -> dict[str, RunSummary]:
        found: dict[str, RunSummary] = {}
        rows = self._rows()
        is_checked = any(CHECKSUM in row for row in rows)
        for row in rows:
            noted = row.pop(CHECKSUM, None)
            if is_checked and noted != _checksum(row):
                raise RecordError(
                    f"{self.path}: the row of the run {row.get('identity')} ({row.get('task')}, {row.get('dataset')}, "
                    f"{row.get('model')}, {row.get('rule')}, seed {row.get('seed')}) was changed: it has "
                    f"{'another' if noted else 'no'} checksum. {MEND}"
                )
            try:
                run = RunSummary.from_row(row)
            except RecordError as error:
                raise RecordError(f"{self.path}: a row {error}: {row}. {MEND}") from None
            first = found.setdefault(run.identity, run)
            if first is not run and first.to_row() != run.to_row():  # as texts, for NaN equals nothing
                raise RecordError(f"{self.path} has two rows that differ for the run {run.identity}. Keep one of them.")
        return found

    def _rows(self) -> list[dict[str, str]]:
        """Cells with a text, by column."""
        if not self.path.exists():
            return []
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                head, *lines = [line for line in csv.reader(file, strict=True) if line] or [[]]
            rows = [dict(zip(head, line, strict=True)) for line in lines]
        except (ValueError, OSError, csv.Error) as error:
            raise RecordError(f"{self.path} cannot be read ({error}). {MEND}") from error
        if missing := [name for name in REQUIRED if name not in head]:
            raise RecordError(
                f"{self.path} has no columns {', '.join(missing)}: it was written by a different version."
            )
        return [{name: text for name, text in row.items() if text} for row in rows]


def _checksum(row: Mapping[str, str]) -> str:
    """Of a row's texts, whatever the order of its columns."""
    return f"{zlib.crc32(repr(sorted(row.items())).encode()):08x}"


def _order(run: RunSummary) -> tuple[str | int, ...]:
    """By what was run: task, data set, model, rule and so on, then by seed."""
    return (run.task, run.dataset, run.model, run.rule, run.variant, run.scale, run.protocol, run.seed)

"""results/runs.csv: one row a run, with its identity and provenance. A run that stands here counts as done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from dfa_bench.data.resolve import DataCard
from dfa_bench.errors import RecordError
from dfa_bench.runs.record import Result, atomic

COLUMNS = [
    "identity",
    "status",
    "task",
    "dataset",
    "model",
    "rule",
    "variant",
    "scale",
    "protocol",
    "seed",
    "epochs",
    "best_epoch",
    "wall_seconds",
    "step_seconds",
    "steps",
    "peak_memory_mib",
    "finished",
    "commit",
    "device",
    "threads",
    "data_name",
    "data_kind",
    "data_rows",
    "data_sha256",
    "versions",
]  # metrics follow, by name
OPTIONAL = {"best_epoch", "commit", "peak_memory_mib"}
WHOLE = {"seed", "epochs", "steps", "threads", "data_rows"}


class Ledger:
    """The rows of runs.csv, read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = self._read()

    def __contains__(self, identity: object) -> bool:
        return identity in self.rows

    def cards(self) -> dict[str, DataCard]:
        """The data sets of the runs by name; of several versions the one that was trained on last."""
        rows = sorted(self.rows.values(), key=lambda row: row["finished"])
        return {
            row["data_name"]: DataCard(row["data_name"], row["data_kind"], int(row["data_rows"]), row["data_sha256"])
            for row in rows
        }

    def add(self, results: Iterable[Result]) -> None:
        """Add runs, or replace those of the same identity, and write the file whole."""
        results = list(results)
        if not results:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            self.rows = self._read()  # another process may have written meanwhile
            for result in results:
                self.rows[result.identity] = row_of(result)
            rows = sorted(self.rows.values(), key=lambda row: [row[name] for name in COLUMNS[2:9]] + [int(row["seed"])])
            metrics = sorted({name for row in rows for name in row} - set(COLUMNS))
            with atomic(self.path) as file:
                pd.DataFrame(rows, columns=[*COLUMNS, *metrics]).to_csv(file, index=False, lineterminator="\n")

    def _read(self) -> dict[str, dict[str, str]]:
        if not self.path.exists():
            return {}
        try:
            frame = pd.read_csv(self.path, dtype=str, keep_default_na=False)
        except (ValueError, OSError) as error:
            raise RecordError(f"{self.path} cannot be read ({error}). Restore it with git, or move it away.") from error
        missing = [name for name in COLUMNS if name not in frame.columns]
        if missing:
            raise RecordError(f"{self.path} lacks the columns {', '.join(missing)}: it is of another version.")
        found: dict[str, dict[str, str]] = {}
        for values in frame.to_dict("records"):
            row = {str(name): str(value) for name, value in values.items() if value != ""}
            if mistake := _mistake(row):
                raise RecordError(f"{self.path}: a row {mistake}: {row}. Restore it with git, or move it away.")
            if found.setdefault(row["identity"], row) != row:
                raise RecordError(
                    f"{self.path} has two rows that differ for the run {row['identity']}. Keep one of them."
                )
        return found


def _mistake(row: Mapping[str, str]) -> str | None:
    """What is wrong with a row, if anything is."""
    if lacking := [name for name in COLUMNS if name not in row and name not in OPTIONAL]:
        return f"lacks {', '.join(lacking)}"
    for name, value in row.items():
        kind = int if name in WHOLE else float if name not in COLUMNS or name == "step_seconds" else None
        try:
            if kind:
                kind(value)
            elif name == "finished":
                datetime.fromisoformat(value)
        except ValueError:
            return f"has {name}={value}"
    return None


def row_of(result: Result) -> dict[str, str]:
    """A result as it stands in the ledger, its metrics with six digits."""
    values: dict[str, Any] = result.model_dump(mode="json")
    data = values["provenance"].pop("data")
    versions = " ".join(f"{name}={number}" for name, number in values["provenance"].pop("versions").items())
    flat = {
        **values,
        **values["cost"],
        **values["provenance"],
        **{f"data_{name}": value for name, value in data.items()},
        "versions": versions,
        "wall_seconds": round(result.cost.wall_seconds, 2),
        "step_seconds": round(result.cost.step_seconds, 6),
        "peak_memory_mib": round(result.cost.peak_memory_mib),
    }
    row = {name: flat[name] for name in COLUMNS} | {name: f"{value:.6g}" for name, value in result.metrics.items()}
    return {name: str(value) for name, value in row.items() if value is not None}

"""Runs for tests, without running anything."""

import csv
from pathlib import Path
from typing import Any

from dfa_bench.runs.ledger import CHECKSUM
from dfa_bench.runs.summary import RunSummary

PLAIN: dict[str, Any] = {
    "status": "finished",
    "task": "nodes",
    "dataset": "Cora",
    "model": "gcn",
    "rule": "bp",
    "variant": "released",
    "scale": "cpu",
    "protocol": "paper",
    "seed": 0,
    "epochs": 3,
    "wall_seconds": 1.5,
    "step_seconds": 0.01,
    "steps": 3,
    "finished": "2026-01-02T00:00:00+00:00",
    "device": "cpu, some processor",
    "threads": 1,
    "data_name": "Cora",
    "data_kind": "real",
    "data_rows": 2708,
    "data_sha256": "0" * 64,
    "versions": "python=3.12.1 torch=2.13.0",
}


def summary(identity: str, seed: int = 0, metrics: dict[str, float] | None = None, **values: Any) -> RunSummary:
    """A run on real data with these metrics."""
    return RunSummary(**{**PLAIN, "identity": identity, "seed": seed, "metrics": metrics or {}, **values})


def unsealed(path: Path) -> list[dict[str, str]]:
    """The rows of a runs.csv without their checksums, which those of earlier versions lack."""
    with path.open(newline="") as file:
        return [{name: text for name, text in row.items() if name != CHECKSUM} for row in csv.DictReader(file)]

"""Tables from the runs that exist, in the run store and in results/runs.csv."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence

from dfa_bench.errors import RecordError
from dfa_bench.experiments.plan import PlannedRun, finished_result, plan, seeds_in_store
from dfa_bench.experiments.request import Request
from dfa_bench.experiments.schema import Cell, Experiment
from dfa_bench.reporting.tables import Run, Table
from dfa_bench.runs.ledger import COLUMNS, Ledger, row_of
from dfa_bench.settings.schema import RunSettings


@dataclasses.dataclass(frozen=True)
class Existing:
    """A table from the runs that exist, and the settings of a run of each of its cells."""

    table: Table
    settings: Mapping[Cell, RunSettings]


def existing(request: Request) -> list[Existing]:
    """The tables that were asked for, with the first N seeds or all that are done. Runs nothing."""
    ledger = Ledger(request.results / "runs.csv")
    seeds = range(request.seeds or seeds_done(request, ledger))
    cards = ledger.cards()
    found = []
    for experiment in request.experiments:
        runs = plan(experiment, seeds, request.overrides, cards)
        table = build_table(experiment, runs, ledger)
        for problem in table.problems:
            print(problem, file=sys.stderr)
        found.append(Existing(table, {run.cell: run.settings for run in reversed(runs)}))
    return found


def seeds_done(request: Request, ledger: Ledger) -> int:
    """One more than the highest seed in the ledger or the run store."""
    in_ledger = [int(row["seed"]) for row in ledger.rows.values()]
    return max(max(in_ledger, default=0) + 1, seeds_in_store(request.overrides))


def build_table(experiment: Experiment, runs: Sequence[PlannedRun], ledger: Ledger) -> Table:
    """A table from all runs of a plan that are in the store or in the ledger.

    A record that cannot be read is left out, and the table says so.
    """
    found: dict[Cell, list[Run]] = {}
    problems: dict[str, None] = {}
    for run in runs:
        row = ledger.rows.get(run.identity)
        try:
            result = finished_result(run)
        except RecordError as error:
            problems[str(error)] = None
        else:
            row = row_of(result) if result else row
        if row is not None:
            found.setdefault(run.cell, []).append(run_of(row))
    stand_in, changed = any(is_stand_in(run.settings) for run in runs), any(run.changed for run in runs)
    return Table(experiment, found, stand_in, [*problems], changed)


def run_of(row: Mapping[str, str]) -> Run:
    """A row of runs.csv, for tables."""
    metrics = {name: float(value) for name, value in row.items() if name not in COLUMNS}
    return Run(
        identity=row["identity"],
        seed=int(row["seed"]),
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        scale=row["scale"],
        protocol=row["protocol"],
        data_kind=row["data_kind"],
        commit=row.get("commit"),
        diverged=row["status"] == "diverged",
        finished=row["finished"],
        device=row["device"],
        threads=int(row["threads"]),
        versions=row.get("versions", ""),
        data_name=row["data_name"],
        data_rows=int(row["data_rows"]),
        step_seconds=float(row["step_seconds"]),
        peak_memory_mib=float(row.get("peak_memory_mib", "nan")),
    )


def is_stand_in(settings: RunSettings) -> bool:
    return settings.data.stand_in or settings.scale == "smoke"

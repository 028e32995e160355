"""Tables from the runs that exist, in the run store and in results/runs.csv."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence

from dfa_bench.errors import RecordError
from dfa_bench.experiments.plan import PlannedRun, finished_result, is_trial, plan, seeds_in_store
from dfa_bench.experiments.request import Request
from dfa_bench.experiments.schema import Cell, Experiment
from dfa_bench.reporting.tables import Table
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.summary import RunSummary
from dfa_bench.settings.schema import RunSettings


@dataclasses.dataclass(frozen=True)
class Existing:
    """A table from the runs that exist, and the settings of a run of each of its cells."""

    table: Table
    settings: Mapping[Cell, RunSettings]


def existing(request: Request) -> list[Existing]:
    """The tables that were asked for, with the first N seeds or all that are done. Runs nothing."""
    ledger = request.ledger()
    seeds = range(request.seeds or seeds_done(request, ledger))
    cards = ledger.cards()
    found = []
    for experiment in request.experiments:
        runs = plan(experiment, seeds, request.overrides, cards)
        table = build_table(experiment, runs, ledger)
        for problem in table.problems:
            print(problem, file=sys.stderr)
        if lacking := dict.fromkeys(run.settings.dataset.name for run in runs if not run.has_data):
            where = "`dfa-bench data` says where to get them."
            print(f"{experiment.name}: no data here for {', '.join(lacking)}. {where}", file=sys.stderr)
        found.append(Existing(table, {run.cell: run.settings for run in reversed(runs)}))
    return found


def seeds_done(request: Request, ledger: Ledger) -> int:
    """One more than the highest seed in the ledger or the run store."""
    in_ledger = max((run.seed for run in ledger.runs.values()), default=0)
    return max(in_ledger + 1, seeds_in_store(request.overrides))


def build_table(experiment: Experiment, runs: Sequence[PlannedRun], ledger: Ledger) -> Table:
    """A table from all runs of a plan that are in the store or in the ledger.

    A record that cannot be read is left out, and the table says so.
    """
    found: dict[Cell, list[RunSummary]] = {}
    problems: dict[str, None] = {}
    for run in runs:
        known = ledger.runs.get(run.identity)
        try:
            result = finished_result(run)
        except RecordError as error:
            problems[str(error)] = None
        else:
            known = result.as_in_row() if result else known
        if known:
            found.setdefault(run.cell, []).append(known)
    trial, changed = any(is_trial(run.settings) for run in runs), any(run.changed for run in runs)
    return Table(experiment, found, trial, [*problems], changed, {run.cell for run in runs})

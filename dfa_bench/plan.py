"""Which runs a table needs, and which of them are done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dfa_bench.compose import compose_run, settings_of, typed
from dfa_bench.reporting.experiment import Cell, Experiment
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.record import Result
from dfa_bench.runs.store import record_of
from dfa_bench.settings import RunSettings
from dfa_bench.training.execute import run_identity


@dataclass(frozen=True)
class PlannedRun:
    cell: Cell
    overrides: tuple[str, ...]  # of `dfa-bench run`
    settings: RunSettings
    identity: str

    @property
    def command(self) -> str:
        return " ".join(["dfa-bench run", *self.overrides, f"seed={self.settings.seed}"])


def plan(experiment: Experiment, seeds: Sequence[int], overrides: Sequence[str]) -> list[PlannedRun]:
    """All runs of an experiment.

    Args:
        experiment: the table.
        seeds: one run of each cell for each of them.
        overrides: further ones, the same for all runs.

    Raises:
        ConfigError: an override names an unknown group, option or key, or an impossible value.
    """
    planned = []
    for cell in experiment.cells():
        chosen = (*cell.overrides, *overrides)
        config = compose_run(chosen)
        # An experiment's cells are the configs' own choices; only further overrides can leave the paper's protocol.
        protocol = (settings_of(config) if overrides else typed(config)).protocol
        for seed in seeds:
            config.seed = seed
            settings = typed(config).model_copy(update={"protocol": protocol})
            planned.append(PlannedRun(cell, chosen, settings, run_identity(settings)[0]))
    return planned


def finished_result(run: PlannedRun) -> Result | None:
    """The result of a planned run in the store, if it is there."""
    return record_of(run.settings, run.identity).read_result()


def missing(runs: Sequence[PlannedRun], ledger: Ledger) -> list[PlannedRun]:
    """The runs that are neither in the ledger nor in the store, each once, the longest first."""
    todo = {run.identity: run for run in runs if run.identity not in ledger and finished_result(run) is None}
    return sorted(todo.values(), key=lambda run: -run.cell.cost)

"""Which runs a table needs, and which of them are done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dfa_bench.data.resolve import DataCard
from dfa_bench.errors import CorruptData, MissingData, RecordError
from dfa_bench.experiments.protocol import about, changes_outcome, settings_of
from dfa_bench.experiments.schema import Cell, Experiment
from dfa_bench.runs.identity import identity
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.record import Record
from dfa_bench.runs.store import record_of, stored_seeds
from dfa_bench.runs.summary import RunSummary
from dfa_bench.settings.compose import compose_run, typed
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import task_class
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


def plan(
    experiment: Experiment,
    seeds: Sequence[int],
    overrides: Sequence[str],
    cards: Mapping[str, DataCard] | None = None,
    fetch: Callable[[RunSettings], None] | None = None,
) -> list[PlannedRun]:
    """All runs of an experiment. Downloads nothing.

    Args:
        experiment: the table.
        seeds: one run of each cell for each of them.
        overrides: further ones, the same for all runs.
        cards: of data sets by name, for those whose files are not here: so that runs on other machines are found.
        fetch: is called with every cell's settings before its data are looked for, and may get them.

    Raises:
        ConfigError: an override names an unknown group, option or key, or an impossible value.
    """
    planned = []
    for cell in experiment.cells():
        chosen = (*cell.overrides, *overrides)
        config = compose_run(chosen)
        if (scales := experiment.columns[cell.column].scales) and config.scale not in scales:
            continue
        # Cells that are nothing but the configs' own choices keep the protocol without a second look.
        protocol = (settings_of(config) if changes_outcome(chosen) else typed(config)).protocol
        if fetch:
            fetch(typed(config))
        for seed in (each for each in seeds if experiment.seeds is None or each < experiment.seeds):
            config.seed = seed
            settings = typed(config).model_copy(update={"protocol": protocol})
            planned.append(PlannedRun(cell, chosen, settings, identity_of(settings, cards or {})))
    return planned


def identity_of(settings: RunSettings, cards: Mapping[str, DataCard]) -> str:
    """The identity of a run; by a card where its data are not here. Downloads nothing."""
    here = settings.model_copy(update={"data": settings.data.model_copy(update={"download": False})})
    try:
        return run_identity(here)[0]
    except (MissingData, CorruptData):
        name = settings.dataset.name
        nothing = DataCard(name, "real", 0, "")  # the identity of no run
        return identity(settings, cards.get(name, nothing), task_class(settings).version)


def stored(
    experiment: Experiment, seeds: int, overrides: Sequence[str], cards: Mapping[str, DataCard] | None = None
) -> list[tuple[PlannedRun, RunSummary, Record]]:
    """The runs of an experiment that are in the store, of the first `seeds` seeds; 0: of all that are there."""
    found = []
    for run in plan(experiment, range(seeds or seeds_in_store(overrides)), overrides, cards):
        record = record_of(run.settings, run.identity)
        if result := readable_result(run):
            found.append((run, result, record))
    return found


def seeds_in_store(overrides: Sequence[str]) -> int:
    """One more than the highest seed in the run store."""
    return 1 + max(stored_seeds(typed(compose_run(about(["store"], overrides))).store), default=0)


def finished_result(run: PlannedRun) -> RunSummary | None:
    """The result of a planned run in the store, if it is there.

    Raises:
        RecordError: it is damaged or of another version.
    """
    return record_of(run.settings, run.identity).read_result()


def readable_result(run: PlannedRun) -> RunSummary | None:
    """The same; a record that cannot be read is told, and is none."""
    try:
        return finished_result(run)
    except RecordError as error:
        print(error, file=sys.stderr)
        return None


def missing(runs: Sequence[PlannedRun], ledger: Ledger) -> list[PlannedRun]:
    """The runs that are neither in the ledger nor in the store, each once, the longest first."""
    todo = {run.identity: run for run in runs if run.identity not in ledger and readable_result(run) is None}
    return sorted(todo.values(), key=lambda run: -run.cell.cost)

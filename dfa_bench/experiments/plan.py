"""Which runs a table needs, and which of them are done."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dfa_bench.data.resolve import DataCard, cache_folder
from dfa_bench.errors import ConfigError, CorruptData, MissingData, RecordError, without_secrets
from dfa_bench.experiments.outcomes import planned_cells
from dfa_bench.experiments.schema import Cell, Experiment
from dfa_bench.runs.identity import identity_from
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.record import Record
from dfa_bench.runs.store import record_of, stored_seeds
from dfa_bench.runs.summary import RunSummary
from dfa_bench.settings.overrides import is_whereabouts, key_of, whereabouts
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import data_card


@dataclass(frozen=True)
class PlannedRun:
    cell: Cell
    overrides: tuple[str, ...]  # of `dfa-bench run`
    settings: RunSettings
    identity: str
    changed: bool  # by the user's overrides: a run of another experiment than the cell's
    has_data: bool = True  # here, or known from runs on other machines

    @property
    def command(self) -> str:
        return without_secrets(" ".join(["dfa-bench run", *self.overrides, f"seed={self.settings.seed}"]))


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
        ConfigError: an override names an unknown group, option or key, or value, or sets what a cell sets.
    """
    if given := next((each for each in overrides if key_of(each) == "seed"), None):
        raise ConfigError(f"{given}: choose the seeds of a table with --seeds N.")
    store, data = whereabouts(overrides)
    others = [each for each in overrides if not is_whereabouts(each)]
    wanted = [seed for seed in seeds if experiment.seeds is None or seed < experiment.seeds]
    places = {"store": store.model_dump(), "data": data.model_dump()}
    here = CardsHere(cards or {})
    planned = []
    for found in planned_cells(experiment, others, 1 + max(wanted, default=0), cache_folder(data)):
        chosen = (*found.cell.overrides, *overrides)
        if fetch:
            fetch(found.settings(0, places))
        for seed in wanted:
            settings = found.settings(seed, places)
            card = here.of(settings)
            key = identity_from(found.outcomes[seed], card, found.task_version)
            planned.append(PlannedRun(found.cell, chosen, settings, key, found.changed, card != unknown(settings)))
    return planned


def is_trial(settings: RunSettings) -> bool:
    """Whether a run of any experiment is planned only to see that it runs: on the stand-in, or at scale smoke.

    A run that is done knows itself whether it is a `stand_in`: that of an experiment on generated data is one too.
    """
    return settings.data.stand_in or settings.scale == "smoke"


def marked(name: str, stand_in: bool) -> str:
    """A row or panel with a mark if its numbers are a stand-in's, unless its name says so already."""
    return f"{name} (stand-in)" if stand_in and "stand-in" not in name else name


def file_suffix(stand_in: bool, changed: bool) -> str:
    """What the name of a file of results ends with, so that nothing stands there as what it is not."""
    return "-stand-in" if stand_in else "-changed" if changed else ""


class CardsHere:
    """Cards of data, each looked for once: by the files, else by those given. Downloads nothing."""

    def __init__(self, others: Mapping[str, DataCard]) -> None:
        self._others = others
        self._found: dict[str, DataCard] = {}

    def of(self, settings: RunSettings) -> DataCard:
        """The card of a run's data; where there is none, one that makes the identity of no run."""
        data = settings.data.model_copy(update={"download": False})
        key = json.dumps([part.model_dump(mode="json") for part in (settings.task, settings.dataset, data)])
        if key not in self._found:
            name = settings.dataset.name
            try:
                self._found[key] = data_card(settings.model_copy(update={"data": data}))
            except (MissingData, CorruptData):
                self._found[key] = self._others.get(name, unknown(settings))
        return self._found[key]


def unknown(settings: RunSettings) -> DataCard:
    """The card of data that are not here, which makes the identity of no run."""
    return DataCard(settings.dataset.name, "real", 0, "")


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
    return 1 + max(stored_seeds(whereabouts(overrides)[0]), default=0)


def finished_result(run: PlannedRun) -> RunSummary | None:
    """The result of a planned run in the store, if it is there.

    Raises:
        RecordError: it is damaged or of another version.
    """
    return record_of(run.settings, run.identity).read_result()


def readable_result(run: PlannedRun) -> RunSummary | None:
    """The same; None too, with a line that says why, if the record cannot be read."""
    try:
        return finished_result(run)
    except RecordError as error:
        print(error, file=sys.stderr)
        return None


def missing(runs: Sequence[PlannedRun], ledger: Ledger) -> list[PlannedRun]:
    """The runs that are neither in the ledger nor in the store, each once, the longest first."""
    todo = {run.identity: run for run in runs if run.identity not in ledger and readable_result(run) is None}
    return sorted(todo.values(), key=lambda run: -run.cell.cost)

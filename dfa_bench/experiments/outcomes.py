"""What the cells of a table come to: settings and outcome digests, composed once and kept in the cache.

Composing takes Hydra some 70 ms a cell and the digest imports a model's class, so PyTorch: seconds for a table, in
which nothing changes until a configuration, an experiment or the code does.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dfa_bench.data.writing import atomic, sealed, unsealed
from dfa_bench.experiments.schema import Cell, Experiment
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.schema import RunSettings
from dfa_bench.settings.trust import by_user

FOLDER = "plans"  # of the cache
KEPT = 100  # plans; the oldest go


@dataclass(frozen=True)
class PlannedCell:
    """A cell with a user's overrides, before it is known where records and data lie.

    Args:
        cell: of the table.
        changed: the overrides make another experiment of it.
        task_version: of its task's numerics.
        outcomes: digest of the outcome settings, by seed from 0 on.
        values: settings of seed 0, as plain values.
        follow: places in them that follow the seed.
    """

    cell: Cell
    changed: bool
    task_version: int
    outcomes: Sequence[str]
    values: Mapping[str, Any]
    follow: Sequence[Sequence[str]]

    def settings(self, seed: int, places: Mapping[str, Any]) -> RunSettings:
        """Those of one seed, with `store` and `data` as given; whether data are generated stays as composed."""
        values = copy.deepcopy(dict(self.values))
        for path in self.follow:
            *parents, last = path
            inner = values
            for name in parents:
                inner = inner[name]
            inner[last] = seed
        for name, given in places.items():
            values[name] = {**values[name], **{key: each for key, each in given.items() if key != "stand_in"}}
        return RunSettings.model_validate(values)


def planned_cells(experiment: Experiment, overrides: Sequence[str], seeds: int, cache: Path) -> list[PlannedCell]:
    """The cells of an experiment that have runs at the scale of the overrides.

    Args:
        experiment: the table.
        overrides: of all its runs, without those that say where things lie.
        seeds: how many there may be.
        cache: its folder.

    Raises:
        ConfigError: see `protocol.place`.
    """
    path = cache / FOLDER / f"{_key(experiment, overrides)}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError):  # none, or damaged: made anew
        kept = unsealed(path.read_bytes())
        if kept["seeds"] >= seeds:
            cells = experiment.cells()
            return [PlannedCell(cells[each.pop("number")], **each) for each in kept["cells"]]
    found = list(_compose(experiment, overrides, seeds))
    with contextlib.suppress(Exception):  # a cache that cannot be written costs time only
        _keep(path, seeds, found)
    return [cell for _, cell in found]


def _keep(path: Path, seeds: int, found: Sequence[tuple[int, PlannedCell]]) -> None:
    cells = [{"number": number} | {k: v for k, v in vars(cell).items() if k != "cell"} for number, cell in found]
    with atomic(path) as file:
        file.write(sealed({"seeds": seeds, "cells": cells}))
    for old in sorted(path.parent.glob("*.json"), key=lambda each: each.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)


def _key(experiment: Experiment, overrides: Sequence[str]) -> str:
    """Changes with the overrides, the configurations, the experiments, and the code whose classes they name."""
    folders = [resource_folder("configs"), resource_folder("experiments"), Path(__file__).parents[1], *_trusted_code()]
    found = [path for each in folders for path in (sorted(each.rglob("*")) if each.is_dir() else [each])]
    files = [path for path in found if path.suffix in (".yaml", ".py")]
    stats = [(path, path.stat()) for path in files]
    code = [version(name) for name in ("torch", "torch-geometric")]  # whose classes may be named too
    code += [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
    return hashlib.sha256("\n".join([experiment.name, *overrides, *code]).encode()).hexdigest()[:32]


def _trusted_code() -> Iterator[Path]:
    """Folders and files of the packages that the user trusts."""
    for name in by_user():
        if spec := importlib.util.find_spec(name.partition(".")[0]):  # of a dotted name, it would import the parent
            yield from map(Path, spec.submodule_search_locations or filter(None, [spec.origin]))


def _compose(experiment: Experiment, overrides: Sequence[str], seeds: int) -> Iterator[tuple[int, PlannedCell]]:
    from dfa_bench.experiments.protocol import place  # Hydra and PyTorch, which a plan in the cache does without
    from dfa_bench.runs.outcome import digest, outcome_settings
    from dfa_bench.settings.compose import to_settings
    from dfa_bench.tasks.base import task_class

    for number, cell in enumerate(experiment.cells()):
        placed = place(cell.overrides, overrides, is_paper=experiment.kind == "paper")
        if not experiment.has_runs(cell, placed.config.scale):
            continue
        values = []
        for seed in (0, 1):
            placed.config.seed = seed
            settings = to_settings(placed.config).model_copy(update={"protocol": placed.settings.protocol})
            values.append(settings.model_dump(mode="json", by_alias=True))
        found = PlannedCell(
            cell, placed.changed, task_class(placed.settings).version, (), values[0], [*_differ(values[0], values[1])]
        )
        outcomes = [digest(outcome_settings(found.settings(seed, {}))) for seed in range(seeds)]
        yield number, dataclasses.replace(found, outcomes=outcomes)


def _differ(first: Any, second: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Places in which nested values differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in first:
            yield from _differ(first[name], second.get(name), (*path, name))
    elif first != second:
        yield path

"""Which protocol a run is of, and whether overrides make another experiment."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from omegaconf import DictConfig

from dfa_bench.errors import ConfigError
from dfa_bench.experiments.schema import load_experiments
from dfa_bench.runs.identity import NEUTRAL, outcome_settings
from dfa_bench.settings.compose import compose_run, resource_folder, typed
from dfa_bench.settings.schema import RunSettings


def settings_of(config: DictConfig) -> RunSettings:
    """The typed settings of a composed configuration.

    `protocol` stays "paper" only if this is what the configs compose to by themselves for the chosen parts, or what a
    cell of one of the paper's tables is.

    Raises:
        ConfigError: a key is unknown, or has an impossible value.
    """
    settings = typed(config)
    if settings.protocol == "paper" and not _is_the_papers(settings):
        settings = settings.model_copy(update={"protocol": "reduced"})
    return settings


def changes_outcome(overrides: Sequence[str]) -> bool:
    """Whether overrides set hyperparameters, and not only choose parts or say where things lie."""
    keys = [override.partition("=")[0].lstrip("+~") for override in overrides]
    return any("." in key and key not in NEUTRAL and key.partition(".")[0] not in NEUTRAL for key in keys)


def about(parts: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The overrides of some parts of the settings, which need no others to compose: "store", "logger"."""
    return [each for each in overrides if each.partition("=")[0].lstrip("+~").partition(".")[0] in parts]


def apart(stand_in: bool, overrides: Sequence[str]) -> str:
    """What the name of a file of results ends with, so that nothing stands there as what it is not."""
    return "-stand-in" if stand_in else "-changed" if changes_outcome(overrides) else ""


def _is_the_papers(settings: RunSettings) -> bool:
    if settings.data.stand_in:
        return False
    parts = [
        f"task={settings.task.name}",
        f"model={settings.model.name}",
        f"dataset={settings.dataset.name.lower()}",
        f"rule={settings.rule.name}",
    ]
    rest = [f"variant={settings.variant}", f"scale={settings.scale}", f"seed={settings.seed}"]
    if _composes_to(settings, [*parts, *rest]):
        return True
    chosen = {f"task={settings.task.name}", f"model={settings.model.name}", f"rule={settings.rule.name}"}
    return any(
        _composes_to(settings, [each for each in overrides if not each.startswith("variant=")] + rest)
        for overrides in _choices_of_tables()
        if chosen <= {*overrides}
    )


@functools.cache
def _choices_of_tables() -> list[tuple[str, ...]]:
    """Overrides of those cells of the paper's tables that choose a recipe or feedback; the others are the defaults."""
    return [
        cell.overrides
        for name, table in load_experiments(resource_folder("experiments")).items()
        if re.fullmatch(r"table\d", name)
        for cell in table.cells()
        if any(each.startswith(("recipe=", "feedback=")) for each in cell.overrides)
        and not changes_outcome(cell.overrides)
    ]


def _composes_to(settings: RunSettings, overrides: Sequence[str]) -> bool:
    try:
        return outcome_settings(typed(compose_run(overrides))) == outcome_settings(settings)
    except ConfigError:
        return False

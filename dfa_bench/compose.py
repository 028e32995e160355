"""Compose a configuration from `configs/` the way `dfa-bench run` does, without running it."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dfa_bench.errors import ConfigError
from dfa_bench.reporting.experiment import load_experiments
from dfa_bench.runs.identity import NEUTRAL, outcome_settings
from dfa_bench.settings import RunSettings, parse_settings

HYDRA_ERRORS = (HydraException, OmegaConfBaseException, ValueError)  # a group that is no text is a bare ValueError


def resource_folder(name: str) -> Path:
    """`configs` or `experiments`: of the source checkout, or of the installed wheel."""
    package = Path(__file__).parent
    installed = package / f"_{name}"
    return installed if installed.is_dir() else package.parent / name


def compose_run(overrides: Sequence[str]) -> DictConfig:
    """The composed configuration of a run, before interpolation.

    Raises:
        ConfigError: an override names an unknown group, option or key.
    """
    try:
        if GlobalHydra.instance().is_initialized():  # inside a job of `dfa-bench run`
            return compose("run", overrides=list(overrides))
        with initialize_config_dir(str(resource_folder("configs")), version_base="1.3"):
            return compose("run", overrides=list(overrides))
    except HYDRA_ERRORS as error:
        raise ConfigError(explain_hydra(error)) from None


def explain_hydra(error: Exception) -> str:
    """What Hydra or OmegaConf refuse, in one sentence."""
    text = str(error)
    if found := re.match(r"Could not override '(.*?)'\.\n(No match in the defaults list)?", text):
        what = "group" if found[2] else "setting"
        return f"There is no {what} '{found[1]}'. `dfa-bench run --help` lists the groups, `--cfg job` the settings."
    if found := re.search(r"Could not find '(.*?)'\n\nAvailable options in '(.*?)':\n((?:\t.*\n)*)", text):
        return f"There is no '{found[1]}'. {found[2]} can be {', '.join(found[3].split())}."
    if found := re.match(r"Config group override must be a string or a list\. Got (\w+)", text):
        return (
            f"A group takes the name of a choice, not null or a number ({found[1]}). `dfa-bench run --help` lists them."
        )
    return " ".join(line.strip() for line in text.splitlines() if line.strip() and "See https" not in line)


def typed(config: DictConfig) -> RunSettings:
    """The typed settings of a composed configuration as it stands.

    Raises:
        ConfigError: a key is unknown, or has an impossible value.
    """
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_hydra(error)) from None
    assert isinstance(values, dict)
    return parse_settings({str(key): value for key, value in values.items() if key != "hydra"})


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

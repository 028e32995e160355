"""Which protocol a run is of, and whether overrides make another experiment of a place in a table or figure."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from dfa_bench.errors import ConfigError
from dfa_bench.experiments.schema import load_experiments
from dfa_bench.runs.outcome import outcome_settings
from dfa_bench.settings.compose import compose_config, compose_settings, to_settings
from dfa_bench.settings.overrides import key_of
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.schema import RunSettings, TrainerSettings

FULL_PRECISION = TrainerSettings.model_fields["precision"].default


@dataclass(frozen=True)
class Placed:
    """A run that a table or a figure needs, with a user's overrides.

    Args:
        config: as composed; its seed may still be set.
        settings: of it as it stands, with their protocol.
        changed: the overrides change its outcome, so it is no run of that place.
    """

    config: DictConfig
    settings: RunSettings
    changed: bool


def place(own: Sequence[str], overrides: Sequence[str], is_paper: bool = False) -> Placed:
    """Compose a run of a place, and decide whether it still is one.

    It is if its outcome settings are those of the place by itself, at the same scale.

    Args:
        own: overrides that make the place: a cell's, or those of a figure's panel.
        overrides: the user's.
        is_paper: the place is one of the paper's tables, which may choose recipes and feedback of their own.

    Raises:
        ConfigError: an override sets what the place sets itself, or cannot be composed.
    """
    _refuse_own(own, overrides)
    config = compose_config([*own, *overrides])
    settings = to_settings(config)
    scale = [each for each in overrides if key_of(each) == "scale"]
    by_itself = settings if scale == [*overrides] else _composed((*own, *scale))
    changed = outcome_settings(settings) != outcome_settings(by_itself)
    if is_paper and not changed and _may_be_paper(settings):
        return Placed(config, settings.model_copy(update={"protocol": by_itself.protocol}), changed)
    return Placed(config, with_protocol(settings), changed)


def run_settings(overrides: Sequence[str]) -> RunSettings:
    """The settings of a run with these overrides, with the protocol that follows from them.

    Raises:
        ConfigError: an override is unknown, or has an impossible value.
    """
    return with_protocol(compose_settings(overrides))


def with_protocol(settings: RunSettings) -> RunSettings:
    """Settings with the protocol that follows from them.

    It is that of the configs' own composition of the same parts, or of a cell of the paper's tables, if one of them has
    the same outcome settings; else "reduced". Generated data, lower precision and `variant=clean` are never the
    paper's protocol.
    """
    protocol = "reduced"
    if _may_be_paper(settings):
        outcome = outcome_settings(settings)
        same = (each for each in _references(settings) if outcome_settings(each) == outcome)
        protocol = next((each.protocol for each in same), "reduced")
    return settings.model_copy(update={"protocol": protocol})


def refuse_protocol(overrides: Sequence[str]) -> None:
    """Raises ConfigError if the protocol is set by hand."""
    if given := next((each for each in overrides if key_of(each) == "protocol"), None):
        raise ConfigError(f"{given}: a run's protocol follows from its settings and data and cannot be set.")


def _refuse_own(own: Sequence[str], overrides: Sequence[str]) -> None:
    refuse_protocol(overrides)
    taken = {key_of(each): each for each in own}
    for override in overrides:
        key = key_of(override)
        if key in taken:
            raise ConfigError(
                f"{override}: {key} is set by this table or figure ({taken[key]}). Leave it out, or train runs of "
                f"your own with `dfa-bench run {override}`."
            )


def _may_be_paper(settings: RunSettings) -> bool:
    is_papers_model = settings.variant != "clean"
    full = settings.trainer.precision == FULL_PRECISION and not settings.trainer.tf32
    return is_papers_model and full and not settings.data.stand_in


def _references(settings: RunSettings) -> Iterator[RunSettings]:
    """Compositions that a run's protocol may come from: of its parts, then of cells of the paper's tables.

    None, for a task, model and rule that no table of the paper has together: the paper set no protocol for them.
    """
    task, model, rule = (f"{part}={getattr(settings, part).name}" for part in ("task", "model", "rule"))
    rest = [f"variant={settings.variant}", f"scale={settings.scale}", f"seed={settings.seed}"]
    cells = [cell for cell in _cells_of_tables() if {task, model, rule} <= {*cell}]
    candidates = [[task, model, f"dataset={settings.dataset.name.lower()}", rule]] if cells else []
    for cell in cells:
        if {"recipe", "feedback"} & {key_of(each) for each in cell}:  # the others are the defaults
            candidates.append([each for each in cell if key_of(each) != "variant"])
    for candidate in candidates:
        try:
            yield _composed((*candidate, *rest))
        except ConfigError:  # a data set of the user's own, a rule without this model: no reference
            continue


@functools.lru_cache(maxsize=1024)  # cells share most of them
def _composed(overrides: tuple[str, ...]) -> RunSettings:
    return compose_settings(overrides)


@functools.cache
def _cells_of_tables() -> list[tuple[str, ...]]:
    """The overrides of every cell of the paper's tables."""
    return [
        cell.overrides
        for experiment in load_experiments(resource_folder("experiments")).values()
        if experiment.kind == "paper"
        for cell in experiment.cells()
    ]

"""Overrides as the user gives them: `recipe.lr=0.1`, `+model.foo=1`, `scale=paper`."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError

from dfa_bench.errors import ConfigError
from dfa_bench.settings.schema import DataSettings, StoreSettings, explain


def key_of(override: str) -> str:
    """The group or setting that an override is about."""
    return override.partition("=")[0].lstrip("+~").partition("@")[0]


def is_whereabouts(override: str) -> bool:
    """Whether an override only says where records and data lie: not even generated data are chosen by it."""
    part, _, name = key_of(override).partition(".")
    return bool(name) and (part == "store" or (part == "data" and name != "stand_in"))


def whereabouts(overrides: Sequence[str]) -> tuple[StoreSettings, DataSettings]:
    """Where records and data lie, by those overrides that say so; nothing else is composed for it.

    Raises:
        ConfigError: there is no such setting, or a value is impossible.
    """
    given = [override.lstrip("+") for override in overrides if is_whereabouts(override)]
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist(given))
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{' '.join(given)}: {str(error).splitlines()[0]}") from None
    assert isinstance(values, dict)
    store, data = values.get("store", {}), values.get("data", {})
    try:
        return StoreSettings.model_validate(store), DataSettings.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain(error)) from None

"""Compose a configuration from `configs/` the way `dfa-bench run` does, without running it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dfa_bench.errors import ConfigError, did_you_mean
from dfa_bench.settings import resolvers, scenes
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.schema import RunSettings, parse_settings, unknown_setting

# In every process that composes: workers of a sweep import this module too.
resolvers.register()
scenes.register()

HYDRA_ERRORS = (HydraException, OmegaConfBaseException, ValueError)  # a group that is no text is a bare ValueError


def compose_config(overrides: Sequence[str]) -> DictConfig:
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
        if not found[2]:
            return unknown_setting(found[1])
        return f"unknown group '{found[1]}'. `dfa-bench run --help` lists the groups, `--cfg job` the settings."
    if found := re.search(r"Could not find '(.*?)'\n\nAvailable options in '(.*?)':\n((?:\t.*\n)*)", text):
        options = found[3].split()
        close = did_you_mean(found[1].rpartition("/")[2], options)
        return f"unknown option '{found[1]}'.{close} {found[2]} can be {', '.join(options)}."
    if found := re.match(r"Config group override must be a string or a list\. Got (\w+)", text):
        return f"A group takes the name of an option, not null or a number ({found[1]}). See `dfa-bench run --help`."
    if found := re.search(r"Missing mandatory value: .*\n\s*full_key: (\S+)", text):
        return f"The setting '{found[1]}' is missing. Give it as {found[1]}=VALUE."
    return " ".join(line.strip() for line in text.splitlines() if line.strip() and "See https" not in line)


def compose_settings(overrides: Sequence[str]) -> RunSettings:
    """The settings of a run with these overrides, with the protocol that `configs/` state.

    Raises:
        ConfigError: an override is unknown, or has an impossible value.
    """
    return to_settings(compose_config(overrides))


def to_settings(config: DictConfig) -> RunSettings:
    """The typed settings of a composed configuration.

    Raises:
        ConfigError: a key is unknown, or has an impossible value.
    """
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_hydra(error)) from None
    assert isinstance(values, dict)
    return parse_settings({str(key): value for key, value in values.items() if key != "hydra"})

"""Classes that a configuration names: found, and told apart by registered names and the arguments that matter."""

from __future__ import annotations

import functools
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from dfa_bench.errors import ConfigError
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.schema import Component
from dfa_bench.settings.trust import check_class, check_targets

# Arguments that say where the files of a data set are and how to recognise them. Their checksum identifies a run.
WHEREABOUTS = frozenset(
    {"tasks", "url", "source", "sha256", "words", "lines", "bytes", "nodes", "archive", "folder", "file"}
)


def import_class(component: Component, part: str) -> Any:
    """The class of a component.

    Raises:
        ConfigError: it cannot be imported.
        Untrusted: it is code that settings may not name.
    """
    check_targets({"_target_": component.target})  # before the import, which executes a module
    try:
        found = pkgutil.resolve_name(component.target)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{part}._target_={component.target} cannot be imported: {error}.") from error
    check_class(component.target, found)
    return found


def outcome_of(component: Component, part: str) -> dict[str, Any]:
    """What of a component can change a run's outcome: its name, and the arguments that differ from the defaults.

    The dotted path of its class is left out, so that code can move; only a class that `configs/` does not have under
    this name is told apart by it. A model whose numerics or initial values have changed states a `version` above 1.
    """
    target = import_class(component, part)
    parameters = _parameters(target)
    ignored = WHEREABOUTS if part == "dataset" else frozenset({"tasks"})
    found = {
        name: _nested(value)
        for name, value in component.arguments.items()
        if name not in ignored and not (name in parameters and _same(value, parameters[name].default))
    }
    if not _is_registered(component, part):
        found["class"] = component.target
    if part == "model" and (version := getattr(target, "version", 1)) != 1:
        found["version"] = version
    return {"name": component.name, **found}


def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except ValueError:  # written in C, without a signature
        return {}


def _nested(value: Any) -> Any:
    """An argument that is itself a data set, such as the corpus of a tokenizer, is reduced by the same rules."""
    is_component = isinstance(value, Mapping) and "_target_" in value
    return outcome_of(Component.model_validate(value), "dataset") if is_component else value


def _same(value: Any, default: Any) -> bool:
    return bool(value == (list(default) if isinstance(default, tuple) else default))


def _is_registered(component: Component, part: str) -> bool:
    targets = registered(part)
    # A file without a name ("???") is one for a kind of data sets, whose names users choose.
    return component.target in (targets.get(component.name), *targets.get("???", ()))


@functools.cache
def registered(part: str) -> Mapping[str, Any]:
    """Of a group of `configs/`: name to dotted class; below "???" the classes of files that leave the name open."""
    found: dict[str, Any] = {}
    for path in sorted((resource_folder("configs") / part).glob("*.yaml")):
        values = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(values, dict)
        component = values.get(part, values)
        if "_target_" not in component:
            continue
        if component["name"] == "???":
            found["???"] = (*found.get("???", ()), component["_target_"])
        else:
            found[component["name"]] = component["_target_"]
    return found

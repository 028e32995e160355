"""The learning rules that there are: one file each in `configs/rule/`, the only place that makes a rule known."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from dfa_bench.errors import ConfigError
from dfa_bench.settings.resources import resource_folder


class RuleEntry(BaseModel):
    """What `configs/rule/NAME.yaml` says of a rule, apart from the rule's own settings."""

    model_config = ConfigDict(extra="allow", frozen=True)

    target: str = Field(alias="_target_")  # dotted name of its class
    name: str
    label: str  # as tables, curves and the report call it
    # matplotlib's dash style, so that curves are told apart without colours too: a name, or [0, [on, off, ...]]
    line: str | tuple[float, tuple[float, ...]]
    colour: str
    marker: str
    compared_with: str | None = None  # the rule of its cost ratio and bold cells; None: it has none, and no alignment

    @property
    def defaults(self) -> dict[str, Any]:
        """The rule's own settings as the file has them, before interpolation."""
        return dict(self.model_extra or {})


# The keys of the file that are facts about the rule, and no settings of a run.
FACTS = frozenset(field.alias or name for name, field in RuleEntry.model_fields.items()) - {"name"}


def rules() -> Mapping[str, RuleEntry]:
    """All rules by name, in the order of the alphabet.

    Raises:
        ConfigError: a file lacks a key, or compares its rule with one that does not exist.
    """
    return _read(resource_folder("configs") / "rule")


@cache
def _read(folder: Path) -> Mapping[str, RuleEntry]:
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            entry = RuleEntry.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (ValidationError, yaml.YAMLError) as error:
            raise ConfigError(f"configs/rule/{path.name}: {error}") from None
        if entry.name != path.stem:
            raise ConfigError(f"configs/rule/{path.name}: name={entry.name} must be the name of the file.")
        found[entry.name] = entry
    for entry in found.values():
        if entry.compared_with is not None:
            try:
                _known(entry.compared_with, found)
            except ValueError as error:
                raise ConfigError(f"configs/rule/{entry.name}.yaml: compared_with: {error}") from None
    return MappingProxyType(found)


def known_rule(name: str) -> str:
    """The name, if there is such a rule; else a ValueError that lists those that there are."""
    return _known(name, rules())


def _known(name: str, known: Mapping[str, object]) -> str:
    if name not in known:
        raise ValueError(f"unknown rule '{name}': choose one of {', '.join(known)}.")
    return name


RuleName = Annotated[str, AfterValidator(known_rule)]  # checked wherever a file or the command line names a rule


def compared_pairs(names: Collection[str]) -> list[tuple[str, str]]:
    """Those of some rules that are compared with another of them: (rule, the other)."""
    pairs = [(name, entry.compared_with) for name, entry in rules().items() if name in names]
    return [(name, other) for name, other in pairs if other is not None and other in names]

"""The learning rule of a run, from its settings."""

from __future__ import annotations

import dataclasses
import pkgutil
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dfa_bench.errors import ConfigError
from dfa_bench.feedback import FeedbackPath, Rule
from dfa_bench.settings.schema import PathSettings, RuleSettings, explain


def build_rule(settings: RuleSettings) -> Rule:
    """The rule that is registered under the name, with its own settings, which its dataclass types.

    Raises:
        ConfigError: the rule has no such setting, or not with such a value, or its class cannot be imported.
    """
    target = settings.entry.target
    try:
        rule: Any = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"configs/rule/{settings.name}.yaml: {target} cannot be imported: {error}.") from error
    unknown = settings.arguments.keys() - {field.name for field in dataclasses.fields(rule)}
    if unknown:
        lines = [f"rule={settings.name} has no setting 'rule.{name}'." for name in sorted(unknown)]
        raise ConfigError("\n".join(lines))
    try:
        built: Rule = TypeAdapter(rule).validate_python(settings.arguments)
    except ValidationError as error:
        told = explain(error, prefix="rule")
        # What the rule itself refuses begins with the setting's name.
        raise ConfigError(f"rule.{told}" if error.errors()[0]["type"] == "value_error" else told) from None
    return built


def build_path(settings: PathSettings) -> FeedbackPath:
    return FeedbackPath(**settings.model_dump())

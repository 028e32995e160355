"""The settings of a run that can change its outcome, and those that can only move its last digits."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

from dfa_bench.settings.components import outcome_of
from dfa_bench.settings.schema import RunSettings

# Where a run is kept, watched and measured, and the names of the choices that its other settings spell out.
NEUTRAL = (
    "store",
    "logger",
    "force",
    "data",
    "scale",
    "variant",
    "protocol",
    "recipe.of",
    "trainer.accelerator",
    "trainer.threads",
    "trainer.progress",
    "trainer.checkpoint_seconds",
    "trainer.alignment_every",
    "trainer.data_on_device",
)
# What may move digits, but makes no other experiment: recorded as a run's `numerics`.
NUMERICS = ("trainer.precision", "trainer.tf32", "trainer.compile", "trainer.capture", "trainer.devices")


def outcome_settings(settings: RunSettings) -> dict[str, Any]:
    """What can change the outcome, as far as it differs from the defaults: of the schema, and of classes' constructors.

    So a setting or an argument that is added later, with today's behaviour as its default, leaves identities alone.
    """
    values = settings.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for key in (*NEUTRAL, *NUMERICS):
        *groups, name = key.split(".")
        functools.reduce(lambda part, group: part.get(group) or {}, groups, values).pop(name, None)
    for part in ("task", "dataset", "model"):
        values[part] = outcome_of(getattr(settings, part), part)
    values["rule"] = _outcome_of_rule(settings)
    del values["feedback"]
    canonical: dict[str, Any] = _canonical(values)
    return canonical


def digest(outcome: dict[str, Any]) -> str:
    """Hash of outcome settings."""
    return hashlib.sha256(json.dumps(outcome, sort_keys=True).encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """0.0 and 0 are one number."""
    if isinstance(value, dict):
        return {name: _canonical(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _outcome_of_rule(settings: RunSettings) -> dict[str, Any]:
    """What the rule itself says of its settings and paths."""
    from dfa_bench.runs.rule import build_path, build_rule  # PyTorch, which the help of `run` does without

    paths = [build_path(path) for path in settings.feedback]
    return {"name": settings.rule.name, **build_rule(settings.rule).outcome(paths)}

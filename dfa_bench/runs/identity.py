"""The identity of a run: a hash of everything that can change its outcome, and of nothing else."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

from dfa_bench.data.resolve import DataCard
from dfa_bench.settings.schema import RunSettings

# Where a run is kept, watched, measured and computed, and the names of the choices that its other settings spell out.
NEUTRAL = (
    "store",
    "logger",
    "force",
    "data",
    "scale",
    "variant",
    "protocol",
    "trainer.accelerator",
    "trainer.threads",
    "trainer.progress",
    "trainer.checkpoint_seconds",
    "trainer.alignment_every",
    "model.tasks",
    "dataset.tasks",
    "dataset.url",
    "dataset.folder",
    "dataset.file",
    "dataset.source",
    "task.tokenizer_from.source",
    "task.tokenizer_from.tasks",
)


def outcome_settings(settings: RunSettings) -> dict[str, Any]:
    """The settings that can change the outcome, as far as they differ from the typed defaults.

    So a setting that is added later, with today's behaviour as its default, leaves the identities of old runs alone.
    """
    values = settings.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for key in NEUTRAL:
        *groups, name = key.split(".")
        part = functools.reduce(lambda part, group: part.get(group) or {}, groups, values)
        if isinstance(part, dict):  # else an impossible value, which is told elsewhere
            part.pop(name, None)
    if settings.rule.name == "bp":
        values["feedback"] = None  # BP has no points
    elif settings.rule.name == "shallow":
        values["feedback"] = sorted(module for path in settings.feedback for module in (*path.points, *path.cuts))
    if settings.rule.name != "dfa":
        values["rule"] = settings.rule.name  # no matrix
    return values


def identity(settings: RunSettings, card: DataCard, task_version: int) -> str:
    """Hash of a run, 16 hexadecimal digits: its settings, its data, the version of its task's numerics."""
    parts = [outcome_settings(settings), card.kind, card.sha256, task_version]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

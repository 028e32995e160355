"""The identity of a run: a hash of everything that can change its outcome, and of nothing else."""

from __future__ import annotations

import hashlib

from dfa_bench.data.resolve import DataCard
from dfa_bench.settings.schema import RunSettings


def identity(settings: RunSettings, card: DataCard, task_version: int) -> str:
    """16 hexadecimal digits for a run's settings, its data, and the version of its task's numerics."""
    from dfa_bench.runs.outcome import digest, outcome_settings  # PyTorch, which `identity_from` does without

    return identity_from(digest(outcome_settings(settings)), card, task_version)


def identity_from(outcome: str, card: DataCard, task_version: int) -> str:
    """The same, from the digest of the outcome settings."""
    return hashlib.sha256(f"{outcome} {card.kind} {card.sha256} {task_version}".encode()).hexdigest()[:16]

"""What a learning rule needs to know of each batch, and whether the task can tell it."""

from __future__ import annotations

from typing import Any

from dfa_bench.errors import ConfigError
from dfa_bench.feedback import Attachment
from dfa_bench.settings.schema import RuleSettings
from dfa_bench.tasks.base import Task


def check_needs(attachment: Attachment, task: Task, settings: RuleSettings) -> None:
    """Whether the task can give the rule what it needs at a step.

    Raises:
        ConfigError: it has no method of that name.
    """
    missing = [need for need in sorted(attachment.needs) if not callable(getattr(task, need, None))]
    if missing:
        raise ConfigError(
            f"rule={settings.name} needs the {', '.join(missing)} of a batch, which {type(task).__name__} "
            f"does not provide."
        )


def given(attachment: Attachment, task: Task, batch: Any) -> dict[str, Any]:
    """What the rule needs at a step, as the task takes it from the batch."""
    return {need: getattr(task, need)(batch) for need in attachment.needs}

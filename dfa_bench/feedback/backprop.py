"""Backpropagation, as a rule among others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from dfa_bench.feedback.attachment import Attachment
from dfa_bench.feedback.broadcast_attachment import BroadcastAttachment
from dfa_bench.feedback.paths import FeedbackPath
from dfa_bench.feedback.rule import Rule


@dataclass(frozen=True)
class Backprop(Rule):
    """Ordinary backpropagation: paths are checked and then left alone, so that one switch changes the rule."""

    leaves_parameters_out: ClassVar[bool] = False

    def build(self, model: nn.Module, paths: Sequence[FeedbackPath], example: object) -> Attachment:
        return BroadcastAttachment(model, [])

    def outcome(self, paths: Sequence[FeedbackPath]) -> dict[str, Any]:
        return {}

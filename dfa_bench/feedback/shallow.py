"""Shallow training, the baseline that a learning rule has to clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from dfa_bench.feedback.attachment import Attachment
from dfa_bench.feedback.broadcast_attachment import BroadcastAttachment
from dfa_bench.feedback.paths import FeedbackPath, resolve
from dfa_bench.feedback.rule import Rule


@dataclass(frozen=True)
class Shallow(Rule):
    """The baseline of appendix B: all points are cuts, so what is below them keeps its initial values."""

    def build(self, model: nn.Module, paths: Sequence[FeedbackPath], example: object) -> Attachment:
        cut = [
            FeedbackPath(points=(), cuts=[*path.points, *path.cuts], first_of_tuple=path.first_of_tuple)
            for path in paths
            if path.points or path.cuts
        ]
        return BroadcastAttachment(model, resolve(model, cut))

    def outcome(self, paths: Sequence[FeedbackPath]) -> dict[str, Any]:
        return {"cuts": sorted({module for path in paths for module in (*path.points, *path.cuts)})}

"""Direct Feedback Alignment on an untouched model: hooks on its points and one autograd function.

How it works: a forward hook on each feedback point keeps the output h_i with its local graph and hands `h_i.detach()`
on, so that autograd never computes the input gradients that DFA has no use for. A hook on the error source passes a_y
and all kept h_i through one function, the identity on a_y, whose backward sends δa_y to a_y and B_i δa_y to each h_i
(eq. 3). `loss.backward()` is then an ordinary backward over an ordinary graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from dfa_bench.feedback.attachment import Attachment
from dfa_bench.feedback.broadcast_attachment import BroadcastAttachment
from dfa_bench.feedback.errors import PointNotFound
from dfa_bench.feedback.matrix import Distribution, MatrixRecipe
from dfa_bench.feedback.paths import FeedbackPath, resolve
from dfa_bench.feedback.rule import Rule, differing


@dataclass(frozen=True)
class DirectFeedback(Rule):
    """Direct Feedback Alignment, eq. (3): the gradient that arrives at each point is B_i δa_y.

    >>> path = FeedbackPath(points=["layers.*.activation"], error_at="head")
    >>> attached = DirectFeedback(seed=0).attach(model, [path])
    >>> loss(model(inputs), targets).backward()

    Args:
        seed: of the feedback matrices only.
        distribution: "uniform" in [-1, 1), "normal" or "orthogonal".
        scale: factor on the draw; None: 1/sqrt(widest point), and 1 for orthogonal.
        shared: True, as the authors' code: one matrix per path, sliced; False, as the paper's text: one per point.
    """

    seed: int = 0
    distribution: Distribution = "uniform"
    scale: float | None = None
    shared: bool = True

    def __post_init__(self) -> None:
        self._recipe()  # which refuses impossible settings

    def _recipe(self) -> MatrixRecipe:
        return MatrixRecipe(self.seed, self.distribution, self.scale, self.shared)

    def build(self, model: nn.Module, paths: Sequence[FeedbackPath], example: object) -> Attachment:
        if not any(path.points for path in paths):
            raise PointNotFound("DirectFeedback needs a FeedbackPath with at least one point; Backprop needs none.")
        return BroadcastAttachment(model, resolve(model, paths), self._recipe())

    def outcome(self, paths: Sequence[FeedbackPath]) -> dict[str, Any]:
        return {**differing(self), "paths": [differing(path) for path in paths]}

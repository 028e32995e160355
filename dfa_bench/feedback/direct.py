"""Direct Feedback Alignment on an untouched model: hooks on its points and one autograd function.

How it works: a forward hook on each feedback point keeps the output h_i with its local graph and hands `h_i.detach()`
on, so that autograd never computes the input gradients that DFA has no use for. A hook on the error source passes a_y
and all kept h_i through one function, the identity on a_y, whose backward sends δa_y to a_y and B_i δa_y to each h_i
(eq. 3). `loss.backward()` is then an ordinary backward over an ordinary graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from dfa_bench.feedback.attachment import Attachment
from dfa_bench.feedback.broadcast import Projection
from dfa_bench.feedback.broadcast_attachment import BroadcastAttachment
from dfa_bench.feedback.errors import MatrixNotDrawn, PointNotFound, ShapeMismatch
from dfa_bench.feedback.matrix import MatrixRecipe
from dfa_bench.feedback.paths import FeedbackPath, ResolvedPath, resolve
from dfa_bench.feedback.route import Route
from dfa_bench.feedback.rule import Rule, differing


@dataclass(frozen=True)
class DirectFeedback(MatrixRecipe, Rule):
    """Direct Feedback Alignment, eq. (3): the gradient that arrives at each point is B_i δa_y.

    >>> path = FeedbackPath(points=["layers.*.activation"], error_at="head")
    >>> attached = DirectFeedback(seed=0).attach(model, [path])
    >>> loss(model(inputs), targets).backward()

    Args:
        seed: for the feedback matrices only; they have a generator of their own, so that weights and data order are as
            by BP.
        distribution: that of the raw draw: "uniform" in [-1, 1), "normal" with variance 1, or "orthogonal" (orthonormal
            rows or columns, whichever are fewer).
        scale: factor on the raw draw; None: 1/sqrt(width of the widest point), and 1 for orthogonal.
        shared: True, as the authors' code: one matrix per path, of which each point takes its first columns; False, as
            the paper's text, eq. (3): one per point, each with its own scale, side by side in B.
        density: share of B's entries that are not zero; these are larger by 1/sqrt(density).
        rank: None: B is full. Else B = U V, kept as its two factors, of which V is drawn as B otherwise would be: less
            memory where errors and points are wide.
        projection: None: the error is multiplied by B. Else a function of the error, (rows, error width), and B,
            (error width, columns), that returns (rows, columns), in the backward; `optical.py` is an example.
        streaming: True: no activation is kept for the backward, which runs the model again and lets each block go when
            it has its gradients. Gradients are the same and memory is constant in depth, at the cost of a second
            forward; needs an example in `attach`. See `streaming.py`.

    Raises (at the forward or the backward, if streaming):
        CannotStream: the model, or what is done with it, would give other gradients.
    """

    projection: Projection | None = None
    streaming: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank is not None and self.projection is not None:
            raise ValueError("projection and rank exclude each other: a projection of your own takes B as one matrix.")

    def build(self, model: nn.Module, paths: Sequence[FeedbackPath], example: object) -> Attachment:
        if not any(path.points for path in paths):
            raise PointNotFound(
                f"{type(self).__name__} needs a FeedbackPath with at least one point; Backprop needs none."
            )
        if self.streaming and example is None:
            raise MatrixNotDrawn(
                "streaming=True needs a small example batch, attach(model, paths, example=...): it draws the feedback "
                "matrices and shows what learns from what, which a forward that keeps nothing cannot."
            )
        found = resolve(model, paths)
        attached = self.attachment(model, found)
        if self.streaming:
            attached.stream(found)
        return attached

    def attachment(self, model: nn.Module, found: Sequence[ResolvedPath]) -> BroadcastAttachment:
        """The attachment of this rule; rules that build on it override this."""
        if self.projection is None:
            return BroadcastAttachment(model, found, self)
        return BroadcastAttachment(model, found, self, partial(ProjectedRoute, self.projection))

    def outcome(self, paths: Sequence[FeedbackPath]) -> dict[str, Any]:
        settings = differing(self)
        settings.pop("streaming", None)  # the same gradients
        return {**settings, "paths": [differing(path) for path in paths]}


class ProjectedRoute(Route):
    """A path whose error is projected by the user's function."""

    projects_columns_apart = False

    def __init__(self, projection: Projection, found: ResolvedPath, recipe: MatrixRecipe, number: int) -> None:
        super().__init__(found, recipe, number)
        self.projection = projection

    def project(self, error: Tensor, matrix: Tensor) -> Tensor:
        projected = self.projection(error, matrix)
        if projected.shape != (expected := (error.shape[0], matrix.shape[1])):
            raise ShapeMismatch(
                f"The projection returned shape {tuple(projected.shape)} for an error of {tuple(error.shape)} and a "
                f"matrix of {tuple(matrix.shape)}: it must return {expected}."
            )
        return projected

"""Direct Feedback Alignment on an untouched model: hooks on its points and one autograd function.

How it works: a forward hook on each feedback point keeps the output h_i with its local graph and hands `h_i.detach()`
on, so that autograd never computes the input gradients that DFA has no use for. A hook on the error source passes a_y
and all kept h_i through one function, the identity on a_y, whose backward sends δa_y to a_y and B_i δa_y to each h_i
(eq. 3). `loss.backward()` is then an ordinary backward over an ordinary graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from dfa_bench.feedback.attachment import Attachment, attachment_of, is_hooked
from dfa_bench.feedback.compiler import without_compiler
from dfa_bench.feedback.errors import AlreadyAttached, PointNotFound
from dfa_bench.feedback.matrix import Distribution, MatrixRecipe
from dfa_bench.feedback.paths import FeedbackPath, resolve, unwrap
from dfa_bench.feedback.state import State


class Rule:
    """What BP, DFA and shallow training have in common: `attach`. A new rule says which paths it hooks, and how."""

    def attach(
        self, model: nn.Module, paths: FeedbackPath | Iterable[FeedbackPath] = (), example: object = None
    ) -> Attachment:
        """Make a model learn by this rule; the model itself stays unchanged.

        Attach first, then compile, wrap in DDP or hand over to Fabric.

        Args:
            model: any module.
            paths: where feedback comes from and goes to.
            example: a batch for one forward, after which buffers and random state are restored: it draws the feedback
                matrices at once and lets `describe()` speak. A tuple gives the positional arguments of the model, a
                dict the named ones, anything else the only one.

        Raises:
            PointNotFound, PointsOverlap, AlreadyAttached: see their docstrings.
            PointNotReached, PointAboveSource, ShapeMismatch, NotATensor: here if there is an example, else at the first
                forward.
        """
        model = unwrap(model)
        if attachment_of(model) is not None or any(map(is_hooked, model.modules())):
            raise AlreadyAttached(
                f"{type(model).__name__} already learns by a rule. Call .remove() on its attachment first "
                f"(dfa_bench.feedback.attachment_of(model) finds it; it may be that of a module around this one)."
            )
        paths = [paths] if isinstance(paths, FeedbackPath) else list(paths)
        resolve(model, paths)  # every rule checks them, so that one switch changes the rule
        found = resolve(model, self._hooked(paths))
        attachment = Attachment(model, found, self._recipe())
        if example is not None:
            try:
                _run_once(model, example)
            except BaseException:
                attachment.remove()
                raise
        return attachment

    def _hooked(self, paths: Sequence[FeedbackPath]) -> list[FeedbackPath]:
        raise NotImplementedError

    def _recipe(self) -> MatrixRecipe:
        return MatrixRecipe()


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

    def __init__(
        self, seed: int = 0, distribution: Distribution = "uniform", scale: float | None = None, shared: bool = True
    ) -> None:
        self.matrix_recipe = MatrixRecipe(seed, distribution, scale, shared)

    def _hooked(self, paths: Sequence[FeedbackPath]) -> list[FeedbackPath]:
        if not any(path.points for path in paths):
            raise PointNotFound("DirectFeedback needs a FeedbackPath with at least one point; Backprop needs none.")
        return list(paths)

    def _recipe(self) -> MatrixRecipe:
        return self.matrix_recipe


class Shallow(Rule):
    """The baseline of appendix B: all points are cuts, so what is below them keeps its initial values."""

    def _hooked(self, paths: Sequence[FeedbackPath]) -> list[FeedbackPath]:
        return [
            FeedbackPath(points=(), cuts=[*path.points, *path.cuts], first_of_tuple=path.first_of_tuple)
            for path in paths
            if path.points or path.cuts
        ]


class Backprop(Rule):
    """Ordinary backpropagation: paths are checked and then left alone, so that one switch changes the rule."""

    def _hooked(self, paths: Sequence[FeedbackPath]) -> list[FeedbackPath]:
        return []


def _run_once(model: nn.Module, example: object) -> None:
    """One forward, eager and with gradients, that leaves buffers and random state as they were."""
    before = State(model)
    with torch.enable_grad(), without_compiler():
        try:
            if isinstance(example, tuple):
                model(*example)
            elif isinstance(example, dict):
                model(**example)
            else:
                model(example)
        finally:
            before.restore()

"""The attachment of DFA, and of shallow training and BP, which are DFA with cuts only and with nothing at all."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dfa_bench.feedback.attachment import Attachment
from dfa_bench.feedback.axes import check_axes
from dfa_bench.feedback.compiler import in_backward
from dfa_bench.feedback.describe import BY_BACKPROP, Description, past_every_source
from dfa_bench.feedback.errors import MatrixNotDrawn
from dfa_bench.feedback.matrix import MatrixRecipe
from dfa_bench.feedback.paths import ResolvedPath
from dfa_bench.feedback.route import PointHook, Route
from dfa_bench.feedback.sequences import points_of_other_rows
from dfa_bench.feedback.streaming import let_stream


class BroadcastAttachment(Attachment):
    """Routes that broadcast the error of their source to their points.

    Args:
        model: the one that learns.
        found: its paths.
        recipe: how their matrices are drawn.
        route: makes a route from a path, the recipe and the path's number; for rules with a kind of their own.
    """

    def __init__(
        self,
        model: nn.Module,
        found: Sequence[ResolvedPath],
        recipe: MatrixRecipe | None = None,
        route: Callable[[ResolvedPath, MatrixRecipe, int], Route] = Route,
    ) -> None:
        super().__init__(model, [path.error_source for path in found])
        self._inner: list[Route] = []  # those whose scope is a part of the model, which a forward may skip
        self.routes = nn.ModuleList()
        for number, path in enumerate(found):
            made = route(path, recipe or MatrixRecipe(), number)
            self.routes.append(made)
            if path.scope is not model:
                self._inner.append(made)
            self.keep(path.scope.register_forward_pre_hook(made.enter))
            self.watch({**path.points, **path.cuts, path.source_name: path.source})
            for name, module in path.points.items():
                self.keep(module.register_forward_hook(PointHook(made, name, is_cut=False)))
            for name, module in path.cuts.items():
                self.keep(module.register_forward_hook(PointHook(made, name, is_cut=True)))
            if path.points:  # a source that is a point too runs the point's hook first
                self.keep(path.source.register_forward_hook(made.at_source))
            self.keep(path.scope.register_forward_hook(made.leave))
            self.keep(path.scope.register_forward_hook(made.end, always_call=True))
        self.keep(model.register_forward_hook(self._end))

    @property
    def matrices(self) -> list[Tensor]:
        """B of each path with points: (error width, widest point); one block of columns per point if not shared.

        Raises:
            MatrixNotDrawn: no forward has run yet.
        """
        drawn = [route.whole_matrix for route in self.paths if route.point_names]
        missing = [number for number, matrix in enumerate(drawn) if matrix is None]
        if missing:
            raise MatrixNotDrawn(
                f"The feedback matrix of path {missing[0]} is drawn at the first forward. "
                f"Pass an example batch to attach(model, paths, example=...) to have it at once."
            )
        return [matrix for matrix in drawn if matrix is not None]

    @property
    def point_names(self) -> list[str]:
        return [name for route in self.paths for name in route.point_names]

    def check_axes(self, forward: Callable[[], object]) -> None:
        for route in self.paths:
            if route.point_names and route.path.rows is None:
                with self.paused():
                    check_axes(self.model, route.error, route.point_names, forward)

    def warn_of_other_rows(self, example: object, run: Callable[[object], object]) -> None:
        for route in self.paths:
            if not route.point_names or route.path.rows is not None:
                continue
            with self.paused():
                found = points_of_other_rows(self.model, route.error, route.point_names, example, run)
            if found:
                shown = ", ".join(f"'{name}'" for name in found[:3]) + (" ..." if len(found) > 3 else "")
                warnings.warn(
                    f"The rows of {shown} seem to belong to a different sequence from those of the error at "
                    f"'{route.source_name}', only equal in number (an encoder's and a decoder's?): they follow another "
                    f"input. Each would get the error that happens to be at its position. Leave these points out, or "
                    f"say which row gets which error, FeedbackPath(rows=...).",
                    stacklevel=3,
                )

    @property
    def waiting(self) -> list[str]:
        return [each.name for route in self.paths for each in route.kept]

    @property
    def paths(self) -> list[Route]:
        return [route for route in self.routes if isinstance(route, Route)]

    @property
    def streams(self) -> bool:
        return any(route.stream is not None and route.stream.is_on for route in self.paths)

    @contextmanager
    def unstreamed(self) -> Iterator[None]:
        streams = [route.stream for route in self.paths if route.stream is not None]
        before = [each.is_on for each in streams]
        for each in streams:
            each.is_on = False
        try:
            yield
        finally:
            for each, was_on in zip(streams, before, strict=True):
                each.is_on = was_on

    def stream(self, found: Sequence[ResolvedPath]) -> None:
        """Keep no activations from now on: see `streaming.py`."""
        for route, path in zip(self.paths, found, strict=True):
            if path.points:
                self.keep(let_stream(route, path.scope))

    def warn_of(self, description: Description, output: object) -> None:
        if not description.points:
            return
        is_frozen = any(not parameter.requires_grad for parameter in self.model.parameters())
        by_bp = any(BY_BACKPROP in sources for sources in description.learns_from.values())
        # It is intended where something learns by BP above it: the Transformer's projection above its last block.
        if not by_bp and (not is_frozen or any(route.source_is_point for route in self.paths)):
            warnings.warn(
                "The layer whose output is the error is a feedback point itself, so that it learns from feedback. Take "
                "it out of the points, so that it learns by its true gradient.",
                stacklevel=2,
            )
        if repeated := [name for route in self.paths for name in route.repeated]:
            warnings.warn(
                f"The feedback point '{repeated[0]}' ran several times before one error, and gets the same feedback at "
                f"each call. That is right for recurrent and shared layers. For several inputs of one network "
                f"(Siamese networks), choose an error source that runs once after each.",
                stacklevel=2,
            )
        if hooked := [name for name in self.point_names if self.model.get_submodule(name)._backward_hooks]:
            warnings.warn(
                f"The full backward hook on the feedback point '{hooked[0]}' does not run, as nothing above asks for "
                f"the gradient of its output. Register a hook on the tensor that it returns, or see "
                f"dfa_bench.feedback.alignment.",
                stacklevel=2,
            )
        if past := past_every_source(output):
            warnings.warn(
                f"{past} of the tensors that {type(self.model).__name__} returns do not come from an error source: "
                f"what a loss on them teaches ends above the points, and layers below get no feedback from it. Add a "
                f"path with points of its own for it, or choose an error source that all losses pass.",
                stacklevel=2,
            )

    def _begin(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        for route in self._inner:
            route.entered = None
        super()._begin(model, args, kwargs)

    def _end(self, model: nn.Module, args: object, output: object) -> None:
        if not torch.is_grad_enabled() or in_backward():
            return
        for route in self._inner:
            route.check_entered()
        if self.needs:
            self.forget_step()  # the next batch has others

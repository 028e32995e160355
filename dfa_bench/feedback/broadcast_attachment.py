"""The attachment of DFA, and of shallow training and BP, which are DFA with cuts only and with nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dfa_bench.feedback.attachment import Attachment
from dfa_bench.feedback.compiler import in_backward
from dfa_bench.feedback.errors import MatrixNotDrawn
from dfa_bench.feedback.matrix import MatrixRecipe
from dfa_bench.feedback.paths import ResolvedPath
from dfa_bench.feedback.route import PointHook, Route


class BroadcastAttachment(Attachment):
    """Routes that broadcast the error of their source to their points.

    Args:
        model: that learns.
        found: its paths.
        recipe: of their matrices.
        route: makes the route of a path, where a rule has its own kind: from path, recipe and number.
    """

    def __init__(
        self,
        model: nn.Module,
        found: Sequence[ResolvedPath],
        recipe: MatrixRecipe | None = None,
        route: Callable[[ResolvedPath, MatrixRecipe, int], Route] = Route,
    ) -> None:
        super().__init__(model, [path.error_source for path in found])
        self._inner: list[Route] = []  # whose scope is a part of the model, which a forward may pass by
        self.routes = nn.ModuleList()
        for number, path in enumerate(found):
            made = route(path, recipe or MatrixRecipe(), number)
            self.routes.append(made)
            if path.scope is not model:
                self._inner.append(made)
            self.keep(path.scope.register_forward_pre_hook(made.enter))
            for name, module in path.points.items():
                self.keep(module.register_forward_hook(PointHook(made, name, is_cut=False)))
            for name, module in path.cuts.items():
                self.keep(module.register_forward_hook(PointHook(made, name, is_cut=True)))
            if path.points:  # a source that is a point too runs the point's hook first
                self.keep(path.source.register_forward_hook(made.at_source))
            self.keep(path.scope.register_forward_hook(made.leave))
            self.keep(path.scope.register_forward_hook(made.end, always_call=True))
        self.keep(model.register_forward_pre_hook(self._begin))
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

    @property
    def paths(self) -> list[Route]:
        return [route for route in self.routes if isinstance(route, Route)]

    def _begin(self, model: nn.Module, args: object) -> None:
        for route in self._inner:
            route.entered = None

    def _end(self, model: nn.Module, args: object, output: object) -> None:
        if not torch.is_grad_enabled() or in_backward():
            return
        for route in self._inner:
            route.check_entered()

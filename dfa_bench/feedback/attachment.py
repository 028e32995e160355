"""A learning rule at work on a model: its hooks, its matrices, and what learns from what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

import torch
from torch import Tensor, nn

from dfa_bench.feedback.compiler import reset_compiler
from dfa_bench.feedback.describe import Description, describe_graph, warn_of_both
from dfa_bench.feedback.errors import FeedbackError, MatrixNotDrawn
from dfa_bench.feedback.matrix import MatrixRecipe
from dfa_bench.feedback.paths import ResolvedPath, unwrap
from dfa_bench.feedback.route import PointHook, Route, in_backward


class Attachment(nn.Module):
    """A learning rule at work on a model, as `rule.attach` returns it; also a context manager.

    Its `state_dict` holds the feedback matrices, apart from the model's own, which stays as it was.
    """

    def __init__(self, model: nn.Module, found: Sequence[ResolvedPath], recipe: MatrixRecipe) -> None:
        super().__init__()
        self._model = (model,)  # in a tuple: the model is no part of the attachment
        self._description: Description | None = None
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._inner: list[Route] = []  # whose scope is a part of the model, which a forward may pass by
        self.routes = nn.ModuleList()
        for number, path in enumerate(found):
            route = Route(path, recipe, number)
            self.routes.append(route)
            if path.scope is not model:
                self._inner.append(route)
            add = self._handles.append
            add(path.scope.register_forward_pre_hook(route.enter))
            for name, module in path.points.items():
                add(module.register_forward_hook(PointHook(route, name, is_cut=False)))
            for name, module in path.cuts.items():
                add(module.register_forward_hook(PointHook(route, name, is_cut=True)))
            if path.points:  # a source that is a point too runs the point's hook first
                add(path.source.register_forward_hook(route.at_source))
            add(path.scope.register_forward_hook(route.leave))
            add(path.scope.register_forward_hook(route.end, always_call=True))
        self._handles.append(model.register_forward_pre_hook(self._begin))
        self._handles.append(model.register_forward_hook(self._end))
        reset_compiler()

    @property
    def needs(self) -> frozenset[str]:
        """Names of what `begin_step` takes."""
        return frozenset()

    def begin_step(self, **inputs: Tensor) -> None:
        """Called before the forward of each training step."""

    def end_step(self) -> None:
        """Called after the optimizer's step."""

    @property
    def matrices(self) -> list[Tensor]:
        """B of each path with points: (error width, widest point); one block of columns per point if not shared.

        Raises:
            MatrixNotDrawn: no forward has run yet.
        """
        drawn = [route.matrix for route in self.paths if route.point_names]
        missing = [number for number, matrix in enumerate(drawn) if matrix is None]
        if missing:
            raise MatrixNotDrawn(
                f"The feedback matrix of path {missing[0]} is drawn at the first forward. "
                f"Pass an example batch to attach(model, paths, example=...) to have it at once."
            )
        return [matrix for matrix in drawn if matrix is not None]

    def describe(self) -> Description:
        """Tell for every parameter what it learns from; `print` it. Warns of parameters that learn in two ways.

        Raises:
            FeedbackError: the model has not run eagerly, with gradients, since the rule was attached.
        """
        if self._description is None:
            raise FeedbackError(
                "What learns from what is read off the first forward with gradients outside torch.compile. "
                "Run one, or pass an example batch to attach(model, paths, example=...)."
            )
        warn_of_both(self._description)
        return self._description

    def remove(self) -> None:
        """Take all hooks off: the model is as it was before. Harmless when called twice."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        reset_compiler()

    @property
    def model(self) -> nn.Module:
        """The model that learns by the rule."""
        return self._model[0]

    @property
    def point_names(self) -> list[str]:
        """Names of the feedback points of all paths; cuts are none."""
        return [name for route in self.paths for name in route.point_names]

    @property
    def paths(self) -> list[Route]:
        return [route for route in self.routes if isinstance(route, Route)]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the hooks off for a while: inside, the model learns by BP.

        Code that torch.compile made before does not notice; see `compiler.without_compiler`.

        Raises:
            FeedbackError: the rule was removed, so there is nothing to pause.
        """
        if not self._handles:
            raise FeedbackError("The rule was removed from its model. Attach it anew.")
        tables = {id(table): table for handle in self._handles if (table := handle.hooks_dict_ref()) is not None}
        before = [(table, dict(table)) for table in tables.values()]
        ours = {handle.id for handle in self._handles}
        for table, hooks in before:
            for key in ours & hooks.keys():
                del table[key]
        try:
            yield
        finally:
            for table, hooks in before:
                now = dict(table)  # others may have come or gone
                table.clear()
                table.update({key: hook for key, hook in hooks.items() if key in ours or key in now} | now)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _begin(self, model: nn.Module, args: object) -> None:
        for route in self._inner:
            route.entered = None

    def _end(self, model: nn.Module, args: object, output: object) -> None:
        if not torch.is_grad_enabled() or in_backward():
            return
        for route in self._inner:
            route.check_entered()
        if self._description is None and not torch.compiler.is_compiling():
            self._description = describe_graph(model, output)


def attachment_of(model: nn.Module) -> Attachment | None:
    """The attachment at work on a model (or on a copy of one), if there is any."""
    for module in unwrap(model).modules():
        for hook in module._forward_hooks.values():
            owner = getattr(hook, "__self__", None)
            if isinstance(owner, Attachment):
                return owner
    return None


def is_hooked(module: nn.Module) -> bool:
    return any(isinstance(hook, PointHook) for hook in module._forward_hooks.values())

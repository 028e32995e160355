"""Streaming: Direct Feedback Alignment with memory that is constant in depth.

The feedback of a point depends on the error and on B, and on no activation. So none is kept: a point's hook hands
`h_i.detach()` on and lets the graph of its block go. What stands between points and loss learns in the backward as
always. When that has brought the error to its source, the part of the model with points and source (the scope) runs
once more, from the same inputs, random state and buffers; at each point its block does a backward of its own from
B_i δa_y, and is let go. After the last point that forward is broken off.

The gradient of a loss with detached points is the sum of what comes past the points and of what each point sends down,
so that the two may be found one after the other: gradients are those of ordinary DFA, shared weights, skip connections
and several error sources included. A chain of layers costs two forwards and the gradients of weights, three matrix
products per layer, as many as by BP, since no gradient goes from a point to the one before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dfa_bench.feedback.broadcast import feedback_at
from dfa_bench.feedback.compiler import in_backward, without_compiler
from dfa_bench.feedback.errors import CannotStream
from dfa_bench.feedback.route import Kept, Route, Segment, normalised
from dfa_bench.feedback.state import Autocast, GeneratorStates

COMPARED = 2  # backwards in which the activations of both forwards are compared, at the price of waiting for a GPU


def let_stream(route: Route, scope: nn.Module) -> torch.utils.hooks.RemovableHandle:
    """Let a route keep no activations. Returns the handle of the hook that this takes."""
    route.stream = Stream(route)
    return scope.register_forward_pre_hook(route.stream.enter, prepend=True, with_kwargs=True)


class Stream:
    """Of one route: what its scope was called with, and the second forward while it runs."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.is_on = True
        self.call: ScopeCall | None = None  # under way, with gradients
        self.replay: SecondForward | None = None
        self.to_compare = COMPARED

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"call": None}  # copies do not take over an unfinished forward

    def enter(self, scope: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before all other hooks of the scope."""
        if not self.is_on or not torch.is_grad_enabled() or in_backward():
            return
        if torch.compiler.is_compiling():  # with fullgraph=True an error; else the compiler leaves modules with hooks
            raise CannotStream("Streaming runs the model again in the backward: compile it without fullgraph=True.")
        self.call = ScopeCall(scope, args, kwargs)

    def stand_in(self, name: str, activation: Tensor, rows: Tensor | None) -> Kept:
        """A tensor of the same shape that takes no memory, in the place of an activation."""
        hollow = activation.new_empty(()).expand(activation.shape).requires_grad_(activation.requires_grad)
        return Kept(name, hollow, rows, size=_size(activation) if self.to_compare else None)

    def send(self, error_at: Tensor, matrix: Tensor, segment: Segment) -> Tensor:
        """The error source's output, through the function whose backward runs the scope again."""
        if self.call is None:
            raise CannotStream(
                f"The points ran outside the forward of '{self.route.scope_name}', which streaming has to run again. "
                f"Call that module itself, or leave out streaming=True."
            )
        # Without an input that wants a gradient there would be no backward, when all that is above is frozen.
        wanted = error_at.new_empty(0).requires_grad_(any(each.activation.requires_grad for each in segment.kept))
        replay = partial(SecondForward, self, self.call, matrix, segment)
        sent: Tensor = Streamed.apply(error_at, wanted, replay, *self.call.inputs)
        return sent


class Streamed(torch.autograd.Function):
    """Identity on a_y whose backward runs the scope again and hands B_i δa_y to each activation there.

    No `setup_context`: torch.func's transforms, inside which no other backward can run, refuse it.
    """

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, wanted: Tensor, replay: Callable[[Tensor], SecondForward], *inputs: Tensor
    ) -> Tensor:
        ctx.replay = replay
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        (error,) = errors
        if torch.is_grad_enabled() or not torch.autograd._is_checkpoint_valid():
            raise CannotStream(
                "Streaming adds to .grad in a backward of its own: call backward() without create_graph and inputs, "
                "not torch.autograd.grad; or leave out streaming=True."
            )
        return (error, None, None, *ctx.replay(error).run())


class ScopeCall:
    """One forward of a scope, and what it takes to run it again."""

    def __init__(self, scope: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.scope = scope
        self._leaves, self._form = pytree.tree_flatten((args, kwargs))
        given = [leaf for leaf in self._leaves if isinstance(leaf, Tensor)]
        self.inputs = [tensor for tensor in given if tensor.requires_grad]
        self._parameters, self._buffers = _parameters(scope), _buffers(scope)
        self._copies = {id(buffer): buffer.detach().clone() for _, _, buffer in self._buffers}
        fixed = [tensor for tensor in (*self._parameters, *given) if not tensor.is_inference()]
        self._versions = [(tensor, tensor._version) for tensor in fixed]
        self._random = GeneratorStates(parameter.device for parameter in self._parameters)
        self._is_training = scope.training
        self.devices = {tensor.device.type for tensor in (*self._parameters, *given)}
        self._autocast = Autocast(self.devices)

    def again(self, name: str) -> list[Tensor | None]:
        """Run the forward again, with gradients, until a point breaks it off; returns the gradients of `inputs`.

        Args:
            name: of the scope.

        Raises:
            CannotStream: parameters, inputs or mode are not what they were.
        """
        now = _parameters(self.scope)
        same = len(now) == len(self._parameters) and all(a is b for a, b in zip(now, self._parameters, strict=True))
        if not same or self.scope.training != self._is_training or any(t._version != v for t, v in self._versions):
            raise CannotStream(
                f"Parameters, inputs or the training mode of '{name}' have changed between its forward and the "
                f"backward, where streaming runs that forward again. Call backward() first, and change no input in "
                f"place; models under torch.func.functional_call or fully_shard cannot stream."
            )
        fresh = [leaf.detach().requires_grad_() if _wants(leaf) else leaf for leaf in self._leaves]
        args, kwargs = pytree.tree_unflatten(fresh, self._form)
        copies = {key: copy.clone() for key, copy in self._copies.items()}
        for buffers, key, buffer in self._buffers:  # others in their place: a backward may need them as they are
            buffers[key] = copies[id(buffer)]
        try:
            with torch.enable_grad(), without_compiler(), self._random.again(), self._autocast.as_it_was():
                self.scope(*args, **kwargs)
        except PointsDone:
            pass
        finally:
            for buffers, key, buffer in self._buffers:
                buffers[key] = buffer
        return [leaf.grad for leaf, before in zip(fresh, self._leaves, strict=True) if _wants(before)]


class PointsDone(Exception):
    """Breaks off the second forward."""


class SecondForward:
    """The second forward of a scope: what its points do there."""

    def __init__(self, stream: Stream, call: ScopeCall, matrix: Tensor, segment: Segment, error: Tensor) -> None:
        self.stream, self.route, self.call, self.segment = stream, stream.route, call, segment
        axes = segment.batch_axes
        self.error = error.reshape(math.prod(error.shape[:axes]), math.prod(error.shape[axes:]))
        self.matrix = matrix.to(error.dtype)
        # Columns that no other point has are projected when their point is there.
        self.is_whole = self.route.recipe.shared or not self.route.projects_columns_apart
        self.projected = segment.project(self.error, self.matrix) if self.is_whole else None  # (rows, columns)
        self.autocast = Autocast(call.devices)  # of the backward
        self.sources = 0  # that have run
        self.place = 0  # of the next activation
        self.in_block = False  # in a backward from a point, in which checkpointing may run it again

    def run(self) -> list[Tensor | None]:
        self.stream.replay = self
        try:
            gradients = self.call.again(self.route.scope_name)
        finally:
            self.stream.replay = None
        if self.place < len(self.segment.kept):
            raise self._differs(f"did not run the point '{self.segment.kept[self.place].name}'")
        if any(each.size is not None for each in self.segment.kept):
            self.stream.to_compare = max(0, self.stream.to_compare - 1)
        return gradients

    def at_point(self, name: str, activation: Tensor) -> None:
        kept = self.segment.kept
        if self.in_block or self.sources != self.segment.number or self.place == len(kept):
            return
        first = kept[self.place]
        was = first.activation
        if (name, activation.shape, activation.dtype) != (first.name, was.shape, was.dtype):
            raise self._differs(
                f"has {tuple(activation.shape)} of '{name}' where there was {tuple(was.shape)} of '{first.name}'"
            )
        if first.size is not None and not torch.allclose(_size(activation), first.size, rtol=1e-2, equal_nan=True):
            raise self._differs(f"computes other values at the point '{name}'")
        if activation.requires_grad:
            self._send_down(activation)
        self.place += 1
        if self.place == len(kept):
            raise PointsDone

    def at_source(self) -> None:
        if not self.in_block:
            self.sources += 1

    def _send_down(self, activation: Tensor) -> None:
        segment, place = self.segment, self.place
        start, width = segment.spans[place]
        target = normalised(activation, segment.axes[place]) if self.route.path.normalised else activation
        self.in_block = True
        try:
            with self.autocast.as_it_was():
                if self.projected is None:
                    given = segment.project(self.error, self.matrix[:, start : start + width])
                else:
                    given = self.projected[:, start : start + width]
                feedback = feedback_at(place, given, target.shape, target.dtype, segment.at_point)
                # What blocks share is traversed again; what nothing else holds is freed with the block's output.
                torch.autograd.backward(target, feedback, retain_graph=True)
        finally:
            self.in_block = False

    def _differs(self, how: str) -> CannotStream:
        return CannotStream(
            f"The second forward of '{self.route.scope_name}' {how}. Streaming needs a forward that does the same from "
            f"the same inputs, buffers and states of the generators of Python and PyTorch, and a rule that stays "
            f"attached until the backward is done. Otherwise leave out streaming=True."
        )


@torch.no_grad()
def _size(activation: Tensor) -> Tensor:
    """A number that tells activations apart, except those that differ only by rounding."""
    return torch.linalg.vector_norm(activation, 1, dtype=torch.promote_types(activation.dtype, torch.float32))


def _parameters(scope: nn.Module) -> list[Tensor]:
    return [each for module in scope.modules() for each in module._parameters.values() if each is not None]


def _buffers(scope: nn.Module) -> list[tuple[dict[str, Tensor | None], str, Tensor]]:
    return [
        (module._buffers, name, buffer)
        for module in scope.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]


def _wants(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.requires_grad

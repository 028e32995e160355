"""The one autograd function of Direct Feedback Alignment, and what the rules that build on it do differently."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dfa_bench.feedback.signature import with_known_signature

# From the error, (rows, error width), and B, (error width, columns), to what is sliced for the points, (rows, columns).
Projection = Callable[[Tensor, Tensor], Tensor]
# From the place of a kept activation among all and its slice, (rows, its width), to what it gets.
PointFeedback = Callable[[int, Tensor], Tensor]


@with_known_signature
class Broadcast(torch.autograd.Function):
    """Identity on a_y whose backward hands B_i δa_y to every kept activation."""

    generate_vmap_rule = True  # gradients per sample: torch.func.vmap(grad(...))

    @staticmethod
    def forward(
        output: Tensor,  # a_y: (*batch, ...)
        matrix: Tensor,  # B: (error width, columns)
        batch_axes: int,
        names: Sequence[str],
        spans: Sequence[tuple[int, int]],  # first column of each h_i, and how many
        project: Projection,
        at_point: PointFeedback | None,
        *kept: Tensor,  # h_i: (*batch, ...)
    ) -> Tensor:
        return output.clone()  # a copy, so that in-place arithmetic above the source stays possible

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, matrix, ctx.batch_axes, ctx.fed_by, ctx.spans, ctx.project, ctx.at_point, *kept = inputs
        ctx.save_for_backward(matrix)
        ctx.shapes = [activation.shape for activation in kept]
        ctx.dtypes = [activation.dtype for activation in kept]

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        (error,) = errors
        (matrix,) = ctx.saved_tensors
        rows, width = math.prod(error.shape[: ctx.batch_axes]), math.prod(error.shape[ctx.batch_axes :])
        projected = ctx.project(error.reshape(rows, width), matrix.to(error.dtype))  # (rows, columns)
        feedback: list[Tensor] = []
        same: dict[Any, Tensor] = {}  # points of one shape get the same tensor
        for place, (shape, dtype, (start, width)) in enumerate(zip(ctx.shapes, ctx.dtypes, ctx.spans, strict=True)):
            key = (shape, dtype, start, place if ctx.at_point else None)
            if key not in same:
                given = projected[:, start : start + width]
                same[key] = feedback_at(place, given, shape, dtype, ctx.at_point)
            feedback.append(same[key])
        return (error, None, None, None, None, None, None, *feedback)


def feedback_at(
    place: int, projected: Tensor, shape: torch.Size, dtype: torch.dtype, at_point: PointFeedback | None
) -> Tensor:
    """What one kept activation gets, from its columns of the projected error, (rows, its width)."""
    given = at_point(place, projected) if at_point else projected
    return given.reshape(shape).to(dtype)


def to_rows(errors: Tensor, belongs: Tensor) -> Tensor:
    """What each row gets, (*belongs, width), from what each error sends, (errors, width); 0 where negative."""
    return errors[belongs.clamp(min=0)].masked_fill((belongs < 0).unsqueeze(-1), 0)


@with_known_signature
class LearnedBroadcast(torch.autograd.Function):
    """Like Broadcast, with a gradient for B too: that of a direct connection from each point to a_y, δa_y h_i^T."""

    @staticmethod
    def forward(
        output: Tensor,
        matrix: Tensor,
        batch_axes: int,
        names: Sequence[str],
        spans: Sequence[tuple[int, int]],
        rows: Sequence[Tensor] | None,  # which error each row of h_i belongs to; None: rows are the same
        *kept: Tensor,
    ) -> Tensor:
        return output.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, matrix, ctx.batch_axes, ctx.fed_by, ctx.spans, ctx.rows, *kept = inputs
        ctx.save_for_backward(matrix, *kept)

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        (error,) = errors
        matrix, *kept = ctx.saved_tensors
        count, width = math.prod(error.shape[: ctx.batch_axes]), math.prod(error.shape[ctx.batch_axes :])
        flat = error.reshape(count, width)
        projected = flat @ matrix.to(error.dtype)  # (rows, columns)
        learned, feedback = torch.zeros_like(matrix), []
        for place, (activation, (start, width)) in enumerate(zip(kept, ctx.spans, strict=True)):
            h, given = activation.reshape(-1, width).to(flat.dtype), projected[:, start : start + width]
            if ctx.rows is not None:
                belongs = ctx.rows[place].flatten()
                h = h.masked_fill((belongs < 0).unsqueeze(-1), 0)
                h = h.new_zeros(count, width).index_add(0, belongs.clamp(min=0), h)
                given = to_rows(given, belongs)
            learned[:, start : start + width] += (flat.T @ h).to(matrix.dtype)
            feedback.append(given.reshape(activation.shape).to(activation.dtype))
        return (error, learned, None, None, None, None, *feedback)

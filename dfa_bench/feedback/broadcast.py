"""The one autograd function of Direct Feedback Alignment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Broadcast(torch.autograd.Function):
    """Identity on a_y whose backward hands B_i δa_y to every kept activation."""

    generate_vmap_rule = True  # gradients per sample: torch.func.vmap(grad(...))

    @staticmethod
    def forward(
        output: Tensor,  # a_y: (*batch, ...)
        matrix: Tensor,  # B: (error width, columns)
        batch_axes: int,
        names: Sequence[str],
        starts: Sequence[int],
        *kept: Tensor,  # h_i: (*batch, ...)
    ) -> Tensor:
        return output.clone()  # a copy, so that in-place arithmetic above the source stays possible

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, matrix, ctx.batch_axes, ctx.fed_by, ctx.starts, *kept = inputs
        ctx.save_for_backward(matrix)
        ctx.shapes = [activation.shape for activation in kept]
        ctx.dtypes = [activation.dtype for activation in kept]

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        (error,) = errors
        (matrix,) = ctx.saved_tensors
        rows = math.prod(error.shape[: ctx.batch_axes])
        projected = error.reshape(rows, matrix.shape[0]) @ matrix.to(error.dtype)  # (rows, columns)
        feedback = []
        for shape, dtype, start in zip(ctx.shapes, ctx.dtypes, ctx.starts, strict=True):
            width = math.prod(shape[ctx.batch_axes :])
            feedback.append(projected[:, start : start + width].reshape(shape).to(dtype))
        return (error, None, None, None, None, *feedback)

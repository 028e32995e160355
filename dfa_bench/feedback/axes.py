"""Whether the rows of a point are those of the error, or only equal in number: equal lengths are not equal axes.

Sequence-first models whose batch is as long as their sequence, and the N × N logits of CLIP, pass all checks of shapes.
The forward tells: where rows are the same, an error's row depends on no other row of the point, or, where batch norm
and attention mix rows, on none as much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from dfa_bench.feedback.compiler import in_backward
from dfa_bench.feedback.describe import main_tensor
from dfa_bench.feedback.errors import ShapeMismatch
from dfa_bench.feedback.paths import ErrorSource

CLEARLY, ALIKE = 5, 2  # times


def check_axes(model: nn.Module, source: ErrorSource, points: Sequence[str], forward: Callable[[], object]) -> None:
    """Refuse points whose rows are not those of the error, where shapes cannot tell.

    A batch axis of the error is taken for the same axis of a point unless another pair of axes shows that it is not: a
    row of the error depends on one row of the point along this pair, at least `CLEARLY` times as much as on the others,
    and on all about alike along the axis itself. Rows that mix (nodes of a graph, tokens) show no such pair, and pass.

    Args:
        model: in which the gradients are BP's.
        source, points: of a path, whose points have the rows of the error.
        forward: runs the model once, with gradients.

    Raises:
        ShapeMismatch: with both axes named.
    """
    kept: dict[str, Tensor] = {}

    def at_point(name: str, module: nn.Module, args: object, output: object) -> Tensor | None:
        first = _row_tensor(output)
        if first is None or in_backward() or not torch.is_grad_enabled():
            return None
        replaced = None if first.requires_grad or first is not output else first.detach().requires_grad_()
        kept[name] = first if replaced is None else replaced
        return replaced

    def at_source(module: nn.Module, args: object, output: object) -> None:
        error_at = _row_tensor(output)
        if error_at is not None and error_at.requires_grad and not in_backward():
            _compare(error_at, source, {name: h for name, h in kept.items() if h.requires_grad})
        kept.clear()

    # Points first: one may be the source itself.
    handles = [model.get_submodule(name).register_forward_hook(partial(at_point, name)) for name in points]
    handles.append(model.get_submodule(source.name).register_forward_hook(at_source))
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()


def _compare(error_at: Tensor, source: ErrorSource, points: dict[str, Tensor]) -> None:
    batch_axes = source.batch_axes(error_at)
    for axis in range(batch_axes):
        length = error_at.shape[axis]
        for name, h in points.items():
            if length < 2 or h.ndim < batch_axes or h.shape[:batch_axes] != error_at.shape[:batch_axes]:
                continue  # the first forward by the rule says what is wrong
            pairs = [(axis, other) for other in range(h.ndim) if other != axis and h.shape[other] == length]
            pairs += [
                (other, axis) for other in range(error_at.ndim) if other != axis and error_at.shape[other] == length
            ]
            if not pairs or _depends_on_its_own(error_at, axis, h, axis) >= ALIKE:
                continue
            for of_error, of_point in pairs:
                if _depends_on_its_own(error_at, of_error, h, of_point) > CLEARLY:
                    raise ShapeMismatch(
                        f"The feedback point '{name}' has shape {tuple(h.shape)} and the error at '{source.name}' "
                        f"{tuple(error_at.shape)}, but axis {axis} is not the same in both, only of equal length: axis "
                        f"{of_error} of the error belongs to axis {of_point} of the point. Put the point where its "
                        f"rows come first (a permuted copy through an nn.Identity), choose another error source, or "
                        f"say which row gets which error, FeedbackPath(rows=...)."
                    )


def _depends_on_its_own(error_at: Tensor, of_error: int, h: Tensor, of_point: int) -> float:
    """How many times more the first and last rows of the error along an axis depend on the same row of the point than
    on another one, on average; the smaller of the two rows' values."""
    times = []
    for row in (0, error_at.shape[of_error] - 1):
        part = error_at.select(of_error, row)
        weights = torch.randn(part.shape, generator=torch.Generator().manual_seed(row)).to(part.device, part.dtype)
        (gradient,) = torch.autograd.grad((part * weights).sum(), h, retain_graph=True, allow_unused=True)
        if gradient is None:
            return 0.0
        sizes = gradient.abs().sum(dim=[axis for axis in range(h.ndim) if axis != of_point]).double()
        others = (sizes.sum() - sizes[row]).item() / (len(sizes) - 1)
        times.append(sizes[row].item() / others if others else math.inf if sizes[row] else 0.0)
    return min(times)


def _row_tensor(output: object) -> Tensor | None:
    main = main_tensor(output)
    return main if main is not None and main.is_floating_point() and main.ndim else None

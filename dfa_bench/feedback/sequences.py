"""Whether the rows of a point are those of the error, where both mix: an encoder can be as long as its decoder.

Attention carries every position to every other one, in one sequence as between two, so gradients do not tell. Inputs
do: what is changed at one position of an encoder's tokens moves the encoder there most, and the decoder anywhere; what
is changed in the decoder's tokens does not move the encoder at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from dfa_bench.feedback.compiler import in_backward
from dfa_bench.feedback.describe import main_tensor
from dfa_bench.feedback.paths import ErrorSource

SHORTEST = 3  # rows: of two, the right one is the larger half the time by chance


def points_of_other_rows(
    model: nn.Module, source: ErrorSource, points: Sequence[str], example: object, run: Callable[[object], object]
) -> list[str]:
    """Points whose rows follow an input that the error's rows do not follow, and ignore one that moves the error.

    Only a model with two inputs that have the error's rows can have such points; others are not run.

    Args:
        source, points: of a path, whose points have the rows of the error.
        example: as `Rule.attach` takes it.
        run: a forward of the model on such an example, with the same random numbers each time.
    """
    leaves, structure = tree_flatten(example)
    names = [*points, source.name]

    def forward(changed: Sequence[object]) -> dict[str, Tensor]:
        return _outputs(model, names, partial(run, tree_unflatten(list(changed), structure)))

    before = forward(leaves) if sum(isinstance(leaf, Tensor) for leaf in leaves) > 1 else {}
    if source.name not in before:
        return []
    error_at = before[source.name]
    rows = error_at.shape[: source.batch_axes(error_at)]
    having = [n for n, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.shape[: len(rows)] == rows]
    found: list[str] = []
    for axis in range(len(rows)) if len(having) > 1 else ():
        # For each input, how far each row of an output moved: (changed row, row).
        moved = [_moved(forward, leaves, leaf, before, axis, len(rows)) for leaf in having]
        for name in points:
            follows = any(_follows(each.get(name)) and not _follows(each.get(source.name)) for each in moved)
            ignores = any(_is_still(each.get(name)) and not _is_still(each.get(source.name)) for each in moved)
            if follows and ignores and name not in found:
                found.append(name)
    return found


def _moved(
    forward: Callable[[Sequence[object]], dict[str, Tensor]],
    leaves: list[object],
    leaf: int,
    before: dict[str, Tensor],
    axis: int,
    batch_axes: int,
) -> dict[str, Tensor]:
    """By output, (changed rows, rows): how far each row moved when one of the input's was replaced."""
    moved: dict[str, list[Tensor]] = {}
    for changed in _changed(leaves[leaf], axis):
        try:
            after = forward([*leaves[:leaf], changed, *leaves[leaf + 1 :]])
        except Exception:  # a model that takes no other rows says nothing
            return {}
        for name, output in before.items():
            if name in after and output.shape == after[name].shape and output.ndim >= batch_axes:
                others = [other for other in range(output.ndim) if other != axis]
                moved.setdefault(name, []).append((after[name] - output).abs().sum(dim=others))
    return {name: torch.stack(each) for name, each in moved.items()}


def _changed(leaf: object, axis: int) -> Iterator[Tensor]:
    """The input with its first, middle and last row replaced by one that differs, if there is such a row."""
    assert isinstance(leaf, Tensor)
    length = leaf.shape[axis]
    if length < SHORTEST:
        return
    for row in (0, length // 2, length - 1):
        differs = (leaf != leaf.select(axis, row).unsqueeze(axis)).movedim(axis, 0).reshape(length, -1).any(dim=1)
        if not differs.any():
            return
        changed = leaf.detach().clone()
        changed.select(axis, row).copy_(leaf.select(axis, int(differs.nonzero()[-1])))
        yield changed


def _follows(moved: Tensor | None) -> bool:
    """Whether each changed row moved most at its own place."""
    if moved is None or moved.shape[1] < SHORTEST:
        return False
    length = moved.shape[1]
    return moved.argmax(dim=1).tolist() == [0, length // 2, length - 1] and bool((moved.amax(dim=1) > 0).all())


def _is_still(moved: Tensor | None) -> bool:
    return moved is not None and not moved.any()


def _outputs(model: nn.Module, names: Sequence[str], forward: Callable[[], object]) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, args: object, output: object) -> None:
        main = main_tensor(output)
        if main is not None and main.is_floating_point() and not in_backward():
            kept[name] = main.detach()

    handles = [model.get_submodule(name).register_forward_hook(partial(keep, name)) for name in names]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return kept

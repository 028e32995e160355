"""Direct random target projection (Frenkel, Lefebvre & Bol 2021, arXiv 1909.01311) on an untouched model.

Like DFA, with the target in place of the error: each point gets

    B_i y* / n

where y* is the one-hot target of the row (or the target itself, if it is not a class) and n the number of rows that
have one, as in a loss that is a mean over rows. Of the error only the sign is used, which for one-hot targets and
outputs between 0 and 1 is known beforehand. So a layer needs neither weights from above nor the end of the forward.
Modules above the points, and the error source itself, learn by the loss as always. The released code leaves out the
1/n, so its learning rates are those for feedback without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from dfa_bench.feedback.broadcast import PointFeedback, Projection
from dfa_bench.feedback.broadcast_attachment import BroadcastAttachment
from dfa_bench.feedback.direct import DirectFeedback
from dfa_bench.feedback.errors import ShapeMismatch, TargetsMissing
from dfa_bench.feedback.paths import ResolvedPath
from dfa_bench.feedback.route import Kept, Route


@dataclass(frozen=True)
class TargetProjection(DirectFeedback):
    """Direct random target projection (DRTP): DFA that sends the target instead of the error.

    >>> attached = TargetProjection(seed=0).attach(model, path, example=inputs)
    >>> attached.begin_step(targets=targets)  # before each forward
    >>> loss(model(inputs), targets).backward()

    Targets are classes, whole numbers in the shape of the error's batch axes, negative where a row has none; or
    numbers in the shape of the error.

    Args:
        seed, distribution, scale, shared, density, rank: those of the matrix, as in DirectFeedback.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.projection is not None:
            raise ValueError("projection: TargetProjection sends no error that could be projected.")

    def attachment(self, model: nn.Module, found: Sequence[ResolvedPath]) -> BroadcastAttachment:
        return TargetAttachment(model, found, self, TargetRoute)


class TargetAttachment(BroadcastAttachment):
    """DFA's attachment, given the targets of each batch."""

    needs = frozenset({"targets"})

    def begin_step(self, **given: object) -> None:
        targets = given.get("targets")
        if not isinstance(targets, Tensor):
            raise TargetsMissing(
                f"begin_step(targets=...) takes a tensor, but got {type(targets).__name__}: classes in the shape of "
                f"the error's batch axes, or numbers in the shape of the error."
            )
        for route in self.paths:
            if isinstance(route, TargetRoute):
                route.targets = targets

    def forget_step(self) -> None:
        for route in self.paths:
            if isinstance(route, TargetRoute):
                route.targets = None


class TargetRoute(Route):
    """A path that sends targets."""

    targets: Tensor | None = None

    def sending(
        self, error_at: Tensor, batch_axes: int, kept: Sequence[Kept]
    ) -> tuple[Projection, PointFeedback | None]:
        batch, width = error_at.shape[:batch_axes], math.prod(error_at.shape[batch_axes:])
        if self.targets is not None:
            _check(self.targets, self.source_name, batch, width)
        _, at_point = super().sending(error_at, batch_axes, kept)
        return partial(self._project_targets, self.targets), at_point

    def _project_targets(self, targets: Tensor | None, error: Tensor, matrix: Tensor) -> Tensor:
        if targets is None:
            raise TargetsMissing(
                "TargetProjection sends the targets of a batch, but was not given them. Call "
                "attached.begin_step(targets=targets) before each forward."
            )
        targets = targets.to(error.device)
        if targets.is_floating_point():
            rows = targets.reshape(error.shape).to(error.dtype)
            return self.project(rows, matrix) / max(error.shape[0], 1)
        classes = targets.reshape(-1)
        known = (classes >= 0).unsqueeze(1)
        one_hot = torch.arange(error.shape[1], device=error.device) == classes.unsqueeze(1)
        return self.project(one_hot.to(error.dtype), matrix) / known.sum().clamp(min=1)


def _check(targets: Tensor, source: str, batch: torch.Size, width: int) -> None:
    if targets.is_floating_point():
        fits = targets.numel() == batch.numel() * width and targets.shape[: len(batch)] == batch
        expected = f"numbers of shape {(*batch, width)}"
    else:
        fits = targets.numel() == batch.numel() and (not targets.numel() or int(targets.max()) < width)
        expected = f"classes below {width}, of shape {tuple(batch)}"
    if not fits:
        found = f"shape {tuple(targets.shape)}"
        if not targets.is_floating_point() and targets.numel():
            found += f" and classes up to {int(targets.max())}"
        raise ShapeMismatch(
            f"The targets have {found}, but the error at '{source}' needs {expected}. Choose the error source whose "
            f"output is compared with the targets."
        )

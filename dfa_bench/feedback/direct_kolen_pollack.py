"""Direct Kolen–Pollack (Webster, Choi & Ahn 2021, "Learning the Connections in Direct Feedback Alignment").

DFA whose matrices learn, each as if there were a direct connection from its point to the error source. With the
activation h_i of the point, a batch of rows, and the error δa_y,

    B_i ← B_i − η (δa_y h_i^T + λ B_i)

which is the gradient step of W for the last hidden layer (Kolen & Pollack's condition: W and B go through the same
changes, and both decay), and for those below it that of a connection that skips the layers between. Both factors are at
hand at the point: nothing is transported. The matrices have a step size η of their own, since they never meet the
optimizer of the model; a plain step, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfa_bench.feedback.broadcast import LearnedBroadcast
from dfa_bench.feedback.broadcast_attachment import BroadcastAttachment
from dfa_bench.feedback.compiler import in_backward
from dfa_bench.feedback.direct import DirectFeedback
from dfa_bench.feedback.errors import FeedbackError, StepNotEnded
from dfa_bench.feedback.kolen_pollack import check_decay
from dfa_bench.feedback.matrix import MatrixRecipe
from dfa_bench.feedback.paths import ResolvedPath
from dfa_bench.feedback.route import Route, Segment, mapped_rows


@dataclass(frozen=True)
class DirectKolenPollack(DirectFeedback):
    """Direct Kolen–Pollack: DFA with a matrix for each point, which learns by local updates.

    >>> attached = DirectKolenPollack(lr=0.1).attach(model, path, example=inputs)
    >>> loss(model(inputs), targets).backward()
    >>> optimizer.step()
    >>> attached.end_step()  # or once, before training: attached.follow(optimizer)

    In mixed precision use bfloat16. float16 needs torch.amp.GradScaler, which multiplies the errors that the matrices
    learn from, and this rule cannot see by how much: their steps would be as many times too long.

    Args:
        seed, distribution, scale, density: of the initial matrices, as in DirectFeedback; `shared` must be False.
        lr: η, the step size of the matrices.
        decay: λ.

    Raises (at the forward):
        FeedbackError: the error or an activation is in float16.
        StepNotEnded: the weights have changed, and the matrices did not learn. Fused optimizers hide the change.
    """

    shared: bool = False
    lr: float = 0.1
    decay: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shared or self.rank is not None or self.projection is not None:
            raise ValueError("shared, rank and projection: each point learns a full matrix of its own here.")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr={self.lr}: give a positive number.")
        check_decay(self.decay)
        if self.streaming:
            raise ValueError("streaming: the matrices learn from activations, which streaming does not keep.")

    def attachment(self, model: nn.Module, found: Sequence[ResolvedPath]) -> BroadcastAttachment:
        return LearnedAttachment(model, found, self, self.lr, self.decay)


class LearnedAttachment(BroadcastAttachment):
    """DFA's attachment, with matrices that take a step after the optimizer's."""

    changes_matrices = True

    def __init__(
        self, model: nn.Module, found: Sequence[ResolvedPath], recipe: MatrixRecipe, lr: float, decay: float
    ) -> None:
        super().__init__(model, found, recipe, LearnedRoute)
        self.lr, self.decay = lr, decay
        self._versions: int | None = None  # of the weights, at the first forward of a step
        self.keep(model.register_forward_pre_hook(self._before_forward))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._versions = None  # a copied weight counts from 0

    def _before_forward(self, model: nn.Module, args: object) -> None:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled() or in_backward():
            return
        versions = sum(parameter._version for parameter in model.parameters())
        is_under_way = any(route.matrix is not None and route.matrix.grad is not None for route in self.paths)
        if is_under_way and self._versions not in (None, versions):
            raise StepNotEnded
        self._versions = versions

    @torch.no_grad()
    def end_step(self) -> None:
        for route in self.paths:
            if route.matrix is not None and route.matrix.grad is not None:
                gradient = _mean_over_processes(route.matrix.grad)
                route.matrix.sub_(gradient + self.decay * route.matrix, alpha=self.lr)
        self.forget_step()

    def forget_step(self) -> None:
        for route in self.paths:
            if route.matrix is not None:
                route.matrix.grad = None


class LearnedRoute(Route):
    """A path whose matrix gets a gradient, summed over backwards until `end_step`."""

    def send(self, error_at: Tensor, matrix: Tensor, segment: Segment, activations: Sequence[Tensor]) -> Tensor:
        assert self.matrix is not None
        if any(each.dtype == torch.float16 for each in (error_at, *activations)):
            raise FeedbackError(
                "DirectKolenPollack does not train in float16: a GradScaler, which float16 needs, multiplies the "
                "errors that its matrices learn from, so that their steps would be thousands of times too long. Use "
                "bfloat16 or float32."
            )
        if not (self.matrix.requires_grad and self.matrix.is_leaf):  # drawn, or moved to another device
            self.matrix = self.matrix.detach().requires_grad_()
        matrix, rows = self.matrix.to(error_at.device), mapped_rows(segment.kept) or None
        sent: Tensor = LearnedBroadcast.apply(
            error_at, matrix, segment.batch_axes, segment.names, segment.spans, rows, *activations
        )
        return sent


def _mean_over_processes(gradient: Tensor) -> Tensor:
    """As DistributedDataParallel averages those of the model."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return gradient
    gradient = gradient.clone()
    torch.distributed.all_reduce(gradient)
    return gradient / torch.distributed.get_world_size()

"""Kolen–Pollack (Kolen & Pollack 1994; Akrout et al. 2019, arXiv 1904.05391) on an untouched model.

As feedback alignment, with feedback that learns: B begins at random and goes through the changes of W, and both decay
(Akrout et al., eqs. 16 and 17),

    W ← W + ΔW − λW        B ← B + ΔW − λB,

so that W − B shrinks by 1 − λ at each step and B^T δ becomes the W^T δ of BP. Nothing is transported: without weight
decay ΔW is a function of the δ and h of the layer, which are at hand where B is. The decay of an optimizer that has one
(`weight_decay`) is a part of ΔW that depends on W: leave it at 0 and set `decay` here, to be strict.

ΔW is whatever the optimizer does (Adam's step too), measured as the difference between the weights before and after it.
That costs one copy of the weights. Which modules are layers: see `layerwise_rule.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dfa_bench.feedback.compiler import in_backward
from dfa_bench.feedback.errors import StepNotEnded
from dfa_bench.feedback.feedback_alignment import FeedbackAlignment
from dfa_bench.feedback.layerwise import Layers, LayerwiseAttachment


@dataclass(frozen=True)
class KolenPollack(FeedbackAlignment):
    """Kolen–Pollack: feedback alignment whose matrices follow the weights, by local updates only.

    >>> attached = KolenPollack(decay=1e-3).attach(model, example=inputs)
    >>> loss(model(inputs), targets).backward()
    >>> optimizer.step()
    >>> attached.end_step()  # or once, before training: attached.follow(optimizer)

    Args:
        seed, distribution, scale: of the initial matrices, as in FeedbackAlignment.
        decay: λ, the share of W and of B that is lost at each step of the optimizer. 0: B keeps its distance from W.
    """

    decay: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_decay(self.decay)

    def attachment(self, model: nn.Module, layers: Layers) -> LayerwiseAttachment:
        return KolenPollackAttachment(model, layers, self.decay)


class KolenPollackAttachment(LayerwiseAttachment):
    """Feedback that goes through the changes of the weights."""

    fed_by: ClassVar[str] = "Kolen–Pollack feedback"
    changes_matrices: ClassVar[bool] = True

    def __init__(self, model: nn.Module, layers: Layers, decay: float) -> None:
        super().__init__(model, layers)
        self.decay = decay
        # In a dictionary, so that they are no part of the state.
        self._weights = dict(zip(self.keys, layers.weights, strict=True))
        self._before: dict[str, tuple[int, Tensor]] = {}  # weights at the start of a step, with their versions
        self.keep(model.register_forward_pre_hook(self._before_forward))

    def begin_step(self, **given: object) -> None:
        self._before = {key: (weight._version, weight.detach().clone()) for key, weight in self._weights.items()}

    def _before_forward(self, model: nn.Module, args: object) -> None:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled() or in_backward():
            return
        if not self._before:
            self.begin_step()
        elif any(self._weights[key]._version != version for key, (version, _) in self._before.items()):
            raise StepNotEnded(
                "The weights have changed since the last forward, and the feedback did not follow. Call "
                "attached.end_step() after each optimizer.step(), or attached.follow(optimizer) once before training. "
                "If they changed otherwise, such as by loading a file, call attached.forget_step()."
            )

    @torch.no_grad()
    def end_step(self) -> None:
        if not self._before:
            raise StepNotEnded(
                "There was no forward with gradients outside torch.compile since the last end_step(), so how the "
                "weights have changed is unknown. With a compiled model call attached.begin_step() before the forward."
            )
        for key, (_, before) in self._before.items():
            weight, matrix = self._weights[key], getattr(self, key)
            matrix.mul_(1 - self.decay).add_(weight - before)
            weight.sub_(before, alpha=self.decay)
        self._before = {}

    def forget_step(self) -> None:
        self._before = {}


def check_decay(decay: float) -> None:
    if not 0 <= decay < 1:
        raise ValueError(f"decay={decay}: give a number from 0 to below 1.")

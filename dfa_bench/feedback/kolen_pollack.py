"""Kolen–Pollack (Kolen & Pollack 1994; Akrout et al. 2019, arXiv 1904.05391) on an untouched model.

As feedback alignment, with feedback that learns: B begins at random and goes through the changes of W, and both decay
(Akrout et al., eqs. 16 and 17),

    W ← W + ΔW − λW        B ← B + ΔW − λB,

so that W − B shrinks by 1 − λ at each step and B^T δ becomes the W^T δ of BP. Nothing is transported: without weight
decay ΔW is a function of the δ and h of the layer, which are at hand where B is. The decay of an optimizer that has one
(`weight_decay`) is a part of ΔW that depends on W: leave it at 0 and set `decay` here, to be strict.

ΔW is whatever the optimizer does (Adam's step too), measured as the difference between the weights before and after it.
That costs one copy of the weights. A weight that no optimizer has changed keeps its value, and its B too: frozen ones,
and those that are in no optimizer. Weights that layers share decay once a step. Which modules are layers: see
`layerwise_rule.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

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

    With several optimizers, follow each, or call `end_step` after each of their steps. A step counts for the weights
    that it changes; the others, frozen or in no optimizer, neither decay nor does their B.

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
        self._keys: dict[nn.Parameter, list[str]] = {}  # several where layers share a weight
        for key, weight in zip(self.keys, layers.weights, strict=True):
            self._keys.setdefault(weight, []).append(key)
        self._before: dict[nn.Parameter, Tensor] = {}  # weights that may learn, as they were when last known
        self._versions: dict[nn.Parameter, int] = {}
        self._under_way: set[nn.Parameter] = set()  # weights whose step has begun and not ended
        self.keep(model.register_forward_pre_hook(self._before_forward))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._versions = {weight: weight._version for weight in self._before}  # a copied weight counts from 0

    def begin_step(self, **given: object) -> None:
        self._before = {weight: weight.detach().clone() for weight in self._keys if weight.requires_grad}
        self._versions = {weight: weight._version for weight in self._before}
        self._under_way = {*self._before}

    def _before_forward(self, model: nn.Module, args: object) -> None:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled() or in_backward():
            return
        if any(map(self._is_new, self._under_way)):
            raise StepNotEnded(
                "The weights have changed since the last forward, and the feedback did not follow. Call "
                "attached.end_step() after each optimizer.step(), or attached.follow(optimizer) once before training, "
                "for every optimizer. If they changed otherwise, such as by loading a file, call "
                "attached.forget_step()."
            )
        if any(weight.requires_grad and weight not in self._under_way for weight in self._keys):
            self.begin_step()

    @torch.no_grad()
    def end_step(self) -> None:
        if not self._before and any(weight.requires_grad for weight in self._keys):
            raise StepNotEnded(
                "There was no forward with gradients outside torch.compile, so how the weights have changed is "
                "unknown. With a compiled model call attached.begin_step() before the forward."
            )
        new = {weight for weight in self._before if self._is_new(weight)}
        for weight, before in self._before.items():
            # Fused optimizers leave the version as it was. A look at the values here would wait for a GPU.
            decay = self.decay if weight in new else self.decay * (weight != before).any().to(weight.dtype)
            change = weight - before
            for key in self._keys[weight]:
                getattr(self, key).mul_(1 - decay).add_(change)
            weight.data.sub_(decay * before)  # which is no change to a graph that waits for another optimizer
            before.copy_(weight)
            self._versions[weight] = weight._version
        self._under_way = self._under_way - new if new else set()

    def forget_step(self) -> None:
        self._before, self._versions, self._under_way = {}, {}, set()

    def _is_new(self, weight: nn.Parameter) -> bool:
        return weight._version != self._versions[weight]


def check_decay(decay: float) -> None:
    if not 0 <= decay < 1:
        raise ValueError(f"decay={decay}: give a number from 0 to below 1.")

"""Kolen–Pollack (Kolen & Pollack 1994; Akrout et al. 2019, arXiv 1904.05391) on an untouched model.

Like feedback alignment, with feedback that learns: B begins at random and goes through the changes of W, and both decay
(Akrout et al., eqs. 16 and 17),

    W ← W + ΔW − λW        B ← B + ΔW − λB,

so that W − B shrinks by 1 − λ at each step and B^T δ becomes the W^T δ of BP. Nothing is transported: without weight
decay ΔW is a function of the δ and h of the layer, which are at hand where B is. The decay of an optimizer that has one
(`weight_decay`) is a part of ΔW that depends on W: leave it at 0 and set `decay` here, to be strict.

ΔW is whatever the optimizer does (Adam's step too), measured as the difference between the weights before and after it.
That costs one copy of the weights. A weight that no optimizer has changed keeps its value, and so does its B: frozen
ones, and those in no optimizer. Weights that layers share decay once per step. Which modules are layers: see
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
        seed, distribution, scale: those of the initial matrices, as in FeedbackAlignment.
        decay: λ, the share of W and of B that is lost at each step of the optimizer. 0: B keeps its distance from W.
    """

    decay: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_decay(self.decay)

    def attachment(self, model: nn.Module, layers: Layers) -> LayerwiseAttachment:
        return KolenPollackAttachment(model, layers, self.decay)


@dataclass
class Followed:
    """What is known of a weight whose changes its feedback goes through."""

    keys: list[str]  # of its feedback: several where layers share the weight
    before: Tensor | None = None  # the weight when last known; None where it does not learn, or nothing is known
    version: int = 0  # of the weight at that time
    is_under_way: bool = False  # its step has begun and not ended


class KolenPollackAttachment(LayerwiseAttachment):
    """Feedback that goes through the changes of the weights."""

    fed_by: ClassVar[str] = "Kolen–Pollack feedback"
    changes_matrices: ClassVar[bool] = True

    def __init__(self, model: nn.Module, layers: Layers, decay: float) -> None:
        super().__init__(model, layers)
        self.decay = decay
        self._followed: dict[nn.Parameter, Followed] = {}  # in a dictionary, so that they are not part of the state
        for key, weight in zip(self.keys, layers.weights, strict=True):
            self._followed.setdefault(weight, Followed([])).keys.append(key)
        self.keep(model.register_forward_pre_hook(self._before_forward))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for weight, known in self._followed.items():
            known.version = weight._version  # a copied weight counts from 0

    def begin_step(self, **given: object) -> None:
        for weight, known in self._followed.items():
            known.before = weight.detach().clone() if weight.requires_grad else None
            known.version, known.is_under_way = weight._version, weight.requires_grad

    def _before_forward(self, model: nn.Module, args: object) -> None:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled() or in_backward():
            return
        if any(known.is_under_way and known.version != weight._version for weight, known in self._followed.items()):
            raise StepNotEnded
        if any(weight.requires_grad and not known.is_under_way for weight, known in self._followed.items()):
            self.begin_step()

    @torch.no_grad()
    def end_step(self) -> None:
        learning = [(weight, known) for weight, known in self._followed.items() if known.before is not None]
        if not learning and any(weight.requires_grad for weight in self._followed):
            raise StepNotEnded(
                "There was no forward with gradients outside torch.compile, so how the weights have changed is "
                "unknown. With a compiled model call attached.begin_step() before the forward."
            )
        new = {weight for weight, known in learning if known.version != weight._version}
        for weight, known in learning:
            before = known.before
            assert before is not None
            # Fused optimizers leave the version as it was. A look at the values here would wait for a GPU.
            decay = self.decay if weight in new else self.decay * (weight != before).any().to(weight.dtype)
            change = weight - before
            for key in known.keys:
                getattr(self, key).mul_(1 - decay).add_(change)
            weight.data.sub_(decay * before)  # which is no change to a graph that waits for another optimizer
            before.copy_(weight)
            known.version = weight._version
            known.is_under_way = known.is_under_way and bool(new) and weight not in new

    def forget_step(self) -> None:
        for known in self._followed.values():
            known.before, known.is_under_way = None, False


def check_decay(decay: float) -> None:
    if not 0 <= decay < 1:
        raise ValueError(f"decay={decay}: give a number from 0 to below 1.")

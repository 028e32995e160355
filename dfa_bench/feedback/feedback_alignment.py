"""Feedback alignment (Lillicrap et al. 2016, Nature Communications 7:13276) on an untouched model.

BP sends W^T δ to the layer below; feedback alignment sends B^T δ, with a fixed random B in the shape of W. The gradient
of W itself is the ordinary one, given the δ that arrives. So layer by layer, from above:

    δ_{i-1} = (∂h_i / ∂h_{i-1} with B_i in place of W_i)^T δ_i

Which modules are layers: see `layerwise_rule.py`.

B has the size of the layer's initial weights, as in Lillicrap et al.: its entries have their root mean square,
so that the gradients of a deep network neither vanish nor grow at the start where BP's do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dfa_bench.feedback.layerwise_rule import LayerwiseRule, size_of, stream
from dfa_bench.feedback.matrix import check_choice, check_seed

Distribution = Literal["uniform", "normal"]


@dataclass(frozen=True)
class FeedbackAlignment(LayerwiseRule):
    """Feedback alignment: on the way back, each layer's weights are replaced by fixed random ones.

    >>> attached = FeedbackAlignment(seed=0).attach(model, example=inputs)
    >>> loss(model(inputs), targets).backward()

    Paths do not influence its gradients; their error sources only say what a row is when alignment is measured.

    Tensors that need a gradient must reach a layer as its arguments, or in lists, tuples and dictionaries of them.

    Args:
        seed: for the feedback matrices only.
        distribution: that of their entries, "uniform" or "normal", with mean zero.
        scale: root mean square of the entries, relative to that of the layer's weights when the rule is attached;
            weights that are all zero count as 1/sqrt(their longest axis).
    """

    seed: int = 0
    distribution: Distribution = "uniform"
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_scale(self.scale)
        check_choice("distribution", self.distribution, Distribution)

    def draw(self, name: str, weight: Tensor) -> Tensor:
        drawn, generator = torch.empty(weight.shape), stream(self.seed, name)
        if self.distribution == "uniform":
            drawn.uniform_(-(3**0.5), 3**0.5, generator=generator)  # of root mean square 1
        else:
            drawn.normal_(generator=generator)
        return drawn.mul_(self.scale * size_of(weight)).to(weight.device, weight.dtype)


def check_scale(scale: float) -> None:
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale={scale}: give a positive number.")

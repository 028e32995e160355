"""Sign-symmetry (Liao, Leibo & Poggio 2016, arXiv 1510.05067) on an untouched model.

Like feedback alignment, with feedback that shares the signs of the weights: the layer below gets V^T δ, where

    V = M ∘ sign(W)

and the magnitudes M of a layer are all equal (uniform, "uSF"), drawn anew for each batch ("brSF"), or drawn once
("frSF"). What is transported is one bit per weight, at every step. Moskovitz, Litwin-Kumar & Abbott 2018 (arXiv
1812.06488) find that this goes a long way on convolutional networks, where feedback alignment does not.

M has the root mean square of the layer's weights when the rule is attached; how that size changes is not followed.
sign(0) is 0: a weight that is exactly zero sends nothing back. Which modules are layers: see `layerwise_rule.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from dfa_bench.feedback.compiler import in_backward
from dfa_bench.feedback.errors import LayerNotReplayable
from dfa_bench.feedback.feedback_alignment import check_scale
from dfa_bench.feedback.layerwise import Layers, LayerwiseAttachment
from dfa_bench.feedback.layerwise_rule import LayerwiseRule, size_of, stream
from dfa_bench.feedback.matrix import check_choice, check_seed

Magnitude = Literal["uniform", "batch", "fixed"]


@dataclass(frozen=True)
class SignSymmetry(LayerwiseRule):
    """Sign-symmetry: on the way back, each layer's weights are replaced by other magnitudes with the same signs.

    >>> attached = SignSymmetry(magnitude="fixed", seed=0).attach(model, example=inputs)
    >>> loss(model(inputs), targets).backward()

    Args:
        seed: for the magnitudes only.
        magnitude: "uniform": all of a layer's are equal (uSF); "batch": drawn for each forward with gradients (brSF);
            "fixed": drawn once (frSF). Draws are uniform and not negative.
        scale: root mean square of the magnitudes, relative to that of the layer's weights when the rule is attached;
            weights that are all zero count as 1/sqrt(their longest axis).
    """

    seed: int = 0
    magnitude: Magnitude = "uniform"
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_scale(self.scale)
        check_choice("magnitude", self.magnitude, Magnitude)

    def draw(self, name: str, weight: Tensor) -> Tensor:
        size = self.scale * size_of(weight)
        if self.magnitude == "uniform":
            return torch.full_like(weight, size, requires_grad=False)
        drawn = torch.empty(weight.shape).uniform_(0, 3**0.5, generator=stream(self.seed, name))
        return drawn.mul_(size).to(weight.device, weight.dtype)

    def attachment(self, model: nn.Module, layers: Layers) -> LayerwiseAttachment:
        if self.magnitude != "batch":
            return SignAttachment(model, layers)
        sizes = [self.scale * size_of(weight) for weight in layers.weights]
        return BatchSignAttachment(model, layers, self.seed, sizes)


class SignAttachment(LayerwiseAttachment):
    """Its buffers are the magnitudes M; the signs are those that the weights have in the forward."""

    fed_by: ClassVar[str] = "sign-symmetry"

    def in_place_of(self, module: nn.Module, keys: Mapping[str, str]) -> dict[str, Tensor]:
        magnitudes = super().in_place_of(module, keys)
        return {name: module.get_parameter(name).detach().sign() * size for name, size in magnitudes.items()}


class BatchSignAttachment(SignAttachment):
    """Magnitudes are drawn anew before each forward with gradients; a checkpoint knows how many times."""

    changes_matrices: ClassVar[bool] = True
    draws: Tensor

    def __init__(self, model: nn.Module, layers: Layers, seed: int, sizes: Sequence[float]) -> None:
        super().__init__(model, layers)
        self.seed, self.sizes = seed, dict(zip(self.keys, sizes, strict=True))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))
        self.keep(model.register_forward_pre_hook(self._redraw))

    def _redraw(self, model: nn.Module, args: object) -> None:
        if torch.compiler.is_compiling():
            raise LayerNotReplayable(
                "SignSymmetry(magnitude='batch') draws magnitudes before each forward, which a compiled graph cannot "
                "contain. Compile parts of the model instead of the whole, or choose magnitude='fixed'."
            )
        if not torch.is_grad_enabled() or in_backward():
            return
        # New tensors each time: a backward that is still to come keeps its own.
        self.draws = self.draws + 1
        draws = int(self.draws)
        for key, size in self.sizes.items():
            before = getattr(self, key)
            drawn = torch.empty(before.shape).uniform_(0, 3**0.5, generator=stream(self.seed, f"{key} {draws}"))
            setattr(self, key, drawn.mul_(size).to(before.device, before.dtype))

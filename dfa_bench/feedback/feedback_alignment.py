"""Feedback alignment (Lillicrap et al. 2016, Nature Communications 7:13276) on an untouched model.

BP sends W^T δ to the layer below; feedback alignment sends B^T δ, with a fixed random B in the shape of W. The gradient
of W itself is the ordinary one, given the δ that arrives. So layer by layer, from above:

    δ_{i-1} = (∂h_i / ∂h_{i-1} with B_i in the place of W_i)^T δ_i

Which modules are layers: the innermost ones that are called with a tensor and own weights of two or more dimensions. A
module owns the weights of those below it that are not called themselves (DNAConv those of its MultiHead). Embeddings
and norms are left alone; they learn, and hand back, by ordinary derivatives.

How a layer's input gradient is computed: for linear and convolutional layers directly; for all others by running the
same module once more, during the backward, with B in the place of its weights. For a layer that is linear in its input
this is the formula above; for one that is not, such as attention, it is the derivative at the point (x, B).

B is drawn in the size of the layer's initial weights, as Lillicrap et al. do: its entries have their root mean square,
so that the gradients of a deep network neither vanish nor grow at the start where BP's do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils import _pytree as pytree

from dfa_bench.feedback.attachment import Attachment
from dfa_bench.feedback.errors import LayerNotReplayable, LayersUnknown
from dfa_bench.feedback.layerwise import LayerwiseAttachment
from dfa_bench.feedback.matrix import check_seed
from dfa_bench.feedback.paths import FeedbackPath, resolve
from dfa_bench.feedback.rule import Rule, differing, run_once

LEFT_ALONE = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _NormBase)


@dataclass(frozen=True)
class FeedbackAlignment(Rule):
    """Feedback alignment: on the way back, each layer's weights are replaced by fixed random ones.

    >>> attached = FeedbackAlignment(seed=0).attach(model, example=inputs)
    >>> loss(model(inputs), targets).backward()

    Paths have no influence on its gradients: their error sources say what a row is when alignment is measured.

    Tensors that need a gradient must reach a layer as its arguments, or in lists, tuples and dictionaries of them.

    Args:
        seed: of the feedback matrices only.
        distribution: of their entries, "uniform" or "normal", with mean zero.
        scale: root mean square of the entries, relative to that of the layer's weights when the rule is attached;
            weights that are all zero count as 1/sqrt(their longest axis).
    """

    leaves_parameters_out: ClassVar[bool] = False

    seed: int = 0
    distribution: Literal["uniform", "normal"] = "uniform"
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.distribution not in (known := get_args(Literal["uniform", "normal"])):
            raise ValueError(f"distribution='{self.distribution}': choose one of {', '.join(map(repr, known))}.")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale={self.scale}: give a positive number.")

    def build(self, model: nn.Module, paths: Sequence[FeedbackPath], example: object) -> Attachment:
        if example is None:
            raise LayersUnknown(
                "FeedbackAlignment finds the layers of a model by running it once. "
                "Pass an example batch: attach(model, example=...)."
            )
        called = _called_with_tensors(model, example)
        layers = find_layers(model, called)
        names = {module: name for name, module in model.named_modules()}
        drawn = {
            module: {name: self._draw(f"{names[module]}.{name}", weight) for name, weight in weights.items()}
            for module, weights in layers.items()
        }
        passed_by = [module for module in model.modules() if module not in called and _own_matrices(module)]
        sources = [found.error_source for found in resolve(model, paths or [FeedbackPath(points=())])]
        return LayerwiseAttachment(model, sources, drawn, passed_by)

    def outcome(self, paths: Sequence[FeedbackPath]) -> dict[str, Any]:
        return differing(self)

    def _draw(self, name: str, weight: Tensor) -> Tensor:
        """B of one weight, on the CPU from a stream of its own, so that a seed gives the same B on every device."""
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        drawn = torch.empty(weight.shape)
        if self.distribution == "uniform":
            drawn.uniform_(-(3**0.5), 3**0.5, generator=generator)  # of root mean square 1
        else:
            drawn.normal_(generator=generator)
        size = float(weight.detach().double().square().mean().sqrt()) or max(weight.shape) ** -0.5
        return drawn.mul_(self.scale * size).to(weight.device, weight.dtype)


def find_layers(model: nn.Module, called: Collection[nn.Module]) -> dict[nn.Module, dict[str, Tensor]]:
    """The layers of a model, each with its weights by the name that they have in it; see the top of this file.

    Args:
        model: any module.
        called: the modules that a forward calls with tensors.

    Raises:
        LayerNotReplayable: a recurrent layer.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    owned: dict[nn.Module, dict[str, Tensor]] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        parts = path.split(".")
        if parameter.ndim < 2 or isinstance(modules[".".join(parts[:-1])], LEFT_ALONE):
            continue
        for depth in range(len(parts) - 1, -1, -1):
            owner = modules[".".join(parts[:depth])]
            if owner in called:
                owned.setdefault(owner, {})[".".join(parts[depth:])] = parameter
                break
    layers = {
        module: weights
        for module, weights in owned.items()
        if not any(other in owned for other in module.modules() if other is not module)
    }
    for module in layers:
        if isinstance(module, nn.RNNBase):
            raise LayerNotReplayable(
                f"FeedbackAlignment cannot replace the weights of {type(module).__name__}, which PyTorch keeps in a "
                f"list of its own. Use cells (nn.{type(module).__name__}Cell) in a loop."
            )
    return layers


def _called_with_tensors(model: nn.Module, example: object) -> set[nn.Module]:
    called: set[nn.Module] = set()

    def note(module: nn.Module, args: object, kwargs: object) -> None:
        leaves = pytree.tree_leaves((args, kwargs))
        if any(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in leaves):
            called.add(module)

    handles = [module.register_forward_pre_hook(note, with_kwargs=True) for module in model.modules()]
    try:
        run_once(model, example)
    finally:
        for handle in handles:
            handle.remove()
    return called


def _own_matrices(module: nn.Module) -> bool:
    matrices = [weight for weight in module.parameters(recurse=False) if weight.ndim > 1]
    return bool(matrices) and not isinstance(module, LEFT_ALONE)

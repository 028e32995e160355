"""What rules that go layer by layer have in common: which modules are layers, and a matrix for each of their weights.

Which modules are layers: the innermost ones that are called with a tensor and own weights of two or more dimensions. A
module owns the weights of those below it that are not called themselves (DNAConv those of its MultiHead). Embeddings
and norms are left alone; they learn, and hand back, by ordinary derivatives.

How a layer's input gradient is computed: for linear and convolutional layers directly; for all others by running the
same module once more, during the backward, with other weights in place of its own. For a layer that is not linear
in its input, such as attention, it is the derivative at the point (x, B).
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils import _pytree as pytree

from dfa_bench.feedback.attachment import Attachment
from dfa_bench.feedback.errors import LayerNotReplayable, LayersUnknown
from dfa_bench.feedback.layerwise import Layers, LayerwiseAttachment
from dfa_bench.feedback.paths import FeedbackPath, resolve
from dfa_bench.feedback.rule import Rule, differing, run_once

LEFT_ALONE = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _NormBase)


class LayerwiseRule(Rule):
    """On the way back, other weights replace each layer's own; the rules differ in which."""

    leaves_parameters_out: ClassVar[bool] = False

    @abstractmethod
    def draw(self, name: str, weight: Tensor) -> Tensor:
        """What is drawn for one weight when the rule is attached, in its shape, on its device, in its dtype."""

    def attachment(self, model: nn.Module, layers: Layers) -> LayerwiseAttachment:
        return LayerwiseAttachment(model, layers)

    def build(self, model: nn.Module, paths: Sequence[FeedbackPath], example: object) -> Attachment:
        if example is None:
            raise LayersUnknown(
                f"{type(self).__name__} finds the layers of a model by running it once. "
                f"Pass an example batch: attach(model, example=...)."
            )
        called = _called_with_tensors(model, example)
        names = {module: name for name, module in model.named_modules()}
        drawn = {
            module: {name: self.draw(f"{names[module]}.{name}", weight) for name, weight in weights.items()}
            for module, weights in find_layers(model, called, type(self).__name__).items()
        }
        passed_by = [module for module in model.modules() if module not in called and _own_matrices(module)]
        sources = [found.error_source for found in resolve(model, paths or [FeedbackPath(points=())])]
        return self.attachment(model, Layers(sources, drawn, passed_by))

    def outcome(self, paths: Sequence[FeedbackPath]) -> dict[str, Any]:
        return differing(self)


def stream(seed: int, name: str) -> torch.Generator:
    """A generator of its own for each seed and name, on the CPU, so that a seed draws the same on every device."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def size_of(weight: Tensor) -> float:
    """Root mean square of a layer's weights; weights that are all zero count as 1/sqrt(their longest axis)."""
    return float(weight.detach().double().square().mean().sqrt()) or max(weight.shape) ** -0.5


def find_layers(model: nn.Module, called: Collection[nn.Module], rule: str) -> dict[nn.Module, dict[str, Tensor]]:
    """The layers of a model, each with its weights by the name that they have in it; see the top of this file.

    Args:
        model: any module.
        called: the modules that a forward calls with tensors.
        rule: its name, for messages.

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
                f"{rule} cannot replace the weights of {type(module).__name__}, which PyTorch keeps in a "
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

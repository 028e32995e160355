"""Watch one forward and backward: the gradients that arrive at the outputs of modules and at parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dfa_bench.feedback.compiler import in_backward


@dataclass
class Recording:
    """What has arrived.

    `outputs` has, for each module that ran, one gradient per call (None where none came back); of several returned
    tensors, the first one's. `parameters` has those that got one.
    """

    outputs: dict[str, list[Tensor | None]] = field(default_factory=dict)
    parameters: dict[str, Tensor] = field(default_factory=dict)


@contextmanager
def recorded(model: nn.Module) -> Iterator[Recording]:
    """Record all modules and parameters of a model inside the block, which changes nothing there.

    The output of a feedback point is what the point itself returned: what its rule hands on is another tensor.
    """
    found = Recording()
    handles: list[torch.utils.hooks.RemovableHandle] = []

    def at_module(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, args: object, output: object) -> None:
            if in_backward():
                return  # checkpointing recomputes what has been seen
            calls = found.outputs.setdefault(name, [])
            calls.append(None)
            tensors = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
            if tensors and tensors[0].requires_grad:
                handles.append(tensors[0].register_hook(_into(calls, len(calls) - 1)))

        return hook

    def at_parameter(name: str) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            found.parameters[name] = _sum(found.parameters.get(name), gradient)

        return hook

    for name, module in model.named_modules():
        handles.append(module.register_forward_hook(at_module(name), prepend=True))  # before the hook of a point
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            handles.append(parameter.register_hook(at_parameter(name)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _into(calls: list[Tensor | None], call: int) -> Callable[[Tensor], None]:
    def hook(gradient: Tensor) -> None:
        calls[call] = _sum(calls[call], gradient)

    return hook


def _sum(before: Tensor | None, gradient: Tensor) -> Tensor:
    """Several backwards of one forward add up, as in `.grad`."""
    return gradient.detach() if before is None else before + gradient.detach()

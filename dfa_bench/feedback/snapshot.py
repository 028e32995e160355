"""Notices in-place changes of a kept activation that would falsify gradients."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.autograd.graph import Node


class Snapshot(NamedTuple):
    """What a kept activation looked like, so that an in-place change that falsifies gradients is noticed."""

    version: int
    graph: Node | None
    aliases_input: bool  # the point returned its input or a view of it, which others may use

    @classmethod
    def of(cls, activation: Tensor, args: tuple[object, ...]) -> Snapshot:
        if not activation.requires_grad:
            return cls(-1, None, False)
        base = activation if activation._base is None else activation._base
        inputs = [arg for arg in args if isinstance(arg, Tensor)]
        return cls(activation._version, base.grad_fn, any(base is arg or base is arg._base for arg in inputs))

    def is_broken_by(self, activation: Tensor) -> bool:
        if self.version < 0 or activation._version == self.version:
            return False
        base = activation if activation._base is None else activation._base
        return self.aliases_input or base.grad_fn is not self.graph

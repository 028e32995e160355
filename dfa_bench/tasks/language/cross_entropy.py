"""Cross-entropy of a linear layer's logits that are never whole: 8,192 tokens of 32,000 words would take 1 GB."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WHOLE = 2**26  # logits; fewer are made at once, and more of them so many at a time


def mean_cross_entropy(hidden: Tensor, vocabulary: nn.Linear, targets: Tensor, largest: int | None = None) -> Tensor:
    """Mean over tokens of -log softmax(hidden Wᵀ + b) at the target, in nats.

    The layer is applied as a module, hooks included, where its logits are few or a hook waits for them (an error
    source, or alignment, at the vocabulary projection).

    Args:
        hidden: (..., width), any leading axes.
        vocabulary: width to words.
        targets: (...).
        largest: number of logits to make at once; None: `WHOLE`.
    """
    rows = max(1, (largest or WHOLE) // vocabulary.out_features)
    if targets.numel() <= rows or _is_hooked(vocabulary):
        return F.cross_entropy(vocabulary(hidden).flatten(0, -2), targets.flatten())
    parameters = vocabulary.weight, vocabulary.bias
    loss: Tensor = ChunkedCrossEntropy.apply(hidden.flatten(0, -2), *parameters, targets.flatten(), rows)
    return loss


class ChunkedCrossEntropy(torch.autograd.Function):
    """The gradients, which are smaller than the logits, are made in the forward: no logit is computed twice.

    Under autocast the products are in its precision, and the softmax in float32, as without chunks.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, rows: int) -> Tensor:
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        total = torch.zeros((), dtype=dtype, device=hidden.device)
        to_hidden, to_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        to_bias = None if bias is None else torch.zeros_like(bias)
        for start in range(0, len(hidden), rows):
            some = slice(start, start + rows)
            logits = F.linear(hidden[some], weight, bias)  # (rows, words)
            index = targets[some].unsqueeze(1)
            log_probabilities = F.log_softmax(logits, dim=-1, dtype=dtype)
            total -= log_probabilities.gather(1, index).sum()
            error = log_probabilities.exp_()
            error.scatter_add_(1, index, torch.full_like(index, -1, dtype=dtype))
            error = (error / len(hidden)).to(logits.dtype)
            to_hidden[some] = error @ weight.to(error.dtype)
            to_weight += error.t() @ hidden[some].to(error.dtype)
            if to_bias is not None:
                to_bias += error.sum(dim=0)
        ctx.save_for_backward(to_hidden, to_weight, to_bias)
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = gradients
        scaled = [None if each is None else (scale * each).to(each.dtype) for each in ctx.saved_tensors]
        return (*scaled, None, None)


def _is_hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)

"""Layers of the click models, each one formula. Symbols: N rows, F fields, D width of an embedding."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST = 1e-4  # |e| below it counts as this much, since its logarithm grows without bound


def pairwise(embedded: Tensor) -> Tensor:
    """Σ_{i<j} ⟨e_i, e_j⟩ in linear time (Rendle 2010, eq. 5): (N, F, D) to (N,)."""
    of_sum, sum_of = embedded.sum(dim=1).square(), embedded.square().sum(dim=1)  # (N, D)
    return (of_sum - sum_of).sum(dim=1) / 2


class LinearTerm(nn.Module):
    """Σ_f w[id_f] + b: (N, F) ids to (N,).

    Args:
        vocabulary: number of ids.
        std: of w at first, with mean zero; 1 is torchfm's, that is PyTorch's for an embedding.
    """

    def __init__(self, vocabulary: int, std: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Embedding(vocabulary, 1)
        self.bias = nn.Parameter(torch.zeros(()))
        with torch.no_grad():
            self.weight.weight.mul_(std)  # drawn alike for any std: what is drawn after it starts the same

    def forward(self, ids: Tensor) -> Tensor:
        return self.weight(ids).sum(dim=(1, 2)) + self.bias


class Cross(nn.Module):
    """x_0 (wᵀx) + b + x (Deep & Cross: Wang et al. 2017, eq. 3), (N, width) to (N, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Linear(width, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        return first * self.weight(x) + self.bias + x


class LogNeurons(nn.Module):
    """exp(W ln|e| + b), products of powers of the fields: (N, F, D) to (N, neurons, D).

    AFN: Cheng et al. 2020, eq. 6, with a bias.
    """

    def __init__(self, fields: int, neurons: int) -> None:
        super().__init__()
        self.weight = nn.Linear(fields, neurons)
        nn.init.normal_(self.weight.weight, std=0.02)  # near products of power 0, so that no exponential runs away
        nn.init.zeros_(self.weight.bias)

    def forward(self, embedded: Tensor) -> Tensor:
        logarithm = embedded.abs().clamp(min=SMALLEST).log()
        return self.weight(logarithm.transpose(1, 2)).transpose(1, 2).exp()


class Log1pNeurons(nn.Module):
    """ReLU(expm1(W log1p(|e| + 1e-7))), torchfm 0.7.0's logarithmic layer: (N, F, D) to (N, neurons, D).

    W starts uniform in ± 1/√F, which is a linear layer's own start.
    """

    def __init__(self, fields: int, neurons: int) -> None:
        super().__init__()
        self.weight = nn.Linear(fields, neurons, bias=False)

    def forward(self, embedded: Tensor) -> Tensor:
        logarithm = (embedded.abs() + 1e-7).log1p()
        return self.weight(logarithm.transpose(1, 2)).transpose(1, 2).expm1().relu()


class FieldAttention(nn.Module):
    """Self-attention over the fields of a row (AutoInt: Song et al. 2019), (N, F, width) to (N, F, width).

    Args:
        width: of all heads together.
        heads: which must divide the width, else ValueError.
        dropout: on the attention's weights.
        start: "linear", initial values of plain linear layers; "xavier", of PyTorch's MultiheadAttention: queries, keys
            and values together uniform (Xavier), all biases zero.
    """

    def __init__(
        self, width: int, heads: int, dropout: float = 0.0, start: Literal["linear", "xavier"] = "linear"
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"attention_width={width} must be a multiple of heads={heads}.")
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        if start == "xavier":
            nn.init.xavier_uniform_(self.qkv.weight)
            nn.init.zeros_(self.qkv.bias)
            nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        rows, fields, width = x.shape
        split = self.qkv(x).view(rows, fields, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (N, heads, F, width / heads)
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=self.dropout if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).reshape(rows, fields, width))


class Perceptron(nn.Module):
    """Blocks of Linear, BatchNorm, ReLU, Dropout (the released code's): (N, inputs) to (N, width)."""

    def __init__(self, inputs: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        widths = [inputs, *[width] * depth]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(), nn.Dropout(dropout))
                for before, after in itertools.pairwise(widths)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out

"""FM, DeepFM, Deep & Cross, AFN and AutoInt: ids (N, F) to logits (N,).

Sizes are PAPER.md's, Table 2. Embeddings start uniform (Xavier). Each model adds its parts up in `logit`, where DFA's
error is taken; feedback points and cuts are named in `configs/model/`.

Defaults are those of `variant=clean`. `variant=released`, which `configs/` choose, is the model of torchfm 0.7.0, on
which the released code is built: `linear_std=1.0`, the initial spread of the linear term; for AFN `logarithm="log1p"`;
for AutoInt `attention_start="xavier"`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt, validate_call
from torch import Tensor, cat, nn

from dfa_bench.settings.schema import Fraction
from dfa_bench.tasks.click_through.layers import (
    Cross,
    FieldAttention,
    LinearTerm,
    Log1pNeurons,
    LogNeurons,
    Perceptron,
    pairwise,
)

LOGARITHMS: Mapping[str, Callable[[int, int], nn.Module]] = {"ln": LogNeurons, "log1p": Log1pNeurons}


def embeddings(vocabulary: int, width: int) -> nn.Embedding:
    table = nn.Embedding(vocabulary, width)
    nn.init.xavier_uniform_(table.weight)
    return table


class FM(nn.Module):
    """Factorisation machine (Rendle 2010)."""

    @validate_call
    def __init__(
        self, fields: int, vocabulary: int, embedding: PositiveInt = 16, linear_std: NonNegativeFloat = 0.0
    ) -> None:
        super().__init__()
        self.linear = LinearTerm(vocabulary, linear_std)
        self.embedding = embeddings(vocabulary, embedding)
        self.logit = nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.logit(self.linear(ids) + pairwise(self.embedding(ids)))
        return out


class DeepFM(nn.Module):
    """A factorisation machine and a perceptron over the same embeddings (Guo et al. 2017)."""

    @validate_call
    def __init__(
        self,
        fields: int,
        vocabulary: int,
        embedding: PositiveInt = 10,
        mlp_width: PositiveInt = 400,
        mlp_depth: PositiveInt = 3,
        dropout: Fraction = 0.5,
        linear_std: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__()
        self.linear = LinearTerm(vocabulary, linear_std)
        self.embedding = embeddings(vocabulary, embedding)
        self.mlp_input = nn.Flatten()
        self.mlp = Perceptron(fields * embedding, mlp_width, mlp_depth, dropout)
        self.deep = nn.Linear(mlp_width, 1)
        self.logit = nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        embedded = self.embedding(ids)  # (N, F, D)
        deep = self.deep(self.mlp(self.mlp_input(embedded))).squeeze(-1)
        out: Tensor = self.logit(self.linear(ids) + pairwise(embedded) + deep)
        return out


class DeepCross(nn.Module):
    """Cross layers beside a perceptron, stacked (Wang et al. 2017)."""

    @validate_call
    def __init__(
        self,
        fields: int,
        vocabulary: int,
        embedding: PositiveInt = 16,
        cross_depth: PositiveInt = 6,
        mlp_width: PositiveInt = 1024,
        mlp_depth: PositiveInt = 2,
        dropout: Fraction = 0.0,
    ) -> None:
        super().__init__()
        width = fields * embedding
        self.embedding = embeddings(vocabulary, embedding)
        self.embedded = nn.Flatten()
        self.cross = nn.ModuleList(Cross(width) for _ in range(cross_depth))
        self.mlp = Perceptron(width, mlp_width, mlp_depth, dropout)
        self.stack = nn.Identity()
        self.output = nn.Linear(width + mlp_width, 1)
        self.logit = nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        first = self.embedded(self.embedding(ids))  # (N, F·D)
        crossed = first
        for layer in self.cross:
            crossed = layer(first, crossed)
        stacked = self.stack(cat([crossed, self.mlp(first)], dim=1))
        out: Tensor = self.logit(self.output(stacked).squeeze(-1))
        return out


class AFN(nn.Module):
    """Adaptive factorisation: logarithmic neurons, then a perceptron (Cheng et al. 2020), and a linear term.

    `logarithm` chooses the neurons: "ln", the paper's, with batch norm behind them; "log1p", torchfm's, without.
    """

    @validate_call
    def __init__(
        self,
        fields: int,
        vocabulary: int,
        embedding: PositiveInt = 10,
        log_neurons: PositiveInt = 1500,
        mlp_width: PositiveInt = 400,
        mlp_depth: PositiveInt = 3,
        dropout: Fraction = 0.3,
        linear_std: NonNegativeFloat = 0.0,
        logarithm: Literal["ln", "log1p"] = "ln",
    ) -> None:
        super().__init__()
        self.linear = LinearTerm(vocabulary, linear_std)
        self.embedding = embeddings(vocabulary, embedding)
        self.embedded = nn.Identity()
        self.log_neurons = LOGARITHMS[logarithm](fields, log_neurons)
        self.log_norm: nn.Module = nn.BatchNorm1d(log_neurons) if logarithm == "ln" else nn.Identity()
        self.log_layer = nn.Flatten()
        self.mlp = Perceptron(log_neurons * embedding, mlp_width, mlp_depth, dropout)
        self.deep = nn.Linear(mlp_width, 1)
        self.logit = nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        products = self.log_norm(self.log_neurons(self.embedded(self.embedding(ids))))  # (N, neurons, D)
        deep = self.deep(self.mlp(self.log_layer(products))).squeeze(-1)
        out: Tensor = self.logit(self.linear(ids) + deep)
        return out


class AutoInt(nn.Module):
    """Self-attention over fields beside a perceptron (Song et al. 2019), and a linear term."""

    @validate_call
    def __init__(
        self,
        fields: int,
        vocabulary: int,
        embedding: PositiveInt = 16,
        attention_width: PositiveInt = 32,
        heads: PositiveInt = 2,
        attention_depth: PositiveInt = 3,
        mlp_width: PositiveInt = 400,
        mlp_depth: PositiveInt = 3,
        dropout: Fraction = 0.0,
        attention_dropout: Fraction = 0.0,
        linear_std: NonNegativeFloat = 0.0,
        attention_start: Literal["linear", "xavier"] = "linear",
    ) -> None:
        super().__init__()
        self.linear = LinearTerm(vocabulary, linear_std)
        self.embedding = embeddings(vocabulary, embedding)
        self.embedded = nn.Identity()
        self.attention_embedding = nn.Linear(embedding, attention_width)
        self.attention = nn.ModuleList(
            FieldAttention(attention_width, heads, attention_dropout, attention_start) for _ in range(attention_depth)
        )
        self.residual = nn.Linear(embedding, attention_width)
        self.activation = nn.ReLU()
        self.attended = nn.Linear(fields * attention_width, 1)
        self.mlp = Perceptron(fields * embedding, mlp_width, mlp_depth, dropout)
        self.deep = nn.Linear(mlp_width, 1)
        self.logit = nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        embedded = self.embedded(self.embedding(ids))  # (N, F, D)
        x = self.attention_embedding(embedded)  # (N, F, attention_width)
        for layer in self.attention:
            x = layer(x)
        x = self.activation(x + self.residual(embedded))
        deep = self.deep(self.mlp(embedded.flatten(1)))
        out: Tensor = self.logit(self.linear(ids) + (self.attended(x.flatten(1)) + deep).squeeze(-1))
        return out

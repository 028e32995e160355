"""The five graph convolution networks of Table 3 and the graph autoencoder's encoder of Table 4.

Settings are the authors' code's (PAPER.md, Tables 3 and 4). Every model takes a `Graph`; the node classifiers return
log-probabilities, (nodes, classes). They do not know how they are trained: feedback points are named in
`configs/feedback/`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt, validate_call
from torch import Tensor, nn
from torch_geometric.nn import GATConv
from torch_geometric.nn.inits import glorot

from dfa_bench.settings.schema import Fraction
from dfa_bench.tasks.graphs.graph import Graph
from dfa_bench.tasks.graphs.layers import ChebConv, DNAConv, GCNConv, SplineConv
from dfa_bench.tasks.graphs.sparse import drop


class Cheb(nn.Module):
    """Two Chebyshev convolutions."""

    @validate_call
    def __init__(
        self, features: int, classes: int, hidden: PositiveInt = 16, K: PositiveInt = 2, dropout: Fraction = 0.5
    ) -> None:
        super().__init__()
        self.conv1 = ChebConv(features, hidden, K)
        self.activation = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.conv2 = ChebConv(hidden, classes, K)
        self.log_probabilities = nn.LogSoftmax(dim=-1)

    def forward(self, graph: Graph) -> Tensor:
        hidden = self.dropout(self.activation(self.conv1(graph.features, graph)))  # (nodes, hidden)
        return self.log_probabilities(self.conv2(hidden, graph))


class GCN(nn.Module):
    """Two graph convolutions: "GraphConv" in the paper."""

    @validate_call
    def __init__(self, features: int, classes: int, hidden: PositiveInt = 16, dropout: Fraction = 0.5) -> None:
        super().__init__()
        self.conv1 = GCNConv(features, hidden)
        self.activation = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.conv2 = GCNConv(hidden, classes)
        self.log_probabilities = nn.LogSoftmax(dim=-1)

    def forward(self, graph: Graph) -> Tensor:
        hidden = self.dropout(self.activation(self.conv1(graph.features, graph)))  # (nodes, hidden)
        return self.log_probabilities(self.conv2(hidden, graph))


class Spline(nn.Module):
    """Two spline convolutions whose pseudo-coordinate is the normalised in-degree of the target."""

    version: ClassVar[int] = 2  # 1: the roots started sqrt(2) wider

    @validate_call
    def __init__(
        self,
        features: int,
        classes: int,
        hidden: PositiveInt = 16,
        kernel_size: Annotated[int, Field(ge=2)] = 2,
        dropout: Fraction = 0.5,
    ) -> None:
        super().__init__()
        self.input_dropout = dropout
        self.conv1 = SplineConv(features, hidden, kernel_size)
        self.activation = nn.ELU()
        self.dropout = nn.Dropout(dropout)
        self.conv2 = SplineConv(hidden, classes, kernel_size)
        self.log_probabilities = nn.LogSoftmax(dim=-1)

    def forward(self, graph: Graph) -> Tensor:
        x = drop(graph.features, self.input_dropout, self.training)
        hidden = self.dropout(self.activation(self.conv1(x, graph)))  # (nodes, hidden)
        return self.log_probabilities(self.conv2(hidden, graph))


class GAT(nn.Module):
    """Two graph attention layers: several heads concatenated, then one head per class scores.

    The first layer's linear map stands before PyG's `GATConv`, so that it sees sparse features. Self-loops are added
    once per graph; in each forward they would make a GPU wait for the CPU.
    """

    @validate_call
    def __init__(
        self,
        features: int,
        classes: int,
        hidden: PositiveInt = 8,
        heads: PositiveInt = 8,
        dropout: Fraction = 0.6,
        attention_dropout1: Fraction = 0.6,
        attention_dropout2: Fraction = 0.6,
    ) -> None:
        super().__init__()
        self.input_dropout = dropout
        self.map1 = nn.Parameter(torch.empty(features, heads * hidden))
        glorot(self.map1)
        self.conv1 = GATConv(heads * hidden, hidden, heads, dropout=attention_dropout1, add_self_loops=False)
        self.conv1.lin = nn.Identity()
        self.activation = nn.ELU()
        self.dropout = nn.Dropout(dropout)
        self.conv2 = GATConv(
            heads * hidden, classes, heads=1, concat=False, dropout=attention_dropout2, add_self_loops=False
        )
        self.log_probabilities = nn.LogSoftmax(dim=-1)

    def forward(self, graph: Graph) -> Tensor:
        x, edges = drop(graph.features, self.input_dropout, self.training), graph.edges_and_loops()
        hidden = self.activation(self.conv1(x @ self.map1, edges))  # (nodes, heads * hidden)
        return self.log_probabilities(self.conv2(self.dropout(hidden), edges))


class DNA(nn.Module):
    """Dynamic neighbourhood aggregation: a linear map, attention over earlier layers several times, a linear map."""

    @validate_call
    def __init__(
        self,
        features: int,
        classes: int,
        hidden: PositiveInt = 128,
        layers: PositiveInt = 5,
        heads: PositiveInt = 8,
        groups: PositiveInt = 16,
        dropout: Fraction = 0.5,
        attention_dropout: Fraction = 0.8,
    ) -> None:
        super().__init__()
        if hidden % heads or hidden % groups or max(heads, groups) % min(heads, groups):
            raise ValueError(
                f"hidden={hidden} must be a multiple of heads={heads} and of groups={groups}, and one of these two a "
                f"multiple of the other."
            )
        embed = nn.Linear(features, hidden)  # for its initial values; kept as (features, hidden) for sparse features
        self.map1, self.bias1 = nn.Parameter(embed.weight.detach().t().contiguous()), nn.Parameter(embed.bias.detach())
        self.activation = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.convs = nn.ModuleList(DNAConv(hidden, heads, groups, attention_dropout) for _ in range(layers))
        self.activations = nn.ModuleList(nn.ReLU() for _ in range(layers))
        self.logits = nn.Linear(hidden, classes)
        self.log_probabilities = nn.LogSoftmax(dim=-1)

    def forward(self, graph: Graph) -> Tensor:
        first = self.activation(graph.features @ self.map1 + self.bias1)
        outputs = [self.dropout(first)]  # of all layers so far, each (nodes, hidden)
        for conv, activation in zip(self.convs, self.activations, strict=True):
            outputs.append(activation(conv(torch.stack(outputs, dim=1), graph)))
        return self.log_probabilities(self.logits(self.dropout(outputs[-1])))


class Encoder(nn.Module):
    """Two graph convolutions from features to the latent z of the graph autoencoder, (nodes, latent)."""

    @validate_call
    def __init__(self, features: int, hidden: PositiveInt = 32, latent: PositiveInt = 16) -> None:
        super().__init__()
        self.conv1 = GCNConv(features, hidden)
        self.activation = nn.ReLU()
        self.conv2 = GCNConv(hidden, latent)

    def forward(self, graph: Graph) -> Tensor:
        return self.conv2(self.activation(self.conv1(graph.features, graph)), graph)

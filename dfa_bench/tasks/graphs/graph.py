"""A citation graph as the models see it, with the operators that they derive from it, each made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import add_self_loops, degree, get_laplacian, remove_self_loops

from dfa_bench.errors import ConfigError
from dfa_bench.tasks.graphs.sparse import SparseMatrix

T = TypeVar("T")


class Graph:
    """One graph.

    Not a dataclass: Lightning Fabric would take one apart and copy it at each forward in mixed precision.

    Args:
        features: (nodes, features), dense or sparse.
        edge_index: (2, edges), source and target of each edge; undirected edges stand in both directions.
    """

    def __init__(self, features: Tensor | SparseMatrix, edge_index: Tensor) -> None:
        self.features, self.edge_index = features, edge_index
        self._derived: dict[str, Any] = {}

    @property
    def nodes(self) -> int:
        return self.features.shape[0]

    @property
    def nbytes(self) -> int:
        """Memory of the features; the edges and what is derived from them take less, or as much."""
        return self.features.nbytes

    def to(self, device: torch.device, **options: Any) -> Graph:
        if self.edge_index.device == torch.device(device):
            return self
        return self.derive(f"on {device}", lambda graph: Graph(graph.features.to(device), graph.edge_index.to(device)))

    def derive(self, name: str, make: Callable[[Graph], T]) -> T:
        """What `make(graph)` returns, made once per graph: normalisations do not change while it trains."""
        if name not in self._derived:
            with torch.no_grad():
                self._derived[name] = make(self)
        return cast(T, self._derived[name])

    def gcn_operator(self) -> SparseMatrix:
        """D^-1/2 (A + I) D^-1/2 of Kipf & Welling 2017, (nodes, nodes); rows are targets."""
        return self.derive("gcn", _gcn_operator)

    def chebyshev_operator(self) -> SparseMatrix:
        """2 L / λ_max − I with the symmetric normalised Laplacian and λ_max = 2, (nodes, nodes)."""
        return self.derive("chebyshev", _chebyshev_operator)

    def edges_and_loops(self) -> Tensor:
        """Edges, and behind them one from each node to itself, (2, edges + nodes)."""
        return self.derive("edges_and_loops", _edges_and_loops)

    def target_indegree(self) -> Tensor:
        """In-degree of each edge's target over the largest one: the pseudo-coordinate of SplineConv, (edges, 1)."""
        return self.derive("target_indegree", _target_indegree)


def node_features(features: Tensor, scaling: Literal["row_normalized", "raw"]) -> SparseMatrix:
    """Features as the models take them: each row divided by its sum, where that is above 1, or as they are.

    Raises:
        ConfigError: features that are to be normalised have negative values, so that a sum says nothing.
    """
    if scaling == "raw":
        return SparseMatrix.from_dense(features)
    if (features < 0).any():
        raise ConfigError(
            "task.features=row_normalized divides each node's features by their sum, and these have negative values. "
            "Set task.features=raw."
        )
    return SparseMatrix.from_dense(features).row_normalized()


def _gcn_operator(graph: Graph) -> SparseMatrix:
    edge_index, weight = gcn_norm(graph.edge_index, None, graph.nodes)
    return SparseMatrix.from_coordinates(edge_index[1], edge_index[0], weight, (graph.nodes, graph.nodes))


def _chebyshev_operator(graph: Graph) -> SparseMatrix:
    edge_index, weight = get_laplacian(graph.edge_index, None, "sym", num_nodes=graph.nodes)
    weight = torch.where(edge_index[0] == edge_index[1], weight - 1, weight)  # λ_max = 2, so 2 L / λ_max = L
    return SparseMatrix.from_coordinates(edge_index[1], edge_index[0], weight, (graph.nodes, graph.nodes))


def _edges_and_loops(graph: Graph) -> Tensor:
    edge_index: Tensor = add_self_loops(remove_self_loops(graph.edge_index)[0], num_nodes=graph.nodes)[0]
    return edge_index


def _target_indegree(graph: Graph) -> Tensor:
    target = graph.edge_index[1]
    indegree = degree(target, graph.nodes)
    return (indegree[target] / indegree.max().clamp(min=1)).unsqueeze(-1)

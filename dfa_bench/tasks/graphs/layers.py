"""Graph convolutions that multiply by the features' non-zeros and map before they propagate.

Each gives what PyG's layer of the same name gives with the same parameters; PyG's own are used where they are fast
(`GATConv`). The linear map commutes with propagation, also for Chebyshev terms: A (X W) costs F'/F of (A X) W.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.conv.dna_conv import Linear as GroupedLinear
from torch_geometric.nn.conv.dna_conv import MultiHead
from torch_geometric.nn.inits import glorot, uniform

from dfa_bench.tasks.graphs.graph import Graph
from dfa_bench.tasks.graphs.sparse import SparseMatrix, sampled_product, weighted_sum


class GCNConv(nn.Module):
    """Kipf & Welling 2017: D^-1/2 (A + I) D^-1/2 X W + b."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        glorot(self.weight)

    def forward(self, x: Tensor | SparseMatrix, graph: Graph) -> Tensor:
        return graph.gcn_operator() @ (x @ self.weight) + self.bias  # (nodes, out_channels)


class ChebConv(nn.Module):
    """Defferrard et al. 2016: sum over k < K of T_k(L̃) X W_k, plus b; by Clenshaw's recurrence after the map."""

    def __init__(self, in_channels: int, out_channels: int, K: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(in_channels, out_channels)) for _ in range(K))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        for weight in self.weights:
            glorot(weight)

    def forward(self, x: Tensor | SparseMatrix, graph: Graph) -> Tensor:
        laplacian = graph.chebyshev_operator()
        mapped = (x @ torch.cat(list(self.weights), dim=1)).chunk(len(self.weights), dim=1)  # K of (nodes, out)
        later, latest = torch.zeros_like(mapped[0]), torch.zeros_like(mapped[0])
        for term in reversed(mapped[1:]):
            later, latest = latest, term + 2 * (laplacian @ latest) - later
        return mapped[0] + laplacian @ latest - later + self.bias


class SplineConv(nn.Module):
    """Fey et al. 2018 with open B-splines of degree 1, mean over neighbours, root weight and bias.

    x'_i = mean over edges j → i of sum_p B_p(u_ij) x_j W_p, plus x_i W_root and b, where the one pseudo-coordinate u_ij
    of an edge is `Graph.target_indegree`.

    PyG's layer needs the compiled package pyg-lib; this one is plain PyTorch.

    Args:
        in_channels: width of x.
        out_channels: width of x'.
        kernel_size: number of control points.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernel_size, in_channels, out_channels))
        self.root = nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        fan_in = kernel_size * in_channels
        uniform(fan_in, self.weight)  # as PyG's layer
        uniform(fan_in, self.root)  # as in PyG 1.5.0, which the authors pinned; today's is sqrt(kernels) wider

    def forward(self, x: Tensor | SparseMatrix, graph: Graph) -> Tensor:
        kernels, _, out_channels = self.weight.shape
        operator = graph.derive(f"spline_{kernels}", lambda graph: spline_operator(graph, kernels))
        weights = torch.cat([*self.weight, self.root], dim=1)  # (in, (kernels + 1) * out)
        mapped = x @ weights
        per_kernel = mapped[:, : kernels * out_channels].reshape(-1, out_channels)  # (nodes * kernels, out)
        return operator @ per_kernel + mapped[:, kernels * out_channels :] + self.bias


def spline_basis(pseudo: Tensor, kernel_size: int) -> tuple[Tensor, Tensor]:
    """Degree-1 open B-spline basis at some points of [0, 1]^dim.

    Args:
        pseudo: (points, dim), each in [0, 1].
        kernel_size: control points along each dimension, at least 2.

    Returns:
        The 2^dim non-zero basis values of each point, (points, 2^dim), which sum to 1, and the flat index of the
        control point that each belongs to, (points, 2^dim); the first dimension runs fastest.
    """
    position = pseudo * (kernel_size - 1)
    lower = position.floor().clamp(max=kernel_size - 2)  # so that 1.0 belongs to the last interval
    fraction = position - lower  # (points, dim) in [0, 1]
    values, indices = [], []
    for corner in itertools.product((0, 1), repeat=pseudo.shape[1]):
        upper = torch.tensor(corner, dtype=torch.bool, device=pseudo.device)
        values.append(torch.where(upper, fraction, 1 - fraction).prod(dim=1))
        strides = kernel_size ** torch.arange(pseudo.shape[1], device=pseudo.device)
        indices.append(((lower.long() + upper.long()) * strides).sum(dim=1))
    return torch.stack(values, dim=1), torch.stack(indices, dim=1)


def spline_operator(graph: Graph, kernels: int) -> SparseMatrix:
    """Mean over neighbours with spline weights: (nodes, nodes * kernels), column = source * kernels + control point."""
    source, target = graph.edge_index
    values, control_points = spline_basis(graph.target_indegree(), kernels)
    neighbours = torch.bincount(target, minlength=graph.nodes).clamp(min=1)
    row = target.repeat_interleave(values.shape[1])
    column = (source.unsqueeze(1) * kernels + control_points).flatten()
    mean = values / neighbours[target].unsqueeze(1)
    return SparseMatrix.from_coordinates(row, column, mean.flatten(), (graph.nodes, graph.nodes * kernels))


class DNAConv(nn.Module):
    """Fey 2019, "Just Jump": each edge attends over the earlier layers of its source node.

    Queries, keys and values are projected once per node, and scores and messages are sparse products whose places are
    the pairs (target; source and layer). PyG's layer copies every source's layers to every edge and projects there.
    """

    def __init__(self, channels: int, heads: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.multi_head = MultiHead(channels, channels, heads, groups, dropout)

    def forward(self, layers: Tensor, graph: Graph) -> Tensor:
        """layers: outputs of all earlier layers, (nodes, layers, channels). Returns (nodes, channels)."""
        depth, channels = layers.shape[1:]
        heads = self.multi_head.heads
        places = graph.derive(f"dna_{depth}", lambda g: layer_operator(g, depth))
        every_layer = layers.reshape(-1, channels)
        scale = math.sqrt(channels // heads)
        query = project(self.multi_head.lin_q, layers[:, -1], heads) / scale  # (heads, nodes, channels / heads)
        key = project(self.multi_head.lin_k, every_layer, heads)  # (heads, nodes * depth, channels / heads)
        value = project(self.multi_head.lin_v, every_layer, heads)
        score = sampled_product(places, query, key)  # (heads, edges * depth)
        attention = restricted_softmax(score.view(heads, -1, depth)).reshape(heads, -1)
        attention = F.dropout(attention, self.multi_head.dropout, self.training) * places.values
        return weighted_sum(places, attention, value).transpose(0, 1).flatten(1)


def layer_operator(graph: Graph, depth: int) -> SparseMatrix:
    """The GCN operator with each column repeated for every earlier layer: (nodes, nodes * depth)."""
    operator = graph.gcn_operator()
    counts = (operator.crow[1:] - operator.crow[:-1]).long()
    target = torch.repeat_interleave(torch.arange(graph.nodes, device=counts.device), counts)
    column = (operator.col.long().unsqueeze(1) * depth + torch.arange(depth, device=counts.device)).flatten()
    values = operator.values.repeat_interleave(depth)
    shape = (graph.nodes, graph.nodes * depth)
    return SparseMatrix.from_coordinates(target.repeat_interleave(depth), column, values, shape)


def restricted_softmax(score: Tensor) -> Tensor:
    """Softmax over the last axis with one more score, 0, whose share is dropped: exp(s) / (1 + sum exp(s)).

    It lets a node attend to nothing. PyTorch is slow along a short last axis, so the axis goes one place forward.
    """
    scores = score.transpose(-1, -2)
    with_nothing = torch.cat([scores, torch.zeros_like(scores[..., :1, :])], dim=-2)
    return with_nothing.softmax(dim=-2)[..., :-1, :].transpose(-1, -2)


def project(linear: GroupedLinear, x: Tensor, heads: int) -> Tensor:
    """PyG's grouped linear map, split by attention head: (rows, channels) to (heads, rows, channels / heads).

    A block is the smallest set of channels made of whole heads and whole groups: one matrix product per block writes
    each head where the sparse products read it, with no copy in between.
    """
    rows = x.shape[0]
    blocks = min(heads, linear.groups)
    weight = linear.weight.unflatten(0, (blocks, -1))  # (blocks, groups per block, width of a group, the same)
    weight = weight[:, 0] if weight.shape[1] == 1 else torch.stack([torch.block_diag(*block) for block in weight])
    mapped = torch.baddbmm(linear.bias.view(blocks, 1, -1), x.view(rows, blocks, -1).transpose(0, 1), weight)
    if heads == blocks:
        return mapped  # (blocks, rows, channels / blocks)
    return mapped.unflatten(2, (heads // blocks, -1)).transpose(1, 2).flatten(0, 1).contiguous()

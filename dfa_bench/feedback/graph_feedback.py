"""DFA for graph networks with topology in the feedback: DFA-GNN (Zhao et al. 2024, arXiv 2406.02040).

The gradient at a node's activation depends on the errors of all nodes that it reaches through the convolutions above.
BP through k graph convolutions multiplies by (S^T)^k and by their weights, so a point with k convolutions between it
and the error source gets

    (S^T)^k Ē B_i        S = D^-1/2 (A + I) D^-1/2

with the fixed random B_i in place of the weights. In semi-supervised learning only some nodes have an error; the
others get a pseudo error, that of the labelled ones spread over the graph,

    Ē = Z_T where a node has no error, E elsewhere        Z_{t+1} = α S Z_t + (1 − α) E        Z_0 = E

as label spreading does (Zhou et al. 2003). The topology of the convolutions above is transported, their weights are
not.

Neither the authors' code nor the body of the paper was available: what their generator of pseudo errors does besides
spreading, and the node filter that their ablation names, are left out, and α and T are ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dfa_bench.feedback.attachment import LearningHook
from dfa_bench.feedback.broadcast import PointFeedback, Projection
from dfa_bench.feedback.broadcast_attachment import BroadcastAttachment
from dfa_bench.feedback.compiler import in_backward
from dfa_bench.feedback.direct import DirectFeedback
from dfa_bench.feedback.errors import ShapeMismatch, TargetsMissing
from dfa_bench.feedback.matrix import MatrixRecipe
from dfa_bench.feedback.paths import ResolvedPath
from dfa_bench.feedback.route import Kept, Route


@dataclass(frozen=True)
class GraphFeedback(DirectFeedback):
    """DFA-GNN: DFA whose feedback goes along the edges of the graph.

    >>> attached = GraphFeedback(seed=0).attach(model, path, example=graph)
    >>> attached.begin_step(edge_index=edge_index)  # before each forward: (2, edges), sources and targets
    >>> loss(model(graph), labels).backward()

    Convolutions are the modules whose class has a name that ends in Conv (GCNConv, SAGEConv, ...), as in PyTorch
    Geometric and DGL; those that run between a point and the error source are counted in the forward. One that contains
    others counts as one, unless it contains a point or the error source. A warning says when there is none.

    Args:
        seed, distribution, scale, shared, density, rank: those of the matrix, as in DirectFeedback.
        hops: k, for all points; None: counted.
        spread: α of the pseudo errors, below 1; 0: nodes without an error have none.
        spread_steps: T.
    """

    hops: int | None = None
    spread: float = 0.5
    spread_steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.projection is not None:
            raise ValueError("projection: GraphFeedback has one of its own.")
        if not 0 <= self.spread < 1:
            raise ValueError(f"spread={self.spread}: give a number from 0 to below 1.")
        for name in ("hops", "spread_steps"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ValueError(f"{name}={value}: give a whole number from 0.")

    def attachment(self, model: nn.Module, found: Sequence[ResolvedPath]) -> BroadcastAttachment:
        if any(path.path.rows is not None for path in found):
            raise ShapeMismatch("GraphFeedback has an error for each node: FeedbackPath(rows=...) is for other rules.")
        return GraphAttachment(model, found, self)


class GraphAttachment(BroadcastAttachment):
    """DFA's attachment, given the graph of each batch; it counts the convolutions that run."""

    needs = frozenset({"edge_index"})

    def __init__(self, model: nn.Module, found: Sequence[ResolvedPath], rule: GraphFeedback) -> None:
        super().__init__(model, found, rule, partial(GraphRoute, rule))
        ends = [module for path in found for module in (*path.points.values(), path.source)]
        for module in _convolutions(model, ends):  # first, so that a convolution that is a point counts
            self.keep(module.register_forward_hook(CountConvolution(self.graph_routes), prepend=True))

    @property
    def graph_routes(self) -> list[GraphRoute]:
        return [route for route in self.paths if isinstance(route, GraphRoute)]

    def begin_step(self, **given: object) -> None:
        edges = given.get("edge_index")
        if not isinstance(edges, Tensor) or edges.ndim != 2 or edges.shape[0] != 2 or edges.is_floating_point():
            found = tuple(edges.shape) if isinstance(edges, Tensor) else type(edges).__name__
            raise TargetsMissing(
                f"begin_step(edge_index=...) takes whole numbers of shape (2, edges), but got {found}."
            )
        for route in self.graph_routes:
            route.edges = edges

    def forget_step(self) -> None:
        for route in self.graph_routes:
            route.edges = None


class CountConvolution(LearningHook):
    """Forward hook of a convolution."""

    def __init__(self, routes: Sequence[GraphRoute]) -> None:
        self.routes = routes

    def __call__(self, module: nn.Module, args: object, output: object) -> None:
        if not in_backward():
            for route in self.routes:
                route.convolutions += 1


class GraphRoute(Route):
    """A path whose feedback goes along edges."""

    edges: Tensor | None = None

    def __init__(self, rule: GraphFeedback, found: ResolvedPath, recipe: MatrixRecipe, number: int) -> None:
        super().__init__(found, recipe, number)
        self.rule = rule
        self.convolutions = 0  # that have run
        self.told_of_none = False
        self.below: list[int] = []  # how many had when an activation was kept
        self._ran: list[int] = []
        self._operator: tuple[Tensor, Tensor] | None = None  # edges and their S^T

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"below": [], "_operator": None}

    def forget(self) -> None:
        super().forget()
        self.below = []

    def _keep(self, name: str, activation: Tensor, args: tuple[object, ...]) -> None:
        super()._keep(name, activation, args)
        self.below.append(self.convolutions)

    def at_source(self, module: nn.Module, args: object, output: object) -> object:
        self._ran = self.below  # what `send` is about to need, and this call forgets
        return super().at_source(module, args, output)

    def sending(
        self, error_at: Tensor, batch_axes: int, kept: Sequence[Kept]
    ) -> tuple[Projection, PointFeedback | None]:
        if self.rule.hops is None and self._ran and min(self._ran) == self.convolutions and not self.told_of_none:
            self.told_of_none = True
            warnings.warn(
                f"No graph convolution ran between the feedback points and the error source '{self.source_name}', so "
                f"feedback goes along no edges, as in DFA. GraphFeedback counts modules whose class has a name that "
                f"ends in 'Conv'; if this model calls them otherwise, or intends that, say how many there are: "
                f"GraphFeedback(hops=...).",
                stacklevel=2,
            )
        if self.edges is None:
            return self._without_graph, None
        operator = self._operator_of(self.edges, error_at, batch_axes)
        hops = [self.convolutions - ran if self.rule.hops is None else self.rule.hops for ran in self._ran]
        return partial(self._project_spread, operator), partial(_along_edges, operator, hops)

    def _without_graph(self, error: Tensor, matrix: Tensor) -> Tensor:
        raise TargetsMissing(
            "GraphFeedback sends errors along the edges of the graph, but was not given them. Call "
            "attached.begin_step(edge_index=edge_index) before each forward."
        )

    def _project_spread(self, operator: Tensor, error: Tensor, matrix: Tensor) -> Tensor:
        if self.rule.spread:
            spread = error
            for _ in range(self.rule.spread_steps):
                # S is symmetric where edges stand in both directions; elsewhere an error goes against the edges.
                spread = self.rule.spread * (operator.to(error.dtype) @ spread) + (1 - self.rule.spread) * error
            error = torch.where(error.abs().amax(dim=1, keepdim=True) > 0, error, spread)
        return self.project(error, matrix)

    def _operator_of(self, edges: Tensor, error_at: Tensor, batch_axes: int) -> Tensor:
        nodes = error_at.shape[0]
        if batch_axes != 1 or (edges.numel() and int(edges.max()) >= nodes):
            raise ShapeMismatch(
                f"The error at '{self.source_name}' has shape {tuple(error_at.shape)} and {batch_axes} batch axes, but "
                f"edge_index names nodes up to {int(edges.max()) if edges.numel() else 0}: an error has a row per node."
            )
        if self._operator is None or self._operator[0] is not edges or self._operator[1].shape[0] != nodes:
            self._operator = edges, transposed_operator(edges, nodes)
        return self._operator[1].to(error_at.device)


def _convolutions(model: nn.Module, ends: Collection[nn.Module]) -> list[nn.Module]:
    """The outermost convolutions of a model, but for those around a point or an error source."""
    found: list[nn.Module] = []
    within: set[nn.Module] = set()
    for module in model.modules():  # those around come before those within
        inner = {*module.modules()} - {module}
        if type(module).__name__.endswith("Conv") and module not in within and inner.isdisjoint(ends):
            found.append(module)
            within |= inner
    return found


def transposed_operator(edges: Tensor, nodes: int) -> Tensor:
    """S^T, sparse (nodes, nodes), in float64: rows are the sources of edges, columns their targets."""
    loops = torch.arange(nodes, device=edges.device)
    source, target = torch.cat([edges, torch.stack([loops, loops])], dim=1)
    degree = torch.bincount(target, minlength=nodes).double()
    values = (degree[source] * degree[target]).rsqrt()
    return torch.sparse_coo_tensor(
        torch.stack([source, target]), values, (nodes, nodes), check_invariants=True
    ).coalesce()


def _along_edges(operator: Tensor, hops: Sequence[int], place: int, feedback: Tensor) -> Tensor:
    for _ in range(hops[place]):
        feedback = operator.to(feedback.dtype) @ feedback
    return feedback

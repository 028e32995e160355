"""Our graph convolutions against PyG's, and the spline convolution against its formula."""

import pytest
import torch
import torch_geometric.nn as pyg
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torch_geometric.data import Data
from torch_geometric.nn.conv.dna_conv import restricted_softmax as pyg_restricted_softmax
from torch_geometric.transforms import NormalizeFeatures

from dfa_bench.data.standins import block_model_graph
from dfa_bench.tasks.graphs import sparse
from dfa_bench.tasks.graphs.graph import Graph
from dfa_bench.tasks.graphs.layers import ChebConv, DNAConv, GCNConv, SplineConv, restricted_softmax, spline_basis
from dfa_bench.tasks.graphs.models import GAT
from dfa_bench.tasks.graphs.sparse import SparseMatrix, sampled_product, weighted_sum


@pytest.fixture
def graph() -> Graph:
    features, edge_index, _ = block_model_graph(nodes=60, classes=3, features=40, seed=0)
    return Graph(SparseMatrix.from_dense(features), edge_index)


@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_a_sparse_product_and_its_gradient_equal_the_dense_ones(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(rows, columns, generator=generator)
    dense[dense < 0.6] = 0
    weight = torch.rand(columns, 3, generator=generator, requires_grad=True)
    sparse = SparseMatrix.from_dense(dense)
    assert_close(sparse.to_dense(), dense)
    (ours,) = torch.autograd.grad(((sparse @ weight) ** 2).sum(), weight)
    (reference,) = torch.autograd.grad(((dense @ weight) ** 2).sum(), weight)
    assert_close(ours, reference)


def test_values_at_one_place_add_up():
    matrix = SparseMatrix.from_coordinates(
        torch.tensor([0, 0, 1]), torch.tensor([1, 1, 0]), torch.tensor([1.0, 2.0, 4.0]), (2, 2)
    )
    assert_close(matrix @ torch.eye(2), torch.tensor([[0.0, 3.0], [4.0, 0.0]]))


def test_rows_are_normalised_as_pygs_are_and_small_ones_stay_as_they_are():
    features = torch.tensor([[3.0, 0.0, 1.0], [0.25, 0.25, 0.0], [0.0, 0.0, 0.0]])
    ours = SparseMatrix.from_dense(features).row_normalized().to_dense()
    assert_close(ours, torch.tensor([[0.75, 0.0, 0.25], [0.25, 0.25, 0.0], [0.0, 0.0, 0.0]]))
    assert_close(ours, NormalizeFeatures()(Data(x=features)).x)


def test_sampled_product_and_weighted_sum_equal_dense_attention():
    mask = torch.rand(7, 9, generator=torch.Generator().manual_seed(1)) < 0.4
    places = SparseMatrix.from_dense(mask.float())
    left, right = torch.randn(2, 7, 4, requires_grad=True), torch.randn(2, 9, 4, requires_grad=True)
    ours = weighted_sum(places, sampled_product(places, left, right), right)
    reference = ((left @ right.transpose(1, 2)) * mask) @ right
    assert_close(ours, reference)
    gradients = [torch.autograd.grad((out**2).sum(), (left, right)) for out in (ours, reference)]
    assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("name", ["_sample", "_rows_times", "_columns_times"])
def test_all_heads_at_once_are_what_they_are_one_by_one(name):
    """A GPU takes them at once, a CPU one by one."""
    mask = torch.rand(7, 9, generator=torch.Generator().manual_seed(1)) < 0.4
    places, heads = SparseMatrix.from_dense(mask.float()), 3
    weights, left, right = torch.randn(heads, len(places.values)), torch.randn(heads, 7, 4), torch.randn(heads, 9, 4)
    arguments = {"_sample": (left, right), "_rows_times": (weights, right), "_columns_times": (weights, left)}[name]
    one_by_one, at_once = (getattr(sparse, each)(places, *arguments) for each in (name, f"{name}_at_once"))
    assert_close(at_once, one_by_one)


def test_gcn_equals_pyg(graph):
    ours, theirs = GCNConv(40, 5), pyg.GCNConv(40, 5)
    theirs.load_state_dict({"lin.weight": ours.weight.t(), "bias": ours.bias})
    assert_close(ours(graph.features, graph), theirs(graph.features.to_dense(), graph.edge_index))


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_chebyshev_equals_pyg(graph, terms):
    ours, theirs = ChebConv(40, 5, terms), pyg.ChebConv(40, 5, terms)
    weights = {f"lins.{k}.weight": weight.t() for k, weight in enumerate(ours.weights)}
    theirs.load_state_dict({**weights, "bias": ours.bias})
    assert_close(ours(graph.features, graph), theirs(graph.features.to_dense(), graph.edge_index))


@pytest.mark.parametrize("heads, groups", [(2, 4), (4, 4), (4, 2)])
def test_dna_equals_pyg_with_gradients(graph, heads, groups):
    ours, theirs = DNAConv(16, heads, groups, 0.0), pyg.DNAConv(16, heads, groups, 0.0)
    theirs.load_state_dict(ours.state_dict())
    layers = torch.randn(graph.nodes, 3, 16, requires_grad=True)
    outputs = ours(layers, graph), theirs(layers, graph.edge_index)
    assert_close(outputs[0], outputs[1])
    gradients = [
        torch.autograd.grad((out**2).sum(), [layers, *conv.parameters()])
        for out, conv in zip(outputs, (ours, theirs), strict=True)
    ]
    assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-3)


def test_gat_equals_pyg_when_its_map_is_put_back(graph):
    model = GAT(40, 3).eval()
    theirs = pyg.GATConv(40, 8, heads=8).eval()
    state = model.conv1.state_dict() | {"lin.weight": model.map1.t()}
    theirs.load_state_dict(state)
    ours = model.conv1(graph.features @ model.map1, graph.edges_and_loops())
    assert_close(ours, theirs(graph.features.to_dense(), graph.edge_index))


def test_restricted_softmax_equals_pyg():
    scores = 10 * torch.randn(4, 6, 5)
    assert_close(restricted_softmax(scores), pyg_restricted_softmax(scores))


@given(dim=st.integers(1, 3), kernel_size=st.integers(2, 5), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_the_spline_basis_is_a_partition_of_unity_that_reproduces_its_coordinates(dim, kernel_size, seed):
    pseudo = torch.rand(20, dim, generator=torch.Generator().manual_seed(seed))
    pseudo[0], pseudo[1] = 0, 1
    values, indices = spline_basis(pseudo, kernel_size)
    assert_close(values.sum(dim=1), torch.ones(20))
    for axis in range(dim):  # control points at k / (K - 1): a linear function is reproduced
        position = (indices // kernel_size**axis) % kernel_size / (kernel_size - 1)
        assert_close((values * position).sum(dim=1), pseudo[:, axis])


def test_the_spline_basis_has_the_values_worked_out_by_hand():
    values, indices = spline_basis(torch.tensor([[0.25], [1.0]]), kernel_size=3)
    assert_close(values, torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
    assert indices.tolist() == [[0, 1], [1, 2]]


def test_spline_convolution_equals_its_formula_edge_by_edge(graph):
    conv, x = SplineConv(40, 4, kernel_size=3), graph.features.to_dense()
    expected = x @ conv.root + conv.bias
    neighbours = torch.bincount(graph.edge_index[1], minlength=graph.nodes)
    for source, target in graph.edge_index.t().tolist():
        position = 2 * neighbours[target] / neighbours.max()  # among control points 0, 1 and 2
        for point in range(3):
            weight = (1 - (position - point).abs()).clamp(min=0)
            message = weight * x[source] @ conv.weight[point]
            expected[target] = expected[target] + message / neighbours[target]
    assert_close(conv(graph.features, graph), expected)

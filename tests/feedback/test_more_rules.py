"""Rules beside DFA and feedback alignment: the gradients of each are its formula's, written out, in float64."""

import copy
import io
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfa_bench.feedback import (
    DirectFeedback,
    DirectKolenPollack,
    FeedbackError,
    FeedbackPath,
    GraphFeedback,
    KolenPollack,
    OpticalFeedback,
    ShapeMismatch,
    SignSymmetry,
    StepNotEnded,
    TargetProjection,
    TargetsMissing,
    alignment,
)
from dfa_bench.feedback.optical import Optics, read_out, ternary
from tests.feedback.models import assert_same, gradients, mlp_and_batch, mlp_reference, squared_error
from tests.feedback.test_feedback_alignment import learned, matrices, mlp_equations

PATH = FeedbackPath(["layers.*.activation"], error_at="head")
LAYERS = ["layers.0.linear.weight", "layers.1.linear.weight", "head.weight"]


def given_points(model, x, targets, points):
    """Gradients of a bare `Mlp` whose activations get these gradients, and whose head learns by BP."""
    model.zero_grad()
    h = x
    for layer, at_point in zip(model.layers, points, strict=True):
        h = layer(h)
        h.backward(at_point, inputs=list(layer.parameters()))
        h = h.detach()
    squared_error(model.head(h), targets).backward()
    return gradients(model)


def activations(model, x):
    found = []
    for layer in model.layers:
        x = layer(x).detach()
        found.append(x)
    return found


# Sign-symmetry.


@pytest.mark.parametrize("magnitude", ["uniform", "fixed", "batch"])
def test_sign_symmetry_sends_back_the_signs_of_the_weights_of_now(magnitude):
    model, x, targets = mlp_and_batch()
    attached = SignSymmetry(3, magnitude).attach(model, example=x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-2)  # signs change after attaching, sizes too
    found = learned(model, x, targets)
    sizes = matrices(attached)
    other = {name: model.get_parameter(name).detach().sign() * sizes[name] for name in LAYERS}
    assert_same(found, mlp_equations(model, x, targets, other))
    assert set(attached.describe().learns_from["layers.0.linear.weight"]) == {"sign-symmetry"}


def test_sign_symmetric_magnitudes_are_as_large_as_the_initial_weights():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(100, 200), nn.Linear(200, 100)), torch.randn(2, 100)
    for magnitude in ("uniform", "fixed", "batch"):
        attached = SignSymmetry(0, magnitude, scale=2.0).attach(model, example=x)
        for magnitudes, layer in zip(attached.matrices, model, strict=True):
            assert (magnitudes >= 0).all()
            size = layer.weight.square().mean().sqrt()
            torch.testing.assert_close(magnitudes.square().mean().sqrt(), 2 * size, rtol=0.02, atol=0)
            assert (magnitudes.std() < 1e-6) == (magnitude == "uniform")
        attached.remove()


def test_batch_wise_magnitudes_change_with_each_forward_and_go_on_after_a_checkpoint():
    model, x, targets = mlp_and_batch()
    attached = SignSymmetry(0, "batch").attach(model, example=x)
    first = learned(model, x, targets)
    saved = copy.deepcopy(attached.state_dict())
    alignment(attached, lambda: squared_error(model(x), targets).backward())
    with torch.no_grad():
        model(x)
    second = learned(model, x, targets)
    assert not torch.equal(first["layers.0.linear.weight"], second["layers.0.linear.weight"])
    attached.remove()
    resumed = SignSymmetry(0, "batch").attach(model, example=x)
    resumed.load_state_dict(saved)
    assert_same(learned(model, x, targets), second, atol=0)


# Direct random target projection.


def projected(targets, matrix, x, model):
    return [(targets @ matrix[:, : h.shape[1]]) for h in activations(model, x)]


def test_target_projection_sends_one_hot_targets_divided_by_how_many_there_are():
    model, x, _ = mlp_and_batch()
    bare, classes = copy.deepcopy(model), torch.tensor([0, 2, -1, 1, 2, -1, 0])
    attached = TargetProjection(1).attach(model, PATH, example=x)
    attached.begin_step(targets=classes)
    squared_error(model(x), 0).backward()
    one_hot = F.one_hot(classes.clamp(min=0), 3).double() * (classes >= 0).unsqueeze(1) / 5
    points = projected(one_hot, attached.matrices[0].double(), x, bare)
    assert_same(gradients(model), given_points(bare, x, 0, points))


def test_target_projection_sends_numbers_as_they_are():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = TargetProjection(1, rank=2).attach(model, PATH, example=x)
    attached.begin_step(targets=targets)
    squared_error(model(x), targets).backward()
    points = projected(targets / 7, attached.matrices[0].double(), x, bare)
    assert_same(gradients(model), given_points(bare, x, targets, points))


def test_target_projection_asks_for_the_targets_of_each_batch():
    model, x, targets = mlp_and_batch()
    attached = TargetProjection().attach(model, PATH, example=x)
    attached.begin_step(targets=targets)
    model(x).sum().backward()
    with pytest.raises(TargetsMissing, match=r"attached.begin_step\(targets=targets\) before each forward"):
        model(x).sum().backward()
    with pytest.raises(TargetsMissing, match="takes a tensor, but got NoneType"):
        attached.begin_step()


@pytest.mark.parametrize(
    "targets, told",
    [
        (torch.tensor([0, 1, 2, 3, 0, 0, 0]), r"shape \(7,\) and classes up to 3.*'head' needs classes below 3"),
        (torch.zeros(7, 5), r"shape \(7, 5\).*needs numbers of shape \(7, 3\)"),
        (torch.tensor([0, 1]), r"shape \(2,\) and classes up to 1.*of shape \(7,\)"),
    ],
)
def test_targets_that_do_not_fit_the_error_are_refused(targets, told):
    model, x, _ = mlp_and_batch()
    attached = TargetProjection().attach(model, PATH, example=x)
    attached.begin_step(targets=targets)
    with pytest.raises(ShapeMismatch, match=told):
        model(x)


# Kolen–Pollack.


def test_kolen_pollack_follows_what_the_optimizer_does_and_both_decay():
    model, x, targets = mlp_and_batch()
    attached = KolenPollack(1, decay=0.1).attach(model, example=x)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    before, weights = matrices(copy.deepcopy(attached)), {name: model.get_parameter(name).clone() for name in LAYERS}
    assert_same(learned(model, x, targets), mlp_equations(model, x, targets, before))
    optimizer.step()
    steps = {name: model.get_parameter(name).detach() - weights[name] for name in LAYERS}
    attached.end_step()
    after = matrices(attached)
    for name in LAYERS:
        assert steps[name].abs().min() > 0
        torch.testing.assert_close(after[name], 0.9 * before[name] + steps[name], atol=1e-12, rtol=0)
        torch.testing.assert_close(
            model.get_parameter(name), 0.9 * weights[name] + steps[name], atol=1e-12, rtol=0, msg=name
        )


def test_kolen_pollack_becomes_backpropagation():
    model, x, targets = mlp_and_batch()
    attached = KolenPollack(1, decay=0.03).attach(model, example=x)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    attached.follow(optimizer)

    def cosine():
        measured = alignment(attached, lambda: squared_error(model(x), 3 * targets).backward())
        return measured.weights["layers.0.linear.weight"].cosine

    assert cosine() < 0.8
    for _ in range(200):
        learned(model, x, 3 * targets)
        optimizer.step()
    assert cosine() > 0.999


def test_direct_kolen_pollack_notices_a_step_that_it_was_not_told_of():
    model, x, targets = mlp_and_batch()
    attached = DirectKolenPollack().attach(model, PATH, example=x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # one step over two batches
        squared_error(model(x), targets).backward()
    optimizer.step()
    with pytest.raises(StepNotEnded, match=r"attached.end_step\(\) after each optimizer.step\(\)"):
        model(x)
    attached.end_step()
    model.load_state_dict(model.state_dict())  # a checkpoint, between two steps
    learned(model, x, targets)
    optimizer.step()
    attached.forget_step()
    model(x)


def test_kolen_pollack_notices_a_step_that_it_was_not_told_of():
    model, x, targets = mlp_and_batch()
    attached = KolenPollack().attach(model, example=x)
    model.load_state_dict(model.state_dict())  # a checkpoint, between attaching and training
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    learned(model, x, targets)
    optimizer.step()
    with pytest.raises(StepNotEnded, match=r"attached.end_step\(\) after each optimizer.step\(\)"):
        model(x)
    attached.end_step()
    model(x)
    attached.forget_step()
    with pytest.raises(StepNotEnded, match="no forward with gradients"):
        attached.end_step()


@pytest.mark.parametrize("fused", [False, True])  # True: autograd does not notice the step
def test_kolen_pollack_leaves_weights_alone_that_no_optimizer_steps(fused):
    model, x, targets = mlp_and_batch()
    model.layers[0].linear.requires_grad_(False)
    attached = KolenPollack(1, decay=0.1).attach(model, example=x)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1, fused=fused)  # and not layer 1
    attached.follow(optimizer)
    weights = {name: model.get_parameter(name).detach().clone() for name in LAYERS}
    before = {name: matrix.clone() for name, matrix in matrices(attached).items()}
    steps = torch.zeros_like(weights["head.weight"])
    for _ in range(2):
        learned(model, x, targets)
        step = -0.1 * model.head.weight.grad
        steps = 0.9 * steps + step
        optimizer.step()
    for start, end in [(weights, dict(model.named_parameters())), (before, matrices(attached))]:
        for name in LAYERS[:2]:
            assert torch.equal(end[name], start[name])
        torch.testing.assert_close(end["head.weight"].detach(), 0.81 * start["head.weight"] + steps, atol=1e-12, rtol=0)


@pytest.mark.parametrize("fused", [False, True])
def test_kolen_pollack_follows_several_optimizers(fused):
    ends = []
    for parts in (["layers", "head"], [""]):
        model, x, targets = mlp_and_batch()
        attached = KolenPollack(1, decay=0.1).attach(model, example=x)
        learning = [model.get_submodule(part).parameters() for part in parts]
        optimizers = [torch.optim.SGD(each, lr=0.1, fused=fused) for each in learning]
        for optimizer in optimizers:
            attached.follow(optimizer)
        for _ in range(2):
            learned(model, x, targets)
            for optimizer in optimizers:
                optimizer.step()
        ends.append({**model.state_dict()} | {f"B of {name}": matrix for name, matrix in matrices(attached).items()})
    assert_same(*ends, atol=0)


def test_kolen_pollack_notices_an_optimizer_that_it_does_not_follow():
    model, x, targets = mlp_and_batch()
    attached = KolenPollack().attach(model, example=x)
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model.layers, model.head)]
    attached.follow(optimizers[0])
    learned(model, x, targets)
    for optimizer in optimizers:
        optimizer.step()
    with pytest.raises(StepNotEnded, match="for every optimizer"):
        model(x)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(self.second(self.first(x).tanh()).tanh())


def test_weights_that_layers_share_decay_once_a_step():
    model, x = Tied().double(), torch.randn(4, 5).double()
    attached = KolenPollack(1, decay=0.1).attach(model, example=x)
    weight, before = model.first.weight.detach().clone(), [matrix.clone() for matrix in attached.matrices]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(x).square().sum().backward()
    optimizer.step()
    step = model.first.weight.detach() - weight
    attached.end_step()
    torch.testing.assert_close(model.first.weight.detach(), 0.9 * weight + step, atol=1e-12, rtol=0)
    for matrix, drawn in zip(attached.matrices[:2], before, strict=False):
        torch.testing.assert_close(matrix, 0.9 * drawn + step, atol=1e-12, rtol=0)


def test_direct_kolen_pollack_learns_from_error_and_activation():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = DirectKolenPollack(1, lr=0.2, decay=0.1).attach(model, PATH, example=x)
    before = attached.matrices[0].detach().clone()
    assert before.shape == (3, 8 + 6)
    for _ in range(2):  # two backwards of one step add up
        squared_error(model(x), targets).backward()
    h = activations(bare, x)
    error = 2 * (bare.head(h[-1]) - targets).detach()
    points = [error @ before[:, :8], error @ before[:, 8:]]
    assert_same(gradients(model), {name: 2 * grad for name, grad in given_points(bare, x, targets, points).items()})
    alignment(attached, lambda: squared_error(model(x), targets).backward())  # leaves no trace
    attached.check(lambda: squared_error(model(x), targets).backward())  # nor does this
    attached.end_step()
    step = 2 * torch.cat([error.T @ h[0], error.T @ h[1]], dim=1)
    torch.testing.assert_close(attached.matrices[0].detach(), before - 0.2 * (step + 0.1 * before), atol=1e-10, rtol=0)
    attached.end_step()
    torch.testing.assert_close(attached.matrices[0].detach(), before - 0.2 * (step + 0.1 * before), atol=1e-10, rtol=0)


def test_what_direct_kolen_pollack_has_learned_goes_through_a_checkpoint():
    model, x, targets = mlp_and_batch()
    attached = DirectKolenPollack(1).attach(model, PATH, example=x)
    learned(model, x, targets)
    attached.end_step()
    file = io.BytesIO()
    torch.save(attached.state_dict(), file)
    file.seek(0)
    expected = learned(model, x, targets)
    attached.remove()
    resumed = DirectKolenPollack(2).attach(model, PATH, example=x)
    resumed.load_state_dict(torch.load(file))
    assert_same(learned(model, x, targets), expected, atol=0)


def test_direct_kolen_pollack_refuses_float16_where_a_loss_is_scaled():
    model, x, _ = mlp_and_batch()
    attached = DirectKolenPollack(1).attach(model.float(), PATH, example=x.float())
    with torch.autocast("cpu", torch.bfloat16):
        model(x.float())
    with torch.autocast("cpu", torch.float16), pytest.raises(FeedbackError, match="does not train in float16"):
        model(x.float())
    with torch.autocast("cpu", torch.float16), torch.no_grad():
        model(x.float())
    attached.remove()
    with pytest.raises(FeedbackError, match="does not train in float16"):
        DirectKolenPollack(1).attach(model.half(), PATH, example=x.half())


# Any projection as feedback.


def test_any_function_of_error_and_matrix_can_be_the_projection():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = DirectFeedback(1, projection=lambda error, matrix: error.sign() @ matrix).attach(model, PATH, example=x)
    squared_error(model(x), targets).backward()
    (matrix,) = attached.matrices
    error = (bare.head(activations(bare, x)[-1]) - targets).sign().detach()
    assert_same(gradients(model), given_points(bare, x, targets, [error @ matrix, error @ matrix[:, :6]]))


def test_a_projection_of_another_shape_is_refused():
    model, x, _ = mlp_and_batch()
    DirectFeedback(projection=lambda error, matrix: error).attach(model, PATH, example=x)
    with pytest.raises(ShapeMismatch, match=r"returned shape \(7, 3\).*must return \(7, 8\)"):
        model(x).sum().backward()


def test_a_sparse_matrix_has_the_size_of_a_dense_one():
    model, x, targets = mlp_and_batch(widths=(5, 300, 200))
    attached = DirectFeedback(1, density=0.1).attach(model, PATH, example=x)
    (matrix,) = attached.matrices
    assert 0.08 < (matrix != 0).double().mean() < 0.12
    torch.testing.assert_close(float(matrix.square().mean().sqrt()), (3 * 300) ** -0.5, rtol=0.03, atol=0)
    bare = copy.deepcopy(model)
    attached.remove()
    DirectFeedback(1, density=0.1).attach(model, PATH, example=x)
    assert_same(learned(model, x, targets), mlp_reference(bare_of(bare), x, targets, matrix))


def bare_of(model):
    from dfa_bench.feedback import attachment_of

    attachment_of(model).remove()
    return model


@pytest.mark.parametrize("shared", [True, False])
def test_a_matrix_of_low_rank_is_kept_as_two_factors(shared):
    model, x, targets = mlp_and_batch(widths=(5, 200, 100, 300))
    attached = DirectFeedback(1, shared=shared, rank=4).attach(model, PATH, example=x)
    (matrix,) = attached.matrices
    assert torch.linalg.matrix_rank(matrix) == (4)
    assert sum(buffer.numel() for buffer in attached.buffers()) == 4 * (300 + matrix.shape[1])
    torch.testing.assert_close(float(matrix[:, :200].square().mean().sqrt()), (3 * 200) ** -0.5, rtol=0.3, atol=0)
    bare = bare_of(copy.deepcopy(model))
    found = learned(model, x, targets)
    if shared:
        assert_same(found, mlp_reference(bare, x, targets, matrix), atol=1e-8)
    saved = attached.state_dict()
    attached.remove()
    other = DirectFeedback(2, shared=shared, rank=4).attach(model, PATH, example=x)
    other.load_state_dict(saved)
    assert torch.equal(other.matrices[0], matrix)


def test_optics_in_the_middle_of_a_network():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = OpticalFeedback(1, threshold=0.7, bits=4).attach(model, PATH, example=x)
    squared_error(model(x), targets).backward()
    (matrix,) = attached.matrices
    error = 2 * (bare.head(activations(bare, x)[-1]) - targets).detach()
    size = error.square().mean().sqrt()
    signs = error.sign() * (error.abs() > 0.7 * size)
    assert 0 < (signs == 0).sum() < signs.numel()
    seen = signs * size / signs.square().mean().sqrt() @ matrix
    step = seen.abs().max() / 7
    read = (seen / step).round() * step
    assert len(read.unique()) <= 15
    assert_same(gradients(model), given_points(bare, x, targets, [read, read[:, :6]]))


def test_an_error_of_zeros_stays_one_and_noise_has_its_size():
    zeros = torch.zeros(3, 4)
    assert torch.equal(ternary(zeros, 0.5), zeros)
    assert torch.equal(read_out(zeros, 8), zeros)
    torch.manual_seed(0)
    error, matrix = torch.randn(50, 40), torch.randn(40, 60)
    noisy = Optics(threshold=None, bits=None, noise=0.3)(error, matrix) - error @ matrix
    torch.testing.assert_close(
        noisy.std() / (error @ matrix).square().mean().sqrt(), torch.tensor(0.3), rtol=0.05, atol=0
    )


# DFA on graphs.


class NodeConv(nn.Module):
    """S X W, dense."""

    def __init__(self, fan_in, fan_out):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_in, fan_out).double())

    def forward(self, x, operator):
        return operator @ x @ self.weight


class NodeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = NodeConv(4, 6), NodeConv(6, 5), NodeConv(5, 3)
        self.act1, self.act2 = nn.Tanh(), nn.Tanh()

    def forward(self, x, operator):
        hidden = self.act2(self.conv2(self.act1(self.conv1(x, operator)), operator))
        return self.conv3(hidden, operator)


def node_net():
    torch.manual_seed(0)
    edges = torch.tensor([[0, 1, 1, 2, 3, 4, 2], [1, 0, 2, 1, 4, 0, 5]])  # some in one direction only
    adjacency = torch.eye(6).double().index_put((edges[1], edges[0]), torch.ones(7).double())
    inverse = adjacency.sum(dim=1).rsqrt()
    operator = inverse[:, None] * adjacency * inverse[None, :]
    return NodeNet(), torch.randn(6, 4).double(), edges, operator


@pytest.mark.parametrize("spread", [0.0, 0.4])
def test_feedback_goes_back_along_the_edges_of_the_convolutions_above(spread):
    model, x, edges, operator = node_net()
    bare = copy.deepcopy(model)
    rule = GraphFeedback(1, spread=spread, spread_steps=3)
    attached = rule.attach(model, FeedbackPath(["act1", "act2"], "conv3"), example=(x, operator))
    attached.begin_step(edge_index=edges)
    loss = lambda output: output[:2].square().sum()  # noqa: E731  (two nodes have labels)
    loss(model(x, operator)).backward()

    h1 = bare.act1(bare.conv1(x, operator))
    h2 = bare.act2(bare.conv2(h1.detach(), operator))
    output = bare.conv3(h2.detach(), operator)
    (error,) = torch.autograd.grad(loss(output), output, retain_graph=True)
    pseudo = error
    for _ in range(3):
        pseudo = spread * operator.T @ pseudo + (1 - spread) * error
    error = torch.cat([error[:2], pseudo[2:]]) if spread else error
    matrix = attached.matrices[0]
    points = [operator.T @ operator.T @ error @ matrix, operator.T @ error @ matrix[:, :5]]
    torch.autograd.backward([loss(output), h1, h2], [None, *points])
    assert_same(gradients(model), gradients(bare))


class AroundConv(nn.Module):
    """One convolution, though two classes are named so."""

    def __init__(self, fan_in, fan_out):
        super().__init__()
        self.inner = NodeConv(fan_in, fan_out)

    def forward(self, x, operator):
        return self.inner(x, operator)


class WholeConv(NodeNet):
    """A model named as a convolution, which has its own within."""


class GraphLayer(NodeConv):
    """A convolution by another name."""


@pytest.mark.parametrize("net, conv", [(NodeNet, AroundConv), (WholeConv, NodeConv)])
def test_of_nested_convolutions_the_outermost_counts(net, conv):
    plain, x, edges, operator = node_net()
    nested = net()
    nested.conv2, nested.conv3 = conv(6, 5), conv(5, 3)
    nested.load_state_dict(dict(zip(nested.state_dict(), plain.state_dict().values(), strict=True)))
    found = []
    for model in (plain, nested):
        attached = GraphFeedback(1).attach(model, FeedbackPath(["act1", "act2"], "conv3"), example=(x, operator))
        attached.begin_step(edge_index=edges)
        model(x, operator).square().sum().backward()
        found.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*found)


def test_a_graph_network_without_known_convolutions_is_warned_of():
    model, x, _, operator = node_net()
    model.conv2, model.conv3 = GraphLayer(6, 5), GraphLayer(5, 3)
    path = FeedbackPath(["act1", "act2"], "conv3")
    with pytest.warns(UserWarning, match=r"No graph convolution ran .*'conv3'.*GraphFeedback\(hops=...\)"):
        GraphFeedback().attach(copy.deepcopy(model), path, example=(x, operator))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GraphFeedback(hops=2).attach(model, path, example=(x, operator))


def test_graph_feedback_asks_for_the_graph_of_each_batch():
    model, x, edges, operator = node_net()
    attached = GraphFeedback(hops=0).attach(model, FeedbackPath(["act1"], "conv3"), example=(x, operator))
    with pytest.raises(TargetsMissing, match=r"attached.begin_step\(edge_index=edge_index\)"):
        model(x, operator).sum().backward()
    with pytest.raises(TargetsMissing, match=r"shape \(2, edges\), but got \(6, 4\)"):
        attached.begin_step(edge_index=x)
    attached.begin_step(edge_index=edges + 3)
    with pytest.raises(ShapeMismatch, match="nodes up to 8"):
        model(x, operator)


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: SignSymmetry(magnitude="none"), "'uniform', 'batch', 'fixed'"),
        (lambda: KolenPollack(decay=1.0), "decay=1.0"),
        (lambda: DirectKolenPollack(shared=True), "matrix of its own"),
        (lambda: DirectKolenPollack(lr=0), "lr=0"),
        (lambda: DirectFeedback(density=0), "density=0"),
        (lambda: DirectFeedback(rank=0), "rank=0"),
        (lambda: DirectFeedback(rank=2, distribution="orthogonal"), "full rank"),
        (lambda: OpticalFeedback(bits=1), "bits=1"),
        (lambda: OpticalFeedback(threshold=-1), "threshold=-1"),
        (lambda: GraphFeedback(spread=1), "spread=1"),
        (lambda: GraphFeedback(hops=-1), "hops=-1"),
    ],
)
def test_impossible_settings_are_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()

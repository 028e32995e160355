"""Feedback alignment: its gradients are the written-out ones, for models that know nothing of it."""

import copy
import io
import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis.strategies import integers, lists
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from dfa_bench.feedback import (
    AlreadyAttached,
    Backprop,
    FeedbackAlignment,
    FeedbackError,
    FeedbackPath,
    LayerNotReplayable,
    LayersUnknown,
    alignment,
    attachment_of,
)
from tests.feedback.models import assert_same, gradients, mlp_and_batch, squared_error
from tests.feedback.test_copies import COPIES, hooks


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def attach(model, x, seed=1, **options):
    return FeedbackAlignment(seed, **options).attach(model, example=x)


def matrices(attached):
    return {name.replace("/", "."): matrix for name, matrix in attached.state_dict().items()}


def learned(model, x, targets):
    model.zero_grad()
    squared_error(model(x), targets).backward()
    return {name: None if grad is None else grad.clone() for name, grad in gradients(model).items()}


def mlp_equations(model, x, targets, other):
    """δ of the output, then from above: gradients of W and b by δ, and the next δ by B in the place of W."""
    linears = [f"layers.{number}.linear" for number in range(len(model.layers))] + ["head"]
    hidden = [x]
    for name in linears[:-1]:
        hidden.append(torch.tanh(F.linear(hidden[-1], *weights(model, name))))
    delta = 2 * (F.linear(hidden[-1], *weights(model, "head")) - targets)
    found = {}
    for name, below in zip(reversed(linears), reversed(hidden), strict=True):
        found[f"{name}.weight"], found[f"{name}.bias"] = delta.T @ below, delta.sum(dim=0)
        if below is not x:
            delta = (delta @ other[f"{name}.weight"]) * (1 - below.square())
    return {name: found[name].detach() for name, _ in model.named_parameters()}


def weights(model, name):
    module = model.get_submodule(name)
    return module.weight.detach(), module.bias.detach()


@given(widths=lists(integers(1, 9), min_size=3, max_size=6), rows=integers(1, 6), seed=integers(0, 99))
def test_gradients_of_a_perceptron_are_the_written_out_ones(widths, rows, seed):
    model, x, targets = mlp_and_batch(seed, rows, widths)
    attached = attach(model, x, seed)
    assert_same(learned(model, x, targets), mlp_equations(model, x, targets, matrices(attached)))


class ConvNet(nn.Module):
    """Two convolutions, then a linear layer; `options` are those of the second."""

    def __init__(self, **options):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3)
        self.conv2 = nn.Conv2d(4, 6, 3, **options)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        hidden = F.relu_(self.conv1(x))  # in place, right on the layer's output
        return self.head(F.relu(self.conv2(hidden)).mean(dim=(2, 3)))


OPTIONS = {
    "plain": {},
    "strided": {"stride": 2, "padding": 1},
    "dilated": {"dilation": 2},
    "grouped": {"groups": 2},
    "same": {"padding": "same"},
    "circular": {"padding": 1, "padding_mode": "circular"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_gradients_of_a_convolutional_net_are_the_written_out_ones(options):
    torch.manual_seed(0)
    model, x, targets = ConvNet(**options).double(), torch.randn(5, 2, 9, 9).double(), torch.randn(5, 3).double()
    other_weights = matrices(attach(model, x))
    found = learned(model, x, targets)
    bare = copy.deepcopy(model)
    attachment_of(bare).remove()
    # Unrolled by hand: each layer's vector-Jacobian products, one at W for the weights, one at B for what is below.
    hidden1 = bare.conv1(x).detach().relu()
    hidden2 = bare.conv2(hidden1).detach().relu()
    pooled = hidden2.mean(dim=(2, 3))
    delta = 2 * (bare.head(pooled).detach() - targets)
    expected = {"head.weight": delta.T @ pooled, "head.bias": delta.sum(dim=0)}
    delta = (delta @ other_weights["head.weight"])[:, :, None, None] / hidden2[0, 0].numel() * (hidden2 > 0)
    bare.conv2(hidden1).backward(delta)
    other, below = copy.deepcopy(bare.conv2), hidden1.clone().requires_grad_()
    other.weight.data = other_weights["conv2.weight"]
    (delta,) = torch.autograd.grad(other(below), below, delta)
    bare.conv1(x).backward(delta * (hidden1 > 0))
    expected |= {name: grad for name, grad in gradients(bare).items() if name.startswith("conv")}
    assert_same(found, {name: expected[name] for name in found})


@pytest.mark.parametrize("shape", [(2, 8), (5, 2, 8)], ids=["one", "batch"])
def test_a_convolution_along_one_axis_with_and_without_a_batch(shape):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Tanh(), nn.Conv1d(3, 2, 3)).double()
    x = torch.randn(shape).double()
    other_weights = matrices(attach(model, x))["2.weight"]
    model(x).sum().backward()
    bare = copy.deepcopy(model)
    attachment_of(bare).remove()
    hidden = bare[1](bare[0](x))
    delta = F.conv_transpose1d(torch.ones_like(bare[2](hidden)), other_weights)
    (expected,) = torch.autograd.grad(hidden, bare[0].weight, delta)
    torch.testing.assert_close(model[0].weight.grad, expected, atol=1e-12, rtol=0)


def test_the_last_layer_learns_as_by_backpropagation_and_those_below_do_not():
    model, x, targets = mlp_and_batch()
    by_bp = learned(copy.deepcopy(model), x, targets)
    attach(model, x)
    found = learned(model, x, targets)
    for name, gradient in by_bp.items():
        assert torch.allclose(found[name], gradient) == name.startswith("head"), name


def test_what_is_below_does_not_see_the_weights_above():
    """With targets that move along, δ stays the same, and so does everything below a layer whose weights change."""
    model, x, _ = mlp_and_batch()
    attach(model, x)
    error = torch.ones(7, 3).double()

    def below():
        model.zero_grad()
        model(x).backward(error)
        return model.layers[1].linear.weight.grad.clone()

    before = below()
    with torch.no_grad():
        model.head.weight.normal_()
    assert torch.equal(below(), before)


def test_attaching_leaves_weights_and_random_state_alone():
    model, x, _ = mlp_and_batch()
    weights_before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    attach(model, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.state_dict().keys() == weights_before.keys()
    assert all(torch.equal(value, weights_before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_matrices_have_the_size_of_the_initial_weights_and_depend_on_seed_and_name_only(distribution):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(100, 200), nn.Linear(200, 200), nn.Linear(200, 200)), torch.randn(2, 100)
    nn.init.zeros_(model[2].weight)
    found, again, other = (attach(copy.deepcopy(model), x, seed, distribution=distribution) for seed in (1, 1, 2))
    for one, two, three, layer in zip(found.matrices, again.matrices, other.matrices, model, strict=True):
        size = layer.weight.square().mean().sqrt() if layer.weight.any() else torch.tensor(200**-0.5)
        assert one.shape == layer.weight.shape
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
        assert abs(one.mean()) < 0.05 * size
        torch.testing.assert_close(one.square().mean().sqrt(), size, rtol=0.05, atol=0)
    assert not torch.equal(found.matrices[1] / found.matrices[1].norm(), found.matrices[2] / found.matrices[2].norm())
    twice = attach(copy.deepcopy(model), x, 1, distribution=distribution, scale=2.0)
    torch.testing.assert_close(twice.matrices[0], 2 * found.matrices[0])


@pytest.mark.parametrize(
    "settings, told", [({"seed": -1}, "seed=-1"), ({"scale": 0}, "scale=0"), ({"distribution": "flat"}, "'uniform'")]
)
def test_impossible_settings_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        FeedbackAlignment(**settings)


# Which modules are layers.


class Keeper(nn.Module):
    """Holds a linear map that others use without calling it."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 4)


class Bilinear(nn.Module):
    """Not linear in its input, with random numbers, a buffer that counts, and two outputs in a dictionary."""

    def __init__(self):
        super().__init__()
        self.keeper = Keeper()
        self.mix = nn.Parameter(torch.randn(4, 4))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, *, factor):
        self.calls += 1
        mapped = F.dropout(F.linear(x, self.keeper.map.weight, self.keeper.map.bias), 0.5, self.training)
        return {"out": torch.tanh(mapped @ self.mix) * factor, "rows": torch.arange(len(x))}


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.middle = nn.Linear(4, 4), nn.LayerNorm((3, 4)), Bilinear()
        self.table = nn.Embedding(3, 4)

    def forward(self, x):
        hidden = self.norm(self.first(x) + self.table(torch.arange(3)))
        return self.middle(hidden, factor=hidden[..., :1])["out"]


def odd():
    torch.manual_seed(0)
    return Odd().double(), torch.randn(5, 3, 4).double(), torch.randn(5, 3, 4).double()


def test_layers_are_the_innermost_called_modules_and_norms_and_embeddings_are_none():
    model, x, _ = odd()
    attached = attach(model, x)
    assert attached.point_names == ["first", "middle"]
    assert list(matrices(attached)) == ["first.weight", "middle.mix", "middle.keeper.map.weight"]


def test_any_layer_gives_back_the_gradient_that_it_would_give_with_other_weights():
    model, x, targets = odd()
    bare = copy.deepcopy(model)
    other_weights = matrices(attach(model, x))
    torch.manual_seed(7)
    found = learned(model, x, targets)
    assert model.middle.calls == 1, "neither attaching nor the replay counts"
    assert torch.equal(torch.get_rng_state(), after_one_forward(bare, x)), "the replay draws from no one else's numbers"

    other = copy.deepcopy(bare.middle)
    other.mix.data, other.keeper.map.weight.data = (
        other_weights["middle.mix"],
        other_weights["middle.keeper.map.weight"],
    )
    hidden = bare.norm(bare.first(x) + bare.table(torch.arange(3)))
    torch.manual_seed(7)
    below, factor = hidden.detach(), hidden[..., :1].detach()
    output = bare.middle(below, factor=factor)["out"]
    delta = 2 * (output.detach() - targets)
    output.backward(delta)
    torch.manual_seed(7)
    below.requires_grad_()
    factor.requires_grad_()
    given = torch.autograd.grad(other(below, factor=factor)["out"], (below, factor), delta)
    torch.autograd.backward([hidden, hidden[..., :1]], given)
    assert_same(found, gradients(bare))


def after_one_forward(model, x):
    torch.manual_seed(7)
    model = copy.deepcopy(model)
    model(x)
    return torch.get_rng_state()


def test_attention_and_parametrised_weights_are_layers_too():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4)
    attention = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    model = nn.Sequential(attention, parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    attached = attach(model, x)
    assert attached.point_names == ["0.self_attn", "0.linear1", "0.linear2", "1", "2"]
    assert {"0.self_attn.in_proj_weight", "0.self_attn.out_proj.weight"} < matrices(attached).keys()
    error = torch.randn(2, 3, 4)
    before = copy.deepcopy(model)

    def below():
        model.zero_grad()
        model(x).backward(error)
        return model[1].parametrizations.weight.original1.grad.clone()

    expected = below()
    model[2].weight.data.normal_()
    assert torch.equal(below(), expected)
    attachment_of(before).remove()
    before(x).backward(error)
    assert not torch.allclose(before[1].parametrizations.weight.original1.grad, expected)


def test_a_module_that_runs_twice_learns_from_both():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh()).double()
    twice = nn.Sequential(model, model)
    x, error = torch.randn(4, 3).double(), torch.randn(4, 3).double()
    other_weights = attach(twice, x).matrices[0]
    twice(x).backward(error)
    first = torch.tanh(F.linear(x, *weights(twice, "0.0")))
    upper = error * (1 - torch.tanh(F.linear(first, *weights(twice, "0.0"))).square())
    lower = (upper @ other_weights) * (1 - first.square())
    torch.testing.assert_close(model[0].weight.grad, upper.T @ first + lower.T @ x, atol=1e-12, rtol=0)


class Branching(nn.Module):
    side = False

    def __init__(self):
        super().__init__()
        self.first, self.main, self.other = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return (self.other if self.side else self.main)(self.first(x))


def test_what_does_not_work_is_refused_in_a_sentence():
    model, x = Branching(), torch.randn(2, 3)
    with pytest.raises(LayersUnknown, match="example"):
        FeedbackAlignment().attach(model)
    attached = attach(model, x)
    with pytest.raises(AlreadyAttached):
        Backprop().attach(model.main)
    model.side = True
    with torch.no_grad():
        model(x)
    with pytest.raises(LayersUnknown, match="'other' runs now"):
        model(x)
    attached.remove()
    model(x).sum().backward()
    with pytest.raises(LayerNotReplayable, match="LSTMCell"):
        attach(nn.LSTM(3, 3), x)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("layer", [nn.Linear(4, 4), nn.ConvTranspose1d(4, 4, 1)], ids=["direct", "run again"])
def test_weights_that_a_hook_computes_are_refused(layer):
    model = nn.Sequential(nn.Linear(4, 4), nn.utils.weight_norm(copy.deepcopy(layer)))
    with pytest.raises(LayerNotReplayable, match=r"The weight of the layer '1' .*parametrizations"):
        attach(model, torch.randn(4, 4))


# At work beside others.


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_learns_on_its_own_also_after_a_failed_forward(copied):
    model, x, targets = mlp_and_batch()
    attached = attach(model, x)
    with pytest.raises(RuntimeError):
        model(x.requires_grad_()[:, :2])
    x = x.detach()
    expected = learned(model, x, targets)
    twin = copied(model)
    assert attachment_of(twin) is not attached
    attached.matrices[0].zero_()
    assert_same(learned(twin, x, targets), expected)


def test_pausing_gives_backpropagation_and_removing_leaves_nothing():
    model, x, targets = mlp_and_batch()
    by_bp = learned(copy.deepcopy(model), x, targets)
    with attach(model, x) as attached:
        by_rule = learned(model, x, targets)
        with attached.paused():
            assert_same(learned(model, x, targets), by_bp)
        assert_same(learned(model, x, targets), by_rule)
    assert hooks(model) == []
    assert_same(learned(model, x, targets), by_bp)
    with pytest.raises(FeedbackError), attached.paused():
        pass


def test_a_saved_state_gives_the_same_matrices_to_other_initial_weights():
    model, x, _ = mlp_and_batch()
    first = attach(model, x, seed=1)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    other, _, _ = mlp_and_batch(seed=5)
    second = attach(other, x, seed=2)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(first.matrices, second.matrices, strict=True))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        attach(nn.Linear(5, 3).double(), x).load_state_dict(first.state_dict())


def test_descriptions_say_what_comes_through_other_weights():
    model, x, _ = mlp_and_batch()
    described = attach(model, x).describe()
    assert described.learns_from["head.weight"] == ("BP",)
    assert described.learns_from["layers.0.linear.weight"] == ("feedback alignment",)
    assert described.both == []
    assert "layers.0.linear.bias    learns through feedback alignment" in str(described)


def test_alignment_compares_with_backpropagation_row_by_row():
    model, x, targets = mlp_and_batch()
    attached = FeedbackAlignment(1).attach(model, FeedbackPath(["layers.*.activation"], error_at="head"), x)
    measured = alignment(attached, lambda: squared_error(model(x), targets).backward())
    assert measured.paper["head"].mean == pytest.approx(1)
    assert measured.weights["head.weight"].cosine == pytest.approx(1)
    other_weights, own = attached.matrices[2], model.head.weight.detach()
    error = 2 * (model(x).detach() - targets)
    expected = F.cosine_similarity(error @ other_weights, error @ own)
    found = measured.paper["layers.1.activation"]
    assert (found.rows, found.of) == (7, 7)
    assert found.mean == pytest.approx(float(expected.mean()))
    assert found.std == pytest.approx(float(expected.std(correction=0)))


@pytest.mark.parametrize("convolutional", [False, True])
def test_compiled_gradients_are_right_with_no_break(convolutional):
    model, x, targets = mlp_and_batch()
    if convolutional:
        model, x, targets = ConvNet().double(), torch.randn(5, 2, 9, 9).double(), torch.randn(5, 3).double()
    attach(model, x)
    expected = learned(model, x, targets)
    fast = torch.compile(model, fullgraph=True, backend="aot_eager")
    model.zero_grad()
    squared_error(fast(x), targets).backward()
    assert_same(gradients(model), expected)


def test_a_layer_that_runs_once_more_breaks_a_compiled_graph_and_learns_the_same():
    model, x, targets = odd()
    attach(model.eval(), x)
    expected = learned(model, x, targets)
    assert_same(learned(torch.compile(model, backend="aot_eager"), x, targets), prefixed(expected))
    torch.compiler.reset()
    with pytest.raises(Exception, match="fullgraph"):
        torch.compile(model, backend="aot_eager", fullgraph=True)(x)


def prefixed(found):
    return {f"_orig_mod.{name}": gradient for name, gradient in found.items()}


def test_under_autocast_gradients_have_the_precision_of_the_parameters_and_nearly_the_same_values():
    model, x, targets = odd()
    model, x, targets = model.float().eval(), x.float(), targets.float()
    attach(model, x)
    expected = learned(model, x, targets)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(x)
    squared_error(output.float(), targets).backward()
    for name, gradient in gradients(model).items():
        assert gradient.dtype == torch.float32
        assert F.cosine_similarity(gradient.flatten(), expected[name].flatten(), dim=0) > 0.99, name


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_learn_the_same(reentrant):
    model, x, targets = odd()
    attach(model.train(), x)
    torch.manual_seed(7)
    expected = learned(model, x, targets)

    class Checkpointed(nn.Module):
        def forward(self, x):
            hidden = model.norm(model.first(x) + model.table(torch.arange(3)))
            return checkpoint(lambda h: model.middle(h, factor=h[..., :1])["out"], hidden, use_reentrant=reentrant)

    model.zero_grad()
    torch.manual_seed(7)
    squared_error(Checkpointed()(x), targets).backward()
    assert_same(gradients(model), expected)


def test_gradients_of_single_samples_by_torch_func():
    model, x, targets = mlp_and_batch()
    attach(model, x)
    whole = learned(model, x, targets)
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(parameters, one, target):
        return squared_error(torch.func.functional_call(model, parameters, (one[None],)), target[None])

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, x, targets)
    assert_same({name: value.sum(dim=0) for name, value in each.items()}, whole)


def test_two_backwards_of_two_forwards_add_up_in_any_order():
    model, x, targets = mlp_and_batch()
    attach(model, x)
    one, two = learned(model, x, targets), learned(model, x + 1, targets)
    for order in itertools.permutations([x, x + 1]):
        model.zero_grad()
        losses = [squared_error(model(each), targets) for each in order]
        for each in losses:
            each.backward()
        assert_same(gradients(model), {name: one[name] + two[name] for name in one})

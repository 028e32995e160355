"""Parameters of every kind, several forwards and backwards, precision, and what stays as without a rule."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from dfa_bench.feedback import Backprop, DirectFeedback, FeedbackPath, Shallow
from tests.feedback.models import (
    Block,
    Mlp,
    assert_same,
    backward_per_block,
    chain_reference,
    feedback,
    gradients,
    mlp_and_batch,
    mlp_reference,
    squared_error,
)

PATH = FeedbackPath(["layers.*.activation"], error_at="head")


def attach(model, path=PATH, example=None):
    return DirectFeedback(seed=1).attach(model, path, example)


def both(change):
    """An attached model after `change`, and its bare copy with a batch."""
    model, x, targets = mlp_and_batch(widths=(5, 6, 6, 6, 3))
    change(model)
    return model, copy.deepcopy(model), x, targets


def _freeze(*names):
    def change(model):
        for name in names:
            model.get_submodule(name).requires_grad_(False)

    return change


def _without_bias(model):
    for module in [layer.linear for layer in model.layers] + [model.head]:
        module.bias = None


def _tie(model):
    model.layers[2].linear.weight = model.layers[1].linear.weight


def _same_module_twice(model):
    model.layers[2] = model.layers[1]


CHANGES = {
    "first frozen": _freeze("layers.0"),
    "middle frozen": _freeze("layers.1"),
    "head frozen": _freeze("head"),
    "one bias frozen": lambda model: model.layers[1].linear.bias.requires_grad_(False),
    "no bias": _without_bias,
    "tied": _tie,
    "module twice": _same_module_twice,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_gradients_equal_the_reference_with_parameters_that_are(change):
    model, bare, x, targets = both(change)
    attached = attach(model)
    squared_error(model(x), targets).backward()
    matrix = attached.matrices[0]

    points, h = [], x
    for layer in bare.layers:
        points.append(layer(h))
        h = points[-1].detach()
    output = bare.head(h)
    error = 2 * (output.detach() - targets)
    roots = [(point, feedback(error, matrix, point)) for point in points] + [(output, error)]
    roots = [(tensor, received) for tensor, received in roots if tensor.requires_grad]
    torch.autograd.backward([tensor for tensor, _ in roots], [received for _, received in roots])
    assert_same(gradients(model), gradients(bare))


def test_everything_frozen_needs_no_backward():
    model, x, _ = mlp_and_batch()
    attach(model.requires_grad_(False))
    assert not model(x).requires_grad


def test_layers_frozen_and_thawed_between_steps_learn_accordingly():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model.requires_grad_(False), example=x)
    model.requires_grad_(True)
    squared_error(model(x), targets).backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_points_of_other_precisions_each_get_feedback_in_their_own():
    class Mixed(Mlp):
        def forward(self, x):
            h = self.layers[0](x.bfloat16())
            return self.head(self.layers[1](h.float()).double())

    torch.manual_seed(0)
    model = Mixed()
    model.layers[0].bfloat16()
    model.head.double()
    bare, x = copy.deepcopy(model), torch.randn(7, 5)
    attached = attach(model)
    model(x).exp().sum().backward()
    points = [bare.layers[0](x.bfloat16())]
    points.append(bare.layers[1](points[0].detach().float()))
    output = bare.head(points[1].detach().double())
    backward_per_block(output.exp().sum(), output, points, attached.matrices[0])
    for name, expected in gradients(bare).items():
        torch.testing.assert_close(gradients(model)[name], expected)
        assert gradients(model)[name].dtype == bare.get_parameter(name).dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_the_gradients_of_autocast_blocks(dtype):
    torch.manual_seed(0)
    model, x, targets = Mlp((5, 64, 32, 3)), torch.randn(16, 5), torch.randn(16, 3)
    bare = copy.deepcopy(model)
    attached = attach(model, example=x)
    with torch.autocast("cpu", dtype=dtype):
        output = model(x)
    assert output.dtype == dtype
    squared_error(output.float(), targets).backward()

    with torch.autocast("cpu", dtype=dtype):
        points = [bare.layers[0](x)]
        points.append(bare.layers[1](points[0].detach()))
        output = bare.head(points[1].detach())
    backward_per_block(squared_error(output.float(), targets), output, points, attached.matrices[0])
    assert_same(gradients(model), gradients(bare), atol=1e-6)


# Several forwards and backwards.


def test_gradients_accumulate_over_batches():
    model, x, targets = mlp_and_batch(rows=12)
    bare = copy.deepcopy(model)
    attached = attach(model)
    for chunk, wanted in zip(x.split(5), targets.split(5), strict=True):
        squared_error(model(chunk), wanted).backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_forwards_before_one_backward_or_in_any_order_are_kept_apart(order):
    model, x, targets = mlp_and_batch(rows=9)
    bare = copy.deepcopy(model)
    attached = attach(model)
    losses = [squared_error(model(a), b) for a, b in zip(x.split(3), targets.split(3), strict=True)]
    for number in order:
        losses[number].backward()
    expected = mlp_reference(bare, x, targets, attached.matrices[0])
    assert_same(gradients(model), expected)
    model.zero_grad()
    torch.cat([model(chunk) for chunk in x.split(3)]).sub(targets).square().sum().backward()
    assert_same(gradients(model), expected)


@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.inference_mode])
def test_evaluation_between_forward_and_backward_changes_nothing(grad_mode):
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model)
    loss = squared_error(model(x), targets)
    with grad_mode():
        model.eval()(x + 1)
        model.train()
    loss.backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_a_retained_graph_gives_the_same_gradients_again():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model)
    loss = squared_error(model(x), targets)
    loss.backward(retain_graph=True)
    model.zero_grad()
    loss.backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_autograd_grad_gives_what_backward_gives():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model)
    found = torch.autograd.grad(squared_error(model(x), targets), list(model.parameters()))
    names = [name for name, _ in model.named_parameters()]
    assert_same(dict(zip(names, found, strict=True)), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_a_second_derivative_goes_through_the_feedback():
    model, x, targets = mlp_and_batch()
    attached = attach(model)
    output = model(x)
    (first,) = torch.autograd.grad(squared_error(output, targets), [model.layers[0].linear.bias], create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), [model.head.bias])

    # δb = Σ_rows (2 (a_y - y) B) ⊙ f'(a), so that ∂|δb|²/∂b_y = 2 Σ_rows 2 B ((Σ_rows ...) ⊙ f'(a))
    with torch.no_grad():
        slope = 1 - model.layers[0](x) ** 2
        block = attached.matrices[0][:, :8]
        delta = ((2 * (output - targets)) @ block * slope).sum(0)
        expected = (2 * delta * slope @ (2 * block).T).sum(0)
    torch.testing.assert_close(second, expected, atol=1e-10, rtol=0)


def test_training_steps_with_clipping_lower_the_loss():
    torch.manual_seed(0)
    model, x = Mlp((5, 32, 32, 3)), torch.randn(64, 5)
    targets = x[:, :3].sin()
    attach(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


# What stays as it is without a rule.


@pytest.mark.parametrize("rule", [DirectFeedback(), Shallow(), Backprop()])
@pytest.mark.parametrize("example", [None, torch.zeros(4, 5)], ids=["no example", "example"])
def test_runs_of_one_seed_start_from_the_same_weights_and_see_the_same_random_numbers(rule, example):
    def run(rule):
        torch.manual_seed(3)
        model = nn.Sequential(Block(5, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        weights = [parameter.detach().clone() for parameter in model.parameters()]
        if rule:
            rule.attach(model, FeedbackPath(["0"]), example)
        output = model(torch.randn(4, 5)).detach()
        return [*weights, output, torch.get_rng_state(), torch.randperm(50)]

    assert all(torch.equal(a, b) for a, b in zip(run(rule), run(None), strict=True))


@pytest.mark.parametrize("rule", [DirectFeedback(), Shallow()])
@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_outputs_are_bit_identical_to_the_bare_models(rule, grad_mode):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    bare, x = copy.deepcopy(model), torch.randn(5, 2, 6, 6)
    rule.attach(model, FeedbackPath(["2"]))
    with grad_mode():
        for mode in (True, False):
            assert torch.equal(model.train(mode)(x), bare.train(mode)(x))


def test_evaluation_leaves_no_graph_and_draws_nothing():
    model, x, _ = mlp_and_batch()
    attached = attach(model)
    with torch.no_grad():
        assert model(x).grad_fn is None
    assert attached.state_dict().keys() == {"routes.0._extra_state"}


def test_evaluation_before_the_first_step_does_not_change_the_matrix():
    model, x, _ = mlp_and_batch()
    attached = attach(model)
    with torch.no_grad():
        model(x)
    model(x)
    assert torch.equal(attached.matrices[0], attach(copy.deepcopy(mlp_and_batch()[0]), example=x).matrices[0])


def test_lazy_layers_get_their_shapes_from_the_example():
    torch.manual_seed(0)
    model = nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d(), nn.Tanh(), nn.LazyLinear(2))
    x = torch.randn(9, 5)
    attached = attach(model, FeedbackPath(["2"]), example=x)
    assert attached.matrices[0].shape == (2, 6)
    model(x).sum().backward()
    assert model[0].weight.grad.shape == (6, 5)


# torch.func.


def test_functional_call_and_grad_follow_the_rule():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model, example=x)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    found = grad(lambda p: squared_error(functional_call(model, p, (x,)), targets))(parameters)
    assert_same(found, mlp_reference(bare, x, targets, attached.matrices[0]))


def test_gradients_per_sample_by_vmap_add_up_to_the_batchs():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model, example=x)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(parameters, row, target):
        return squared_error(functional_call(model, parameters, (row[None],)), target[None])

    found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, targets)
    assert found["head.weight"].shape == (7, 3, 6)
    summed = {name: gradient.sum(0) for name, gradient in found.items()}
    assert_same(summed, mlp_reference(bare, x, targets, attached.matrices[0]))


def test_saved_tensor_hooks_around_the_forward_change_nothing():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model)
    with torch.autograd.graph.save_on_cpu():
        loss = squared_error(model(x), targets)
    loss.backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_recurrent_layers_learn_with_the_first_of_their_tuple():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.lstm(x)[0])

    torch.manual_seed(0)
    model, x = Recurrent().double(), torch.randn(4, 7, 5).double()
    bare = copy.deepcopy(model)
    attached = attach(model, FeedbackPath(["lstm"], "head", first_of_tuple=True))
    model(x).exp().sum().backward()
    expected = chain_reference(
        bare, [lambda x: bare.lstm(x)[0]], bare.head, x, lambda a: a.exp().sum(), attached.matrices[0], axes=2
    )
    assert_same(gradients(model), expected)

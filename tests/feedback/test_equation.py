"""Gradients of MLPs equal the closed form (3): δW_i = [(B_i δa_y) ⊙ f'(a_i)] h_{i-1}ᵀ."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dfa_bench.feedback import DirectFeedback, FeedbackPath
from tests.feedback.models import Mlp, assert_same, gradients

# Each activation with its derivative, as a function of a.
ACTIVATIONS = {
    "tanh": (nn.Tanh(), torch.tanh, lambda a: 1 - a.tanh() ** 2),
    "relu": (nn.ReLU(), lambda a: a.clamp(min=0), lambda a: (a > 0).double()),
    "sigmoid": (nn.Sigmoid(), torch.sigmoid, lambda a: a.sigmoid() * (1 - a.sigmoid())),
    "softplus": (nn.Softplus(), lambda a: a.exp().log1p(), torch.sigmoid),
    "sine": (type("Sine", (nn.Module,), {"forward": lambda self, a: a.sin()})(), torch.sin, torch.cos),
}


# Each loss with δa_y = ∂L/∂a_y.
def _squared(a: Tensor, y: Tensor) -> Tensor:
    return nn.functional.mse_loss(a, y)


def _squared_error(a: Tensor, y: Tensor) -> Tensor:
    return 2 * (a - y) / a.numel()


def _binary(a: Tensor, y: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(a, y.sigmoid(), reduction="sum")


def _binary_error(a: Tensor, y: Tensor) -> Tensor:
    return a.sigmoid() - y.sigmoid()


def _cross_entropy(a: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(a.flatten(0, -2), y.flatten(0, -2).argmax(-1))


def _cross_entropy_error(a: Tensor, y: Tensor) -> Tensor:
    rows = math.prod(a.shape[:-1])
    return (a.softmax(-1) - nn.functional.one_hot(y.argmax(-1), a.shape[-1])) / rows


LOSSES = {
    "squared": (_squared, _squared_error),
    "binary": (_binary, _binary_error),
    "cross entropy": (_cross_entropy, _cross_entropy_error),
}


def equation_3(
    model: Mlp, inputs: Tensor, error: Tensor, feedback: list[Tensor], f: object, derivative: object
) -> dict[str, Tensor | None]:
    """All gradients by the formula; `feedback` holds B_i of each layer, (error width, width of the layer)."""
    flat = inputs.flatten(0, -2)  # (rows, features)
    error = error.flatten(0, -2)  # δa_y: (rows, classes)
    found: dict[str, Tensor | None] = {}
    for number, layer in enumerate(model.layers):
        a = flat @ layer.linear.weight.detach().T + layer.linear.bias.detach()
        delta = (error @ feedback[number]) * derivative(a)
        found[f"layers.{number}.linear.weight"] = delta.T @ flat
        found[f"layers.{number}.linear.bias"] = delta.sum(0)
        flat = f(a)
    found["head.weight"] = error.T @ flat
    found["head.bias"] = error.sum(0)
    return found


@settings(max_examples=40)
@given(
    widths=st.lists(st.integers(1, 20), min_size=3, max_size=7),
    batch=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    loss=st.sampled_from(sorted(LOSSES)),
    distribution=st.sampled_from(["uniform", "normal", "orthogonal"]),
    scale=st.sampled_from([None, 0.3]),
    shared=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_gradients_follow_equation_3(widths, batch, activation, loss, distribution, scale, shared, seed):
    module, f, derivative = ACTIVATIONS[activation]
    loss_of, error_of = LOSSES[loss]
    torch.manual_seed(seed)
    model = Mlp(widths, module).double()
    inputs, targets = torch.randn(*batch, widths[0]).double(), torch.randn(*batch, widths[-1]).double()
    points = [f"layers.{number}" for number in range(len(widths) - 2)]  # the activations are one shared module

    rule = DirectFeedback(seed, distribution, scale, shared)
    with rule.attach(model, FeedbackPath(points, error_at="head")) as attached:
        output = model(inputs)
        loss_of(output, targets).backward()

    layer_widths = widths[1:-1]
    starts = [0 if shared else sum(layer_widths[:number]) for number in range(len(layer_widths))]
    blocks = [attached.matrices[0][:, start : start + w] for start, w in zip(starts, layer_widths, strict=True)]
    error = error_of(output.detach(), targets)
    assert_same(gradients(model), equation_3(model, inputs, error, blocks, f, derivative))


@given(seed=st.integers(0, 2**31), shared=st.booleans())
@settings(max_examples=20)
def test_uniform_matrix_is_scaled_by_the_widest_point(seed, shared):
    attached = DirectFeedback(seed, shared=shared).attach(
        Mlp((4, 9, 25, 16, 7)), FeedbackPath(["layers.*.activation"]), example=torch.zeros(2, 4)
    )
    (matrix,) = attached.matrices
    if shared:
        assert matrix.shape == (7, 25)
        assert 0.5 / 5 < matrix.abs().max() <= 1 / 5
    else:
        blocks = matrix.split([9, 25, 16], dim=1)
        assert [block.shape[1] for block in blocks] == [9, 25, 16]
        assert all(0.5 / w < block.abs().max() <= 1 / w for block, w in zip(blocks, (3, 5, 4), strict=True))
    assert matrix.min() < 0 < matrix.max()


@pytest.mark.parametrize("classes, width", [(3, 30), (30, 3)])
def test_orthogonal_matrix_is_orthonormal_on_its_shorter_side(classes, width):
    rule = DirectFeedback(distribution="orthogonal")
    attached = rule.attach(Mlp((4, width, classes)), FeedbackPath(["layers.*.activation"]), example=torch.zeros(2, 4))
    (matrix,) = attached.matrices
    gram = matrix @ matrix.T if classes < width else matrix.T @ matrix
    torch.testing.assert_close(gram, torch.eye(3), atol=1e-5, rtol=0)


def test_normal_matrix_has_the_asked_scale():
    rule = DirectFeedback(distribution="normal", scale=0.5)
    attached = rule.attach(Mlp((4, 400, 100)), FeedbackPath(["layers.*.activation"]), example=torch.zeros(2, 4))
    assert attached.matrices[0].std().item() == pytest.approx(0.5, rel=0.02)


def test_a_seed_gives_one_matrix_and_another_seed_another():
    def matrix(seed: int) -> Tensor:
        model = Mlp()
        return DirectFeedback(seed).attach(model, FeedbackPath(["layers.*.activation"]), torch.zeros(2, 5)).matrices[0]

    assert torch.equal(matrix(3), matrix(3))
    assert not torch.equal(matrix(3), matrix(4))


def test_with_one_point_one_matrix_for_all_and_one_per_point_are_the_same():
    """So `shared` matters for models of several points only (docs/fidelity.md)."""
    path, example = FeedbackPath(["layers.0.activation"]), torch.zeros(2, 5)
    one, each = (DirectFeedback(1, shared=shared).attach(Mlp(), path, example) for shared in (True, False))
    assert torch.equal(one.matrices[0], each.matrices[0])


def test_matrix_is_the_same_from_an_example_and_from_the_first_batch():
    early, late, path = Mlp(), Mlp(), FeedbackPath(["layers.*.activation"])
    from_example = DirectFeedback(1).attach(early, path, example=torch.zeros(2, 5))
    from_batch = DirectFeedback(1).attach(late, path)
    late(torch.randn(31, 5))
    assert torch.equal(from_example.matrices[0], from_batch.matrices[0])


def test_one_dimensional_error_counts_as_one_column():
    torch.manual_seed(0)
    body, head = nn.Linear(4, 6).double(), nn.Linear(6, 1).double()
    model = nn.Sequential(body, nn.Tanh(), head, nn.Flatten(0))
    inputs = torch.randn(5, 4).double()
    attached = DirectFeedback().attach(model, FeedbackPath(["1"]))
    model(inputs).square().sum().backward()
    assert attached.matrices[0].shape == (1, 6)
    a = body(inputs).detach()
    error = 2 * (a.tanh() @ head.weight.T + head.bias).detach()  # (rows, 1)
    torch.testing.assert_close(body.weight.grad, (error @ attached.matrices[0] * (1 - a.tanh() ** 2)).T @ inputs)


def test_an_impossible_distribution_or_scale_is_refused():
    with pytest.raises(ValueError, match=r"'cauchy'.*'uniform', 'normal', 'orthogonal'"):
        DirectFeedback(distribution="cauchy")
    with pytest.raises(ValueError, match=r"scale=-1.*positive"):
        DirectFeedback(scale=-1)

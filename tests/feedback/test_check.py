"""Points are proposed for models never seen, and a rule proves that it is active."""

import copy

import pytest
import torch
from torch import nn

from dfa_bench.feedback import (
    Backprop,
    DirectFeedback,
    FeedbackAlignment,
    FeedbackError,
    FeedbackPath,
    KolenPollack,
    PointNotFound,
    Shallow,
    SignSymmetry,
)
from tests.feedback.models import Mlp, assert_same, gradients, mlp_and_batch, squared_error
from tests.feedback.test_architectures import GraphNetwork, Transformer

PATH = FeedbackPath(["layers.*.activation"], error_at="head")
CONVOLUTIONS = nn.Sequential(
    nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
)
SEQUENTIAL = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3), nn.LogSoftmax(-1))
MODELS = {
    "blocks": (Mlp(), torch.randn(4, 5), ["layers.*"], "head"),
    "activations": (SEQUENTIAL, torch.randn(4, 5), ["1", "3"], "4"),
    "images": (CONVOLUTIONS, torch.randn(4, 2, 8, 8), ["2", "4"], "6"),
    "layers": (GraphNetwork(), (torch.randn(12, 4), torch.randint(12, (2, 40))), ["first", "second"], "head"),
    "attention": (Transformer(), torch.randint(11, (3, 5)), ["attention.*"], "head"),
}


@pytest.mark.parametrize("name", MODELS)
def test_points_are_proposed_for_a_model_never_seen(name):
    model, example, points, error_at = MODELS[name]
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    path = FeedbackPath.auto(model, example)
    assert (path.points, path.error_at) == (points, error_at)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with DirectFeedback().attach(copy.deepcopy(model), path, example=example) as attached:
        assert attached.describe().learns_from[f"{error_at}.bias"] == ("BP",)


def test_a_model_without_layers_has_no_points():
    with pytest.raises(PointNotFound, match="runs nothing below its head ''"):
        FeedbackPath.auto(nn.Linear(2, 2), torch.randn(3, 2))


def checked(rule):
    model, x, targets = mlp_and_batch()
    attached = rule.attach(model, PATH, example=x)
    squared_error(model(x), targets).backward()
    before, weights = copy.deepcopy(gradients(model)), copy.deepcopy(model.state_dict())
    found = attached.check(lambda: squared_error(model(x), targets).backward())
    assert_same(gradients(model), before, atol=0)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    return found


def test_dfa_is_proved_active():
    found = checked(DirectFeedback(1))
    found.assert_active()
    assert found.by_feedback == [f"layers.{n}.linear.{kind}" for n in (0, 1) for kind in ("weight", "bias")]
    assert found.parameters["layers.0.linear.weight"].sees_above is False
    assert found.parameters["head.weight"].cosine == pytest.approx(1)
    lines = [" ".join(line.split()) for line in str(found).splitlines()]
    assert lines[0] == "parameter gradient cosine weights above"
    assert lines[-1] == "head.bias BP 1.000"
    assert lines[1].startswith("layers.0.linear.weight feedback")
    assert lines[1].endswith("not seen")


@pytest.mark.parametrize("rule", [Backprop(), Shallow()])
def test_rules_without_feedback_are_not_proved_active(rule):
    with pytest.raises(FeedbackError, match="No parameter learns from feedback only"):
        checked(rule).assert_active()


@pytest.mark.parametrize("rule", [FeedbackAlignment(1), SignSymmetry(1), KolenPollack(1)])
def test_rules_that_go_layer_by_layer_are_proved_active(rule):
    found = checked(rule)
    found.assert_active()
    assert found.by_feedback == [f"layers.{n}.linear.{kind}" for n in (0, 1) for kind in ("weight", "bias")]
    kinds = [line.split()[1] for line in str(found).splitlines()[1:]]
    assert kinds == 4 * ["rule"] + 2 * ["BP"]


class TwoHeads(nn.Module):
    """A second head, and a penalty on what is inside, kept in an attribute."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(2))
        self.head, self.auxiliary = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        hidden = self.first(x)
        inside = self.second[0](hidden)
        self.penalty = inside.square().mean()
        hidden = self.second[1](inside)
        return self.head(hidden), self.auxiliary(hidden)


@pytest.mark.filterwarnings("ignore:1 of the tensors that TwoHeads returns")
def test_what_a_loss_learns_from_is_read_off_the_loss_itself():
    model, x = TwoHeads(), torch.randn(5, 4)
    attached = DirectFeedback(1).attach(model, FeedbackPath(["first", "second.1"], "head"), example=x)
    attached.check(lambda: model(x)[0].square().sum().backward()).assert_active()

    found = attached.check(lambda: model(x)[1].square().sum().backward())
    assert all(found.parameters[f"{part}.0.weight"].learns_from == () for part in ("first", "second"))
    with pytest.raises(FeedbackError, match="No parameter learns from feedback only"):
        found.assert_active()

    found = attached.check(lambda: (model(x)[0].square().sum() + model.penalty).backward())
    assert found.parameters["second.0.weight"].learns_from == ("BP", "second.1")
    assert found.parameters["first.0.weight"].learns_from == ("first",)
    assert " both " in str(found)


@pytest.mark.filterwarnings("ignore:The feedback point .* ran with gradients outside")
def test_a_backward_that_passes_the_model_by_is_not_proved_active():
    model, x, targets = mlp_and_batch()
    attached = DirectFeedback(1).attach(model, FeedbackPath(["layers.*.activation"]), example=x)
    with pytest.raises(FeedbackError, match="No parameter learns from feedback only"):
        attached.check(lambda: squared_error(model.forward(x), targets).backward()).assert_active()


def test_a_way_around_a_point_is_seen():
    """What the graph of one forward does not show: a hook that gives a point BP's gradient."""
    model, x, targets = mlp_and_batch()
    true = {}

    def steal(module, args, output):
        if output.requires_grad:
            output.register_hook(lambda gradient: true["gradient"])

    model.layers[0].activation.register_forward_hook(steal)
    attached = DirectFeedback(1).attach(model, PATH, example=x)

    def backward():
        with attached.paused(), torch.enable_grad():
            hidden = model.layers[0].activation(model.layers[0].linear(x)).detach().requires_grad_()
            output = model.head(model.layers[1](hidden))
            (true["gradient"],) = torch.autograd.grad(output.sum(), hidden)
        squared_error(model(x), targets).backward()

    found = attached.check(backward)
    assert found.seeing_above == ["layers.0.linear.weight", "layers.0.linear.bias"]
    with pytest.raises(FeedbackError, match="depend on the weights above"):
        found.assert_active()

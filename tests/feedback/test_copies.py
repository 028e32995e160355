"""Copies, saved files and removal: an attached model is still the model it was."""

import copy
import io
import subprocess
import sys

import pytest
import torch
from torch import nn

from dfa_bench.feedback import DirectFeedback, FeedbackError, FeedbackPath, Shallow, attachment_of
from tests.feedback.models import Mlp, assert_same, gradients, mlp_and_batch, mlp_reference, squared_error

PATH = FeedbackPath(["layers.*.activation"], error_at="head")


def attach(model, path=PATH, example=None, seed=1, **options):
    return DirectFeedback(seed, **options).attach(model, path, example)


def hooks(model):
    return [
        hook
        for module in model.modules()
        for found in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        for hook in found.values()
    ]


def saved_and_loaded(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {"deepcopy": copy.deepcopy, "torch.save": saved_and_loaded}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_learns_on_its_own(copied):
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    matrix = attach(model, example=x).matrices[0]
    twin = copied(model)

    outputs = model(x)  # both forwards before both backwards
    squared_error(twin(x + 1), targets).backward()
    squared_error(outputs, targets).backward()

    assert_same(gradients(twin), mlp_reference(bare, x + 1, targets, matrix))
    assert_same(gradients(model), mlp_reference(bare, x, targets, matrix))


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_has_an_attachment_of_its_own(copied):
    model, x, targets = mlp_and_batch()
    attached = attach(model, example=x)
    twin = copied(model)
    its = attachment_of(twin)
    assert its is not attached
    its.matrices[0].zero_()
    assert attached.matrices[0].abs().min() > 0
    its.remove()
    assert hooks(twin) == []
    squared_error(model(x), targets).backward()
    assert_same(gradients(model), mlp_reference(twin, x, targets, attached.matrices[0]))
    attached.remove()
    assert hooks(model) == []


class Failing(Mlp):
    fail = True

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        if self.fail:
            raise self.fail
        return self.head(x)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_after_a_failed_forward_is_a_clean_one(copied, error):
    torch.manual_seed(0)
    model = Failing().double()
    bare, x, targets = copy.deepcopy(model), torch.randn(7, 5).double(), torch.randn(7, 3).double()
    bare.fail = None
    attach(model)
    model.fail = error
    with pytest.raises(error):
        model(x)
    twin = copied(model)
    twin.fail = None
    squared_error(twin(x), targets).backward()
    assert_same(gradients(twin), mlp_reference(bare, x, targets, attachment_of(twin).matrices[0]))


def test_a_model_saved_whole_loads_and_learns_in_another_process(tmp_path):
    model, x, targets = mlp_and_batch()
    attach(model, example=x)
    torch.save((model, x, targets), tmp_path / "model.pt")
    squared_error(model(x), targets).backward()
    script = (
        "import sys, torch; from tests.feedback.models import gradients, squared_error\n"
        "model, x, targets = torch.load(sys.argv[1], weights_only=False)\n"
        "squared_error(model(x), targets).backward(); torch.save(gradients(model), sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "model.pt", tmp_path / "gradients.pt"], check=True)
    assert_same(torch.load(tmp_path / "gradients.pt"), gradients(model), atol=1e-14)


def test_the_state_dict_of_the_model_is_as_without_a_rule():
    model, x, _ = mlp_and_batch()
    before = copy.deepcopy(model.state_dict())
    names = [name for name, _ in model.named_modules()]
    attached = attach(model, example=x)
    assert model.state_dict().keys() == before.keys()
    assert [name for name, _ in model.named_modules()] == names
    assert [*attached.parameters()] == []
    Mlp().double().load_state_dict(model.state_dict())
    model.load_state_dict(before)


def test_the_example_leaves_buffers_gradients_and_random_state_as_they_were():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2))
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    attach(model, FeedbackPath(["1"]), example=torch.randn(8, 5, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


class Inputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, x, *, scale):
        return self.head(self.body(x) * scale)


def test_the_example_gives_one_several_or_named_arguments():
    path = FeedbackPath(["body"], error_at="head")
    assert attach(Inputs(), path, example={"x": torch.zeros(2, 5), "scale": 2}).matrices[0].shape == (2, 6)
    model = type("Pair", (Inputs,), {"forward": lambda self, x, scale: self.head(self.body(x) * scale)})()
    assert attach(model, path, example=(torch.zeros(2, 5), 2)).matrices[0].shape == (2, 6)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("example", [None, torch.zeros(2, 5).double()], ids=["fresh", "with example"])
def test_the_matrices_go_through_a_state_dict(example, shared):
    model, x, targets = mlp_and_batch()
    attached = attach(model, example=x, shared=shared)
    file = io.BytesIO()
    torch.save(attached.state_dict(), file)
    file.seek(0)
    squared_error(model(x), targets).backward()

    twin, *_ = mlp_and_batch()
    loaded = attach(twin, example=example, seed=99, shared=shared)
    loaded.load_state_dict(torch.load(file))
    squared_error(twin(x), targets).backward()
    assert torch.equal(loaded.matrices[0], attached.matrices[0])
    assert_same(gradients(twin), gradients(model), atol=0)


def test_a_state_dict_of_before_the_first_forward_loads_into_a_fresh_attachment():
    model, x, targets = mlp_and_batch()
    attached = attach(model)
    attached.load_state_dict(attach(Mlp(), seed=99).state_dict())
    squared_error(model(x), targets).backward()
    assert attached.matrices[0].shape == (3, 8)


def test_a_state_dict_of_other_points_is_refused():
    x = torch.zeros(2, 5)
    other = attach(Mlp(), FeedbackPath(["layers.0.activation"], "head"), example=x)
    with pytest.raises(FeedbackError, match=r"\['layers.0.activation'\].*has.*'layers.1.activation'.*Attach with"):
        attach(Mlp(), example=x).load_state_dict(other.state_dict())


def test_a_state_dict_of_shallow_is_empty_but_for_its_routes():
    attached = Shallow().attach(Mlp(), PATH)
    attached.load_state_dict(Shallow().attach(Mlp(), PATH).state_dict())
    assert attached.matrices == []


def test_removing_leaves_no_hook_and_plain_backpropagation():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    user_hook = model.layers[0].register_forward_hook(lambda module, args, output: None)
    attached = attach(model, example=x)
    squared_error(model(x), targets).backward()
    attached.remove()
    attached.remove()  # twice is harmless
    assert len(hooks(model)) == 1
    user_hook.remove()
    assert hooks(model) == []
    assert not model._forward_hooks_always_called
    assert model.__dict__.keys() == bare.__dict__.keys()
    model.zero_grad()
    squared_error(model(x), targets).backward()
    squared_error(bare(x), targets).backward()
    assert_same(gradients(model), gradients(bare), atol=0)


def test_the_context_manager_removes_when_its_body_fails():
    model = Mlp()
    with pytest.raises(ZeroDivisionError), attach(model):
        1 / 0  # noqa: B018
    assert hooks(model) == []


def test_a_backward_after_removing_still_gives_what_the_forward_began():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    with attach(model) as attached:
        loss = squared_error(model(x), targets)
    loss.backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_an_averaged_model_of_an_attached_one_is_independent():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model, example=x)
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    squared_error(average(x), targets).backward()
    assert model.head.weight.grad is None
    assert_same(gradients(average.module), mlp_reference(bare, x, targets, attached.matrices[0]))

"""Attaching to other people's models: patterns, what they return, and what would silently be other gradients."""

import copy
import dataclasses
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from dfa_bench.feedback import (
    DirectFeedback,
    DirectKolenPollack,
    FeedbackAlignment,
    FeedbackError,
    FeedbackPath,
    KolenPollack,
    ModelChanged,
    NotATensor,
    PointNotFound,
    ShapeMismatch,
    SignSymmetry,
    TargetProjection,
    attachment_of,
)
from dfa_bench.feedback.paths import resolve
from tests.feedback.models import Block, Mlp, assert_same, gradients, mlp_and_batch, mlp_reference, squared_error
from tests.feedback.test_more_rules import activations, given_points

PATH = FeedbackPath(["layers.*.activation"], error_at="head")
X = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


def attach(model, path=PATH, example=None, **options):
    return DirectFeedback(seed=1, **options).attach(model, path, example)


# Patterns.


class Wrapped(nn.Module):
    def __init__(self, *names):
        super().__init__()
        inner = nn.ModuleDict({"h": nn.ModuleList([Block(5, 5), Block(5, 5)]), "extra": nn.ModuleDict({"h": Mlp()})})
        for name in reversed(names):
            inner = nn.ModuleDict({name: inner})
        self.add_module("transformer", inner)


@pytest.mark.parametrize(
    "pattern, found",
    [
        ("transformer.h.*", ["transformer.h.0", "transformer.h.1"]),
        ("transformer.h.[0-9]", ["transformer.h.0", "transformer.h.1"]),
        ("transformer.*.*.activation", ["transformer.h.0.activation", "transformer.h.1.activation"]),
        ("**.h.?.linear", ["transformer.h.0.linear", "transformer.h.1.linear"]),
        ("transformer.**.h", ["transformer.h", "transformer.extra.h"]),
        ("transformer.h.**", [f"transformer.h.{n}{part}" for n in (0, 1) for part in ("", ".linear", ".activation")]),
        ("**.head", ["transformer.extra.h.head"]),
    ],
)
def test_patterns_go_name_by_name(pattern, found):
    (path,) = resolve(Wrapped(), [FeedbackPath([pattern])])
    assert list(path.points) == found


def test_a_star_that_used_to_match_dots_gets_a_hint():
    with pytest.raises(PointNotFound, match=r"'\*\.head': '\*' stands for letters within.*write '\*\*\.head'"):
        resolve(Wrapped(), [FeedbackPath(["*.head"])])
    with pytest.raises(PointNotFound, match=r"write 'transformer\.\*\*\.layers\.\*\*\.activation'"):
        resolve(Wrapped(), [FeedbackPath(["transformer.*.layers.*.activation"])])


@pytest.mark.parametrize("prefix", ["base_model.model", "_orig_mod", "module._forward_module"])
def test_prefixes_of_wrappers_need_not_be_written(prefix):
    model = Mlp()
    for name in reversed(prefix.split(".")):
        model = nn.ModuleDict({name: model})
    (path,) = resolve(model, [PATH])
    assert list(path.points) == [f"{prefix}.layers.{number}.activation" for number in (0, 1)]
    (path,) = resolve(Mlp(), [FeedbackPath([f"{prefix}.layers.*"])])
    assert list(path.points) == ["layers.0", "layers.1"]


def test_a_module_in_the_place_of_a_pattern_is_refused_in_a_sentence():
    with pytest.raises(TypeError, match="takes patterns over module names, not the Tanh given"):
        FeedbackPath([nn.Tanh()])
    with pytest.raises(TypeError, match="not the Linear given"):
        FeedbackPath(["1"], error_at=nn.Linear(1, 1))


# What models return.


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    loss: torch.Tensor | None = None


class ReturnsAnObject(Mlp):
    def forward(self, x, targets=None):
        logits = super().forward(x)
        return Output(logits, None if targets is None else squared_error(logits, targets))


def test_the_logits_of_an_output_object_are_the_error_and_all_is_described():
    torch.manual_seed(0)
    model, x, targets = ReturnsAnObject().double(), X.double(), torch.randn(4, 3).double()
    bare = copy.deepcopy(model)
    bare.__class__ = Mlp
    attached = attach(model, FeedbackPath(["layers.*.activation"]), example=x)
    assert attached.describe().learns_from["layers.1.linear.bias"] == ("layers.1.activation",)
    squared_error(model(x).logits, targets).backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


class ReturnsADictionary(Mlp):
    def forward(self, x):
        return {"logits": super().forward(x)}


def test_the_logits_of_a_dictionary_are_the_error():
    torch.manual_seed(0)
    model, x, targets = ReturnsADictionary().double(), X.double(), torch.randn(4, 3).double()
    bare = copy.deepcopy(model)
    bare.__class__ = Mlp
    attached = attach(model, FeedbackPath.auto(model, x), example=x)
    squared_error(model(x)["logits"], targets).backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_a_path_that_is_a_name_is_refused():
    with pytest.raises(TypeError, match="give FeedbackPath"):
        attach(Mlp(), "layers.0.activation")


def test_the_error_names_the_axes_that_an_image_shares_with_its_points():
    images = torch.randn(2, 3, 8, 8)
    network = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(5, 3, 1))
    with pytest.raises(ShapeMismatch, match=r"set batch_axes=1 \(now 3\)"):
        attach(network, FeedbackPath(["1"]), example=images)
    assert FeedbackPath.auto(network, images) == FeedbackPath(["1"], "3", batch_axes=1)
    attached = attach(network, FeedbackPath.auto(network, images), example=images)
    assert attached.matrices[0].shape == (3 * 8 * 8, 5 * 4 * 4)


def test_a_loss_that_was_made_below_the_error_is_refused():
    model = ReturnsAnObject()
    attach(model, FeedbackPath(["layers.*.activation"]))
    with pytest.raises(NotATensor, match="with a loss.*Set error_at to the module whose output is the logits"):
        model(X, torch.zeros(4, 3))


class Recurrent(nn.Module):
    """The head sees the state, which is the second thing that its LSTM returns."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        output, (state, _) = self.lstm(x)
        return self.head(state[-1] + output[:, -1])


def test_the_true_gradient_does_not_come_back_through_the_rest_of_a_tuple():
    torch.manual_seed(0)
    model, x = Recurrent().double(), torch.randn(4, 7, 5).double()
    bare = copy.deepcopy(model)
    last = lambda h: torch.arange(4)[:, None].expand(h.shape[:2])  # noqa: E731
    path = FeedbackPath(["lstm"], "head", first_of_tuple=True, rows=last)
    attached = attach(model, path, example=x)
    assert attached.describe().both == []
    model(x).square().sum().backward()
    output, (state, _) = bare.lstm(x)
    a_y = bare.head((state[-1] + output[:, -1]).detach())
    (error,) = torch.autograd.grad(a_y.square().sum(), a_y, retain_graph=True)
    a_y.square().sum().backward()
    output.backward((error @ attached.matrices[0]).unsqueeze(1).expand(4, 7, 6))
    assert_same(gradients(model), gradients(bare))


# Rows.


def test_an_error_whose_time_is_flattened_into_width_is_warned_of():
    model = nn.Sequential(Block(5, 6), nn.Linear(6, 3))
    with pytest.warns(UserWarning, match=r"shape \(2, 7, 3\), and batch_axes=1 flattens.*other lengths.*rows="):
        attach(model, FeedbackPath(["0"], "1", batch_axes=1), example=torch.randn(2, 7, 5))


class Pooled(nn.Module):
    """Rows of several lengths to one error each, as in the classification of graphs; -1 is padding."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = Block(5, 6), nn.Linear(6, 3)

    def forward(self, x, group):
        hidden = self.layer(x)[group >= 0]
        return self.head(hidden.new_zeros(3, 6).index_add(0, group[group >= 0], hidden))


@pytest.mark.parametrize(
    "rule",
    [DirectFeedback(1), DirectFeedback(1, streaming=True), TargetProjection(1), DirectKolenPollack(1, lr=0.5, decay=0)],
)
def test_each_row_gets_the_error_that_it_belongs_to_and_padding_none(rule):
    torch.manual_seed(0)
    model, x, group = Pooled().double(), torch.randn(8, 5).double(), torch.tensor([0, 0, 1, -1, 1, 1, 2, 2])
    real = group >= 0
    with pytest.raises(ShapeMismatch, match=r"FeedbackPath\(rows=...\)"):
        DirectFeedback().attach(copy.deepcopy(model), FeedbackPath(["layer"], "head"), example=(x, group))
    bare = copy.deepcopy(model)
    attached = rule.attach(model, FeedbackPath(["layer"], "head", rows=lambda h: group), example=(x, group))
    if attached.needs:
        attached.begin_step(targets=torch.ones(3, 3).double())
    model(x, group).square().sum().backward()
    hidden = bare.layer(x)[real]
    a_y = bare.head(hidden.new_zeros(3, 6).index_add(0, group[real], hidden.detach()))
    a_y.square().sum().backward()
    error = torch.ones(3, 3).double() / 3 if attached.needs else 2 * a_y.detach()
    matrix = attached.matrices[0].detach().clone()
    hidden.backward((error @ matrix)[group[real]])
    assert_same(gradients(model), gradients(bare))
    if isinstance(rule, DirectKolenPollack):
        attached.end_step()
        pooled = hidden.new_zeros(3, 6).index_add(0, group[real], hidden).detach()
        torch.testing.assert_close(attached.matrices[0].detach(), matrix - 0.5 * error.T @ pooled, atol=1e-10, rtol=0)


def test_rows_of_another_shape_are_refused():
    with pytest.raises(ShapeMismatch, match=r"returned \(2,\) of torch.int64 for a point of shape \(4, 8\)"):
        attach(Mlp(), FeedbackPath(["layers.*"], "head", rows=lambda h: torch.tensor([0, 1])), example=X)


def test_feedback_of_normalised_points_goes_through_the_derivative_of_a_layer_norm():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model, FeedbackPath(["layers.*.activation"], "head", normalised=True), example=x)
    squared_error(model(x), targets).backward()
    error = 2 * (bare.head(activations(bare, x)[-1]) - targets).detach()
    points = []
    for h in activations(bare, x):
        width, f = h.shape[1], error @ attached.matrices[0][:, : h.shape[1]]
        centred = h - h.mean(1, keepdim=True)
        size = (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        unit = centred / size
        points.append((f - f.mean(1, keepdim=True) - unit * (f * unit).sum(1, keepdim=True) / width) / size)
    assert_same(gradients(model), given_points(bare, x, targets, points))


# Silently other gradients.


def test_a_compiled_model_learns_by_its_rule_beside_one_that_learns_by_backpropagation():
    torch.compiler.reset()
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model, example=x)
    for learner in (torch.compile(bare, backend="eager"), torch.compile(model, backend="eager")):
        squared_error(learner(x), targets).backward()
    by_bp = copy.deepcopy(gradients(bare))
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))
    assert not torch.allclose(by_bp["layers.0.linear.weight"], model.layers[0].linear.weight.grad)
    torch.compiler.reset()


def test_a_forward_past_the_error_source_is_warned_of():
    model = Mlp()
    attach(model, FeedbackPath(["layers.*.activation"]), example=X)
    model.forward(X)
    with pytest.warns(UserWarning, match=r"'layers.0.activation' ran with gradients.*not its forward\(\)"):
        model.forward(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.forward(X)  # once is enough
        model(X)


def test_gradients_of_inputs_are_warned_of_and_true_while_paused():
    model, x, _ = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model, example=x)
    x.requires_grad_()
    expected = torch.autograd.grad(bare(x).sum(), x)
    with pytest.warns(UserWarning, match=r"not a derivative of the output.*attached.paused\(\)"):
        model.eval()(x)
    with attached.paused(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(torch.autograd.grad(model(x).sum(), x)[0], expected[0])


class EarlyExit(Mlp):
    def __init__(self):
        super().__init__()
        self.exit = nn.Linear(8, 3)

    def forward(self, x):
        hidden = self.layers[0](x)
        return self.head(self.layers[1](hidden)), self.exit(hidden)


def test_a_second_head_that_passes_no_source_is_warned_of():
    with pytest.warns(UserWarning, match="1 of the tensors that EarlyExit returns do not come from an error source"):
        attach(EarlyExit(), example=X)
    paths = [
        FeedbackPath(["layers.1.activation"], error_at="head"),
        FeedbackPath(["layers.0.activation"], error_at="exit"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DirectFeedback().attach(EarlyExit(), paths, example=X).remove()


@pytest.mark.parametrize("frozen", [False, True])
def test_an_output_layer_that_is_a_point_is_warned_of(frozen):
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    model[0].requires_grad_(not frozen)
    with pytest.warns(UserWarning, match="whose output is the error is a feedback point itself.*Take it out"):
        attach(model, FeedbackPath(["?"]), example=X)


def test_a_point_that_runs_twice_before_one_error_is_warned_of():
    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.head = nn.Sequential(nn.Linear(5, 4), nn.Tanh()), nn.Linear(8, 2)

        def forward(self, x):
            return self.head(torch.cat([self.trunk(x), self.trunk(x.flip(1))], dim=1))

    with pytest.warns(UserWarning, match="'trunk' ran several times before one error.*same feedback at each call"):
        attach(Siamese(), FeedbackPath(["trunk"], "head"), example=X)


def test_a_full_backward_hook_on_a_point_is_warned_of():
    model, ran = Mlp(), []
    model.layers[0].activation.register_full_backward_hook(lambda *given: ran.append(given))
    with pytest.warns(UserWarning, match="full backward hook on the feedback point 'layers.0.activation' does not"):
        attach(model, example=X)
    model(X).sum().backward()
    assert not ran


def test_a_rule_removed_while_it_is_paused_stays_removed():
    model = Mlp()
    attached = attach(model, example=X)
    with attached.paused():
        attached.remove()
    assert attachment_of(model) is None
    attach(model, example=X)


def test_a_frozen_output_layer_is_none():
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    model[2].requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attach(model, FeedbackPath(["1"]), example=X)


def test_a_module_replaced_after_attaching_is_refused():
    model = Mlp()
    attach(model, example=X)
    model.layers[1] = torch.compile(model.layers[1], backend="eager")  # runs the same module
    model(X)
    adapter = nn.Sequential(model.layers[0].activation, nn.Identity())
    model.layers[0].activation = adapter
    with pytest.raises(ModelChanged, match="'layers.0.activation' was replaced.*LoRA"):
        model(X)


@pytest.mark.parametrize("rule", [FeedbackAlignment(1), SignSymmetry(1)])
def test_a_layer_replaced_after_attaching_is_refused_by_rules_that_go_layer_by_layer(rule):
    model = Mlp()
    rule.attach(model, example=X)
    model.layers[0].linear = nn.Linear(5, 6)
    with pytest.raises(ModelChanged, match="'layers.0.linear' was replaced.*LoRA"):
        model(X)


@pytest.mark.parametrize("rule", [DirectFeedback(1), FeedbackAlignment(1), SignSymmetry(1)])
def test_inputs_that_want_a_gradient_are_warned_of_by_every_rule_and_in_containers(rule):
    class OfDictionaries(nn.Module):
        def __init__(self):
            super().__init__()
            self.mlp = Mlp()

        def forward(self, batch):
            return self.mlp(batch["x"])

    model = OfDictionaries()
    rule.attach(model, FeedbackPath(["mlp.layers.*"], "mlp.head"), example=({"x": X},))
    with pytest.warns(UserWarning, match="An input of OfDictionaries wants a gradient"):
        model({"x": X.clone().requires_grad_()})


@pytest.mark.parametrize("wrap", [checkpoint_wrapper, partial(torch.compile, backend="eager")])
def test_blocks_that_were_wrapped_before_are_points_by_their_own_names(wrap):
    def grads(model):
        squared_error(model(X), torch.ones(4, 3)).backward()
        return [parameter.grad for parameter in model.parameters()]

    model, plain = Mlp(), Mlp()
    plain.load_state_dict(model.state_dict())
    model.layers[0], model.layers[1], model.head = map(wrap, [*model.layers, model.head])
    path = FeedbackPath(["layers.*"], "head")
    attached = attach(model, path, example=X)
    assert attached.point_names == ["layers.0", "layers.1"]
    attach(plain, path, example=X)
    for ours, theirs in zip(grads(model), grads(plain), strict=True):
        assert torch.equal(ours, theirs)
    assert FeedbackPath.auto(model, X).points == ["layers.*"]


def test_a_description_is_of_the_model_as_it_is():
    model = Mlp()
    attached = attach(model, example=X)
    model.layers[0].requires_grad_(False)
    with pytest.raises(FeedbackError, match="after each change of what is trained"):
        attached.describe()
    model(X)
    assert attached.describe().learns_from["layers.0.linear.weight"] == ()


# Checkpoints of the model.


def test_weights_trained_with_other_feedback_are_warned_of(tmp_path):
    model = Mlp()
    attached = attach(model, example=X)
    torch.save({"model": model.state_dict(), "attached": attached.state_dict()}, tmp_path / "saved.pt")
    saved = torch.load(tmp_path / "saved.pt", weights_only=True)
    other = Mlp()
    resumed = DirectFeedback(seed=2).attach(other, PATH, example=X)
    with pytest.warns(UserWarning, match="trained with feedback matrices other.*same rule, seed and paths"):
        other.load_state_dict(saved["model"])
    late = Mlp()
    DirectFeedback(seed=2).attach(late, PATH)
    late.load_state_dict(saved["model"])
    with pytest.warns(UserWarning, match="trained with feedback matrices other"):
        late(X)  # which draws them
    resumed.load_state_dict(saved["attached"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_state_dict(saved["model"])
        Mlp().load_state_dict(saved["model"])  # without a rule
        learning = Mlp()
        KolenPollack().attach(learning, example=X)
        learning.load_state_dict(saved["model"])
    assert saved["model"].keys() == Mlp().state_dict().keys()

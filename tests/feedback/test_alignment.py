"""Alignment: against an independent computation, on all kinds of models, and without a trace in training."""

import copy
import functools
import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dfa_bench.feedback import (
    Backprop,
    DirectFeedback,
    FeedbackError,
    FeedbackPath,
    PassesDiffer,
    RowAlignment,
    Shallow,
    alignment,
    attachment_of,
)
from dfa_bench.feedback.alignment import GradientComparison
from tests.feedback.models import Mlp, feedback, mlp_and_batch, squared_error

ACTIVATIONS = FeedbackPath(points=["layers.*.activation"], error_at="head")


class Regularised(nn.Module):
    """Blocks with batch norm and dropout, whose masks and statistics a second forward would disturb."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(fan_in, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True), nn.Dropout(0.3))
                for fan_in in (5, width, width)
            )
        )
        self.head = nn.Linear(width, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.blocks(inputs))


BLOCKS = FeedbackPath(points=["blocks.[0-9]"], error_at="head")


def regularised() -> tuple[Regularised, Tensor, Tensor]:
    torch.manual_seed(0)
    return Regularised(), torch.randn(12, 5), torch.randn(12, 3)


def test_bp_against_bp_is_1():
    model, inputs, targets = regularised()
    attached = Backprop().attach(model)
    measured = alignment(attached, lambda: squared_error(model(inputs), targets).backward())
    assert {"blocks.0.0", "blocks.2.3", "head"} <= measured.paper.keys()
    assert list(measured.weights) == [name for name, _ in model.named_parameters()]
    for rows in measured.paper.values():
        assert (rows.mean, rows.std) == (pytest.approx(1, abs=1e-6), pytest.approx(0, abs=1e-6))
    for weight in measured.weights.values():
        assert (weight.cosine, weight.norm_ratio) == (pytest.approx(1, abs=1e-6), 1)


def test_it_is_the_cosine_between_equation_3_and_equation_1():
    model, inputs, targets = mlp_and_batch(rows=11)
    # By hand, layer after layer.
    before, after = [], [inputs]
    for layer in model.layers:
        before.append(layer.linear(after[-1]))
        after.append(before[-1].tanh())
    output = model.head(after[-1])
    error = 2 * (output - targets)
    true_after = [error @ model.head.weight]
    for layer, a in zip(reversed(model.layers), reversed(before), strict=True):
        true_after.insert(0, (true_after[0] * (1 - a.tanh() ** 2)) @ layer.linear.weight)

    attached = DirectFeedback(seed=3).attach(model, [ACTIVATIONS])
    measured = alignment(attached, lambda: squared_error(model(inputs), targets).backward())
    (matrix,) = attached.matrices
    for number, (a, h, true_h) in enumerate(zip(before, after[1:], true_after[1:], strict=True)):
        sent = feedback(error, matrix, h)
        slope = 1 - a.tanh() ** 2
        for name, ours, theirs in (
            (f"layers.{number}.activation", sent, true_h),
            (f"layers.{number}.linear", sent * slope, true_h * slope),
        ):
            cosines = F.cosine_similarity(ours, theirs)
            found = measured.paper[name]
            assert (found.rows, found.of) == (11, 11)
            assert found.mean == pytest.approx(cosines.mean().item(), abs=1e-10)
            assert found.std == pytest.approx(cosines.std(correction=0).item(), abs=1e-10)
        gradients = [(each * slope).T @ after[number] for each in (sent, true_h)]
        weight = measured.weights[f"layers.{number}.linear.weight"]
        assert weight.cosine == pytest.approx(F.cosine_similarity(*(g.reshape(1, -1) for g in gradients)).item())
        assert weight.norm_ratio == pytest.approx((gradients[0].norm() / gradients[1].norm()).item())
    assert measured.paper["head"].mean == pytest.approx(1)


def test_deep_layers_start_near_0_and_rise_when_a_small_mlp_trains():
    torch.manual_seed(0)
    model = Mlp((20, 128, 128, 128, 128, 5))
    inputs = torch.randn(256, 20)
    targets = (inputs @ torch.randn(20, 5)).argmax(dim=1)
    attached = DirectFeedback(seed=1).attach(model, [ACTIVATIONS])
    names = [f"layers.{number}.activation" for number in range(4)]

    def backward() -> None:
        F.cross_entropy(model(inputs), targets).backward()

    def means() -> list[float]:
        paper = alignment(attached, backward).paper
        return [paper[name].mean for name in names]

    start = means()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(150):
        optimizer.zero_grad()
        backward()
        optimizer.step()
    end = means()
    assert all(abs(mean) < 0.15 for mean in start), start
    assert all(mean > before + 0.2 for before, mean in zip(start, end, strict=True)), (start, end)


@pytest.mark.parametrize("measure", ["alone", "beside the step"])
def test_measuring_does_not_change_training_by_a_bit(measure):
    def train(measured: bool) -> list[Tensor]:
        model, inputs, targets = regularised()
        attached = DirectFeedback(seed=1).attach(model, [BLOCKS])
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        random.seed(0)

        def backward() -> None:
            squared_error(model(inputs), targets).backward()

        for _ in range(8):
            optimizer.zero_grad()
            if measured and measure == "alone":
                alignment(attached, backward)
            if measured and measure == "beside the step":
                comparison = GradientComparison(attached)
                with comparison.by_rule():
                    backward()
                comparison.with_bp(backward)
            else:
                backward()
            optimizer.step()
        moments = [value for state in optimizer.state.values() for value in state.values()]
        left = [torch.get_rng_state(), torch.tensor([random.random()])]
        return [*model.state_dict().values(), *moments, *(p.grad for p in model.parameters()), *left]

    plain, measured = train(False), train(True)
    assert len(plain) == len(measured)
    assert all(torch.equal(one, other) for one, other in zip(plain, measured, strict=True))


def test_dropout_masks_and_batch_statistics_are_those_of_the_rule():
    model, inputs, targets = regularised()
    attached = DirectFeedback(seed=1).attach(model, [BLOCKS])
    seen: list[Tensor] = []
    model.blocks[2].register_forward_hook(lambda module, args, output: seen.append(output.detach().clone()))
    means: list[Tensor] = []
    model.blocks[0][1].register_forward_pre_hook(lambda module, args: means.append(module.running_mean.clone()))
    alignment(attached, lambda: squared_error(model(inputs), targets).backward())
    assert len(seen) == 2
    assert torch.equal(*seen)
    assert torch.equal(*means)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_buffers_mode_and_hooks_are_left_as_they_were(training):
    model, inputs, targets = regularised()
    model.train(training)
    attached = DirectFeedback(seed=1).attach(model, [BLOCKS])
    squared_error(model(inputs), targets).backward()
    model.head.bias.grad = None
    grads = [parameter.grad for parameter in model.parameters()]
    values = [None if grad is None else grad.clone() for grad in grads]
    buffers = [buffer.clone() for buffer in model.buffers()]
    hooks = [dict(module._forward_hooks) for module in model.modules()]
    measured = alignment(attached, lambda: squared_error(model(inputs), targets).backward())
    assert set(measured.paper) >= {"blocks.0", "blocks.1", "blocks.2", "head"}
    assert [parameter.grad for parameter in model.parameters()] == grads, "the very tensors"
    assert all(grad is value or torch.equal(grad, value) for grad, value in zip(grads, values, strict=True))
    assert all(map(torch.equal, model.buffers(), buffers))
    assert [list(module._forward_hooks.items()) for module in model.modules()] == [list(each.items()) for each in hooks]
    assert all(module.training is training for module in model.modules())
    assert attachment_of(model) is attached


def test_beside_a_step_it_costs_one_forward_and_one_backward_and_no_copy(monkeypatch):
    model, inputs, targets = regularised()
    attached = DirectFeedback(seed=1).attach(model, [BLOCKS])
    runs: list[str] = []
    model.register_forward_hook(lambda *call: runs.append("forward"))
    model.head.weight.register_hook(lambda gradient: runs.append("backward"))
    monkeypatch.setattr(copy, "deepcopy", None)

    def backward() -> None:
        squared_error(model(inputs), targets).backward()

    comparison = GradientComparison(attached)
    with comparison.by_rule():
        backward()
    assert runs == ["forward", "backward"]
    comparison.with_bp(backward)
    assert runs == ["forward", "backward"] * 2


class TwoFields(nn.Module):
    """Two networks with an error each, one of them called twice, as NeRF's."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse, self.fine = Mlp((4, 10, 10, 3)), Mlp((4, 12, 12, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.coarse(inputs).sum() ** 2 + self.fine(inputs).sum() ** 2 + self.fine(inputs[:, :2]).sum() ** 2


def test_several_paths_and_a_module_that_runs_twice():
    torch.manual_seed(0)
    model, inputs = TwoFields(), torch.randn(6, 5, 4)  # rays, samples, coordinates
    paths = [FeedbackPath(points=[f"{field}.layers.*.activation"], error_at=field) for field in ("coarse", "fine")]
    measured = alignment(DirectFeedback(seed=2).attach(model, paths), lambda: model(inputs).backward())
    assert measured.paper["coarse.layers.1.activation"].rows == 6 * 5
    assert measured.paper["fine.layers.1.activation"].rows == 6 * 5 + 6 * 2
    assert measured.paper["fine.head"].mean == pytest.approx(1, abs=1e-6)
    assert abs(measured.paper["fine.layers.0.activation"].mean) < 0.999


class Recurrent(nn.Module):
    """An LSTM, whose output is a tuple, over embedded tokens, then a vocabulary projection that learns by BP."""

    def __init__(self, sparse: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 8, sparse=sparse)
        self.lstm = nn.LSTM(8, 16, batch_first=True)
        self.hidden = nn.Linear(16, 16)
        self.vocabulary = nn.Linear(16, 50)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(tokens))
        return self.vocabulary(self.hidden(states).flatten(0, 1))


def test_tuples_tokens_and_sparse_gradients():
    tokens = torch.randint(20, (4, 7))
    path = FeedbackPath(points=["embedding", "lstm"], error_at="hidden", first_of_tuple=True)
    found = []
    for sparse in (True, False):
        torch.manual_seed(0)
        model = Recurrent(sparse)
        attached = DirectFeedback(seed=0).attach(model, [path])
        backward = functools.partial(lambda model: F.cross_entropy(model(tokens), tokens.flatten()).backward(), model)
        found.append(alignment(attached, backward))
        assert set(found[-1].weights) == {name for name, _ in model.named_parameters()}
    assert {name: rows.rows for name, rows in found[0].paper.items()} == {
        "embedding": 28,
        "lstm": 28,
        "hidden": 28,
        "vocabulary": 28,  # (samples · tokens, words): no samples and tokens in front, so vectors of the last axis
    }
    assert found[0].paper["vocabulary"].mean == pytest.approx(1, abs=1e-6)
    tables = [each.weights["embedding.weight"] for each in found]
    assert abs(tables[0].cosine) < 0.9
    assert tables[0].cosine == pytest.approx(tables[1].cosine, abs=1e-6)
    assert tables[0].norm_ratio == pytest.approx(tables[1].norm_ratio, rel=1e-5)


def test_an_output_is_flattened_behind_the_axes_of_the_error():
    torch.manual_seed(0)
    fields = nn.Sequential(nn.Embedding(30, 4), nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 1))
    path = FeedbackPath(points=["0", "3"], error_at="4")
    attached = DirectFeedback(seed=0).attach(fields, [path])
    measured = alignment(attached, lambda: fields(torch.arange(15).view(5, 3)).square().sum().backward())
    assert measured.paper["0"].rows == 5  # not one for each of three fields
    assert "1" not in measured.paper  # directly above a point: nothing comes back to it


def test_what_gets_no_gradient_is_not_reported_and_rows_without_one_are_left_out():
    model, inputs, targets = mlp_and_batch(rows=6)
    cut = FeedbackPath(points=["layers.1.activation"], cuts=["layers.0.activation"], error_at="head")
    attached = DirectFeedback(seed=0).attach(model, [cut])
    measured = alignment(attached, lambda: squared_error(model(inputs)[:2], targets[:2]).backward())
    assert list(measured.paper) == ["layers.1.linear", "layers.1.activation", "head"]
    assert measured.paper["layers.1.activation"].rows == measured.paper["layers.1.activation"].of == 2
    assert not any(name.startswith("layers.0.") for name in measured.weights)
    attached.remove()
    shallow = Shallow().attach(model, [ACTIVATIONS])
    below = alignment(shallow, lambda: squared_error(model(inputs), targets).backward())
    assert list(below.paper) == ["head"]
    assert list(below.weights) == ["head.weight", "head.bias"]


def test_a_point_that_is_the_error_source_gets_a_projection_where_bp_has_the_error():
    """As in the macro Transformer, whose last layer is both; here the rows are tokens."""
    torch.manual_seed(0)
    model, inputs = Mlp((4, 12, 12, 30)), torch.randn(3, 6, 4)
    path = FeedbackPath(points=["layers.[01]"], error_at="layers.1")
    attached = DirectFeedback(seed=0).attach(model, [path])
    measured = alignment(attached, lambda: F.cross_entropy(model(inputs).flatten(0, 1), torch.arange(18)).backward())
    last = measured.paper["layers.1"]
    assert last.rows == last.of == 18
    assert abs(last.mean) < 0.5
    assert measured.paper["layers.1.activation"] == last, "the same tensor"
    assert measured.paper["head"].mean == pytest.approx(1, abs=1e-6)


class Mixing(nn.Module):
    """A graph convolution in small: the second layer mixes rows, of which the loss sees two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.activation, self.second = nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)
        self.mix = torch.ones(5, 5).tril()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(self.mix @ self.activation(self.first(inputs)))


def test_rows_that_only_bp_reaches_are_counted_apart():
    torch.manual_seed(0)
    model, inputs = Mixing(), torch.randn(5, 4)
    attached = DirectFeedback(seed=0).attach(model, [FeedbackPath(points=["activation"], error_at="second")])
    measured = alignment(attached, lambda: model(inputs)[3].sum().backward())
    assert (measured.paper["activation"].rows, measured.paper["activation"].of) == (1, 4)


def test_gradients_whose_squares_vanish_have_an_angle():
    model, inputs, targets = mlp_and_batch()
    model, inputs, targets = model.float(), inputs.float(), targets.float()
    attached = DirectFeedback(seed=0).attach(model, [ACTIVATIONS])
    measured = [
        alignment(attached, lambda scale=scale: (scale * squared_error(model(inputs), targets)).backward())
        for scale in (1.0, 1e-28)
    ]
    for name, rows in measured[0].paper.items():
        assert measured[1].paper[name].mean == pytest.approx(rows.mean, abs=1e-4)


def test_checkpointed_and_compiled_models_give_the_same():
    model, inputs, targets = mlp_and_batch()

    def measured(run) -> dict[str, RowAlignment]:
        with DirectFeedback(seed=0).attach(model, [ACTIVATIONS]) as attached:
            return alignment(attached, lambda: squared_error(run(inputs), targets).backward()).paper

    plain = measured(model)

    class Checkpointed(Mlp):
        def forward(self, inputs: Tensor) -> Tensor:
            for layer in self.layers:
                inputs = checkpoint(layer, inputs, use_reentrant=False)
            return self.head(inputs)

    model.__class__ = Checkpointed
    assert measured(model) == plain
    model.__class__ = Mlp
    with DirectFeedback(seed=0).attach(model, [ACTIVATIONS], example=inputs) as attached:
        compiled = torch.compile(model, backend="eager")
        compiled(inputs)
        again = alignment(attached, lambda: squared_error(compiled(inputs), targets).backward()).paper
    assert again == plain


def test_hooks_of_others_stay_where_they_were():
    model, inputs, targets = mlp_and_batch()
    order: list[str] = []
    model.head.register_forward_hook(lambda *call: order.append("before"))
    attached = DirectFeedback(seed=0).attach(model, [ACTIVATIONS])
    with attached.paused():
        passing = model.head.register_forward_hook(lambda *call: order.append("after"))
    squared_error(model(inputs), targets).backward()
    assert order == ["before", "after"]
    with attached.paused():
        passing.remove()
    model(inputs)
    assert order == ["before", "after", "before"]


def test_a_rule_that_was_removed_has_no_alignment():
    model, inputs, targets = mlp_and_batch()
    attached = DirectFeedback(seed=0).attach(model, [ACTIVATIONS])
    attached.remove()
    with pytest.raises(FeedbackError, match="was removed from its model"):
        alignment(attached, lambda: squared_error(model(inputs), targets).backward())


def test_a_function_without_backward_or_of_another_model_is_refused():
    model, inputs, targets = mlp_and_batch()
    other = Mlp().double()
    attached = DirectFeedback(seed=0).attach(model, [ACTIVATIONS])
    for wrong in (lambda: squared_error(model(inputs), targets), lambda: other(inputs).sum().backward()):
        with pytest.raises(PassesDiffer, match="No parameter of Mlp got a gradient"):
            alignment(attached, wrong)


def test_passes_over_other_batches_are_refused():
    model, inputs, targets = mlp_and_batch()
    attached = DirectFeedback(seed=0).attach(model, [ACTIVATIONS])
    sizes = iter([7, 6, 3, 3, 3])

    def other_rows() -> None:
        rows = next(sizes)
        squared_error(model(inputs[:rows]), targets[:rows]).backward()

    with pytest.raises(PassesDiffer, match=r"shape \(7, 8\) by the rule and \(6, 8\) by BP"):
        alignment(attached, other_rows)
    times = iter([1, 2])
    with pytest.raises(PassesDiffer, match="'layers.0.linear' ran 1 times by the rule and 2 times by BP"):
        alignment(attached, lambda: [other_rows() for _ in range(next(times))])


def test_a_failing_pass_leaves_the_rule_attached_and_gradients_in_place():
    model, inputs, targets = mlp_and_batch()
    attached = DirectFeedback(seed=0).attach(model, [ACTIVATIONS])
    squared_error(model(inputs), targets).backward()
    grads = [parameter.grad for parameter in model.parameters()]
    passes = iter([inputs, None])

    def failing() -> None:
        squared_error(model(next(passes)), targets).backward()

    with pytest.raises(TypeError):
        alignment(attached, failing)
    assert [parameter.grad for parameter in model.parameters()] == grads
    before = [grad.clone() for grad in grads]
    model.zero_grad()
    squared_error(model(inputs), targets).backward()
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), before, strict=True))

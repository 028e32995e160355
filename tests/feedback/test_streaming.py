"""Streaming gives the gradients of ordinary DFA, memory that is constant in depth, and refuses what it cannot do."""

import copy
import weakref
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dfa_bench.feedback import (
    CannotStream,
    DirectFeedback,
    DirectKolenPollack,
    FeedbackAlignment,
    FeedbackPath,
    MatrixNotDrawn,
    OpticalFeedback,
    alignment,
)
from tests.feedback.models import Block, Mlp, assert_same, gradients, mlp_and_batch, squared_error

LAYERS = FeedbackPath(["layers.*"], error_at="head")


class Tied(Mlp):
    """One layer at two points, whose weight the head has too."""

    def __init__(self) -> None:
        super().__init__((6, 6, 6, 6))
        self.layers[1].linear = self.layers[0].linear
        self.head.weight = self.layers[0].linear.weight


class Recurrent(nn.Module):
    """A cell that runs four times before its head; with `each`, a head and an error after each two of them."""

    def __init__(self, each: bool = False) -> None:
        super().__init__()
        self.layers, self.head, self.each = nn.ModuleList([Block(6, 6)]), nn.Linear(6, 6), each

    def forward(self, x: Tensor) -> Tensor:
        y = 0
        for step in range(4):
            x = self.layers[0](x)
            if step % 2 and self.each:
                y = y + self.head(x)
        return y if self.each else self.head(x)


class Skips(Mlp):
    """The first layer's outcome goes past the points to the head: it learns in two ways."""

    def __init__(self) -> None:
        super().__init__((6, 6, 6, 6))
        self.first = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head(self.layers[1](self.layers[0](x)) + x)


class Branches(Mlp):
    """Two points above one layer: their graphs share it."""

    def __init__(self) -> None:
        super().__init__((6, 6, 6, 6))
        self.first = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).exp()
        return self.head(self.layers[0](x) + self.layers[1](x))


class Convolutional(nn.Module):
    """Batch norm, dropout and in-place activations, with a tensor that is changed in place between points."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), nn.BatchNorm1d(1), nn.ReLU(inplace=True), nn.Dropout(0.5))
            for _ in range(3)
        )
        self.head = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(1)
        for layer in self.layers:
            x = layer(x)
            x += 1
        return self.head(x.squeeze(1))


class Encoded(nn.Module):
    """The part with the points begins above a layer, is given its outcome twice, and repeats layers at random."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 6), Decoder()

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x)
        return self.decoder(x, memory={"is": x.sin()})


class Decoder(Mlp):
    def __init__(self) -> None:
        super().__init__((6, 6, 6, 6))
        self.layers[0].linear = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))

    def forward(self, x: Tensor, memory: dict[str, Tensor]) -> Tensor:
        for layer in self.layers:
            for _ in range(1 + int(torch.rand(()) < 0.5)):
                x = layer(x * memory["is"])
        return self.head(x)


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.LSTM(6, 6) for _ in range(2))
        self.head = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0)
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(x).squeeze(0)


class Checkpointed(Mlp):
    """Points within and at the end of blocks that are checkpointed."""

    def __init__(self, whole: bool) -> None:
        super().__init__((6, 6, 6, 6))
        self.whole = whole

    def forward(self, x: Tensor) -> Tensor:
        if self.whole:
            return checkpoint(super().forward, x, use_reentrant=False)
        for layer in self.layers:
            x = checkpoint(lambda x, layer=layer: layer(x).sin(), x, use_reentrant=False)
        return self.head(x)


class TwoHeads(Mlp):
    def __init__(self) -> None:
        super().__init__((6, 6, 6, 6))
        self.other = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        low = self.layers[0](x)
        return torch.cat([self.head(self.layers[1](low)), self.other(low)], dim=1)


class FrozenHead(Mlp):
    def __init__(self) -> None:
        super().__init__((6, 6, 6, 6))
        self.head.requires_grad_(False)


class Pooled(Mlp):
    """Three rows of a point for each error."""

    def __init__(self) -> None:
        super().__init__((6, 6, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x.unflatten(0, (-1, 3)).mean(1))


MODELS: dict[str, tuple[Callable[[], nn.Module], list[FeedbackPath]]] = {
    "perceptron": (partial(Mlp, (6, 8, 7, 6)), [LAYERS]),
    "normalised": (partial(Mlp, (6, 6, 6, 6)), [FeedbackPath(["layers.*"], "head", normalised=True)]),
    "tied": (Tied, [LAYERS]),
    "recurrent": (Recurrent, [LAYERS]),
    "several errors": (partial(Recurrent, each=True), [LAYERS]),
    "skips": (Skips, [LAYERS]),
    "branches": (Branches, [LAYERS]),
    "convolutional": (Convolutional, [FeedbackPath(["layers.*"], "head", batch_axes=1)]),
    "encoded": (Encoded, [FeedbackPath(["decoder.layers.*"], "decoder.head")]),
    "tuples": (Lstm, [FeedbackPath(["layers.*"], "head", first_of_tuple=True)]),
    "checkpointed": (partial(Checkpointed, whole=False), [FeedbackPath(["layers.*.activation"], "head")]),
    "checkpointed as a whole": (partial(Checkpointed, whole=True), [LAYERS]),
    "two heads": (TwoHeads, [FeedbackPath(["layers.0"], "other"), FeedbackPath(["layers.1"], "head")]),
    "frozen head": (FrozenHead, [LAYERS]),
    "rows": (Pooled, [FeedbackPath(["layers.*"], "head", rows=lambda h: torch.arange(len(h)) // 3)]),
}


def steps(model: nn.Module, rule: DirectFeedback, paths: list[FeedbackPath]) -> tuple[dict, dict, Tensor]:
    """Gradients, buffers and random state after three backwards, the last of two forwards at once."""
    torch.manual_seed(1)
    x = torch.randn(9, 6).double()
    with rule.attach(model, paths, example=x[:3]) as attached:
        assert attached.streams == rule.streaming
        for _ in range(2):
            model(x).square().sum().backward()
        (model(x).sin().sum() + model(2 * x).square().sum()).backward()
    return gradients(model), dict(model.named_buffers()), torch.get_rng_state()


def assert_streams(model: nn.Module, ordinary: DirectFeedback, streaming: DirectFeedback, paths: list[FeedbackPath]):
    expected = steps(copy.deepcopy(model), ordinary, paths)
    found = steps(model, streaming, paths)
    assert_same(found[0], expected[0], atol=1e-9)
    assert any(gradient is not None for gradient in found[0].values())
    assert_same(found[1], expected[1], atol=0)
    assert torch.equal(found[2], expected[2])


@pytest.mark.filterwarnings("ignore:.*learn from a point and by BP")
@pytest.mark.parametrize("name", MODELS)
def test_gradients_buffers_and_random_state_are_those_of_ordinary_dfa(name):
    torch.manual_seed(0)
    build, paths = MODELS[name]
    assert_streams(build().double(), DirectFeedback(seed=1), DirectFeedback(seed=1, streaming=True), paths)


@pytest.mark.parametrize(
    "rule, settings",
    [
        (DirectFeedback, {"shared": False}),
        (DirectFeedback, {"rank": 2, "shared": False}),
        (DirectFeedback, {"projection": lambda error, matrix: error.sign() @ matrix}),
        (OpticalFeedback, {"noise": 0.5, "shared": False}),
    ],
)
def test_kinds_of_matrices_and_projections(rule, settings):
    torch.manual_seed(0)
    model = nn.Sequential(Mlp((6, 8, 7, 6)), nn.Dropout(0.5)).double()
    paths = [FeedbackPath(["0.layers.*"], error_at="0.head")]
    assert_streams(model, rule(**settings), rule(**settings, streaming=True), paths)


@pytest.mark.parametrize("shared", [True, False])
def test_autocast_and_a_scaled_loss(shared):
    found = []
    for streaming in (False, True):
        model, x, targets = mlp_and_batch()
        model, x, targets = model.float(), x.float(), targets.float()
        with DirectFeedback(shared=shared, streaming=streaming).attach(model, LAYERS, example=x):
            with torch.autocast("cpu", torch.bfloat16):
                loss = squared_error(model(x).float(), targets)
            (loss * 2**10).backward()
        found.append(gradients(model))
    assert_same(found[1], found[0], atol=0)


def test_a_step_of_the_optimizer_for_each_parameter_when_it_has_its_gradient():
    models = []
    for streaming in (False, True):
        model, x, targets = mlp_and_batch()
        DirectFeedback(streaming=streaming).attach(model, LAYERS, example=x)
        if streaming:
            for parameter in model.parameters():
                parameter.register_post_accumulate_grad_hook(_descend)
        squared_error(model(x), targets).backward()
        if not streaming:
            for parameter in model.parameters():
                _descend(parameter)
        models.append(dict(model.named_parameters()))
    assert_same(models[1], models[0])


@torch.no_grad()
def _descend(parameter: Tensor) -> None:
    parameter -= 0.1 * parameter.grad
    parameter.grad = None


def test_alignment_check_and_copies():
    model, x, targets = mlp_and_batch()
    ordinary = copy.deepcopy(model)
    attached = DirectFeedback(streaming=True).attach(model, LAYERS, example=x)
    measured = alignment(attached, lambda: squared_error(model(x), targets).backward())
    attached.check(lambda: squared_error(model(x), targets).backward()).assert_active()
    other = DirectFeedback().attach(ordinary, LAYERS, example=x)
    assert measured == alignment(other, lambda: squared_error(ordinary(x), targets).backward())
    copied = copy.deepcopy(model)
    for each in (copied, ordinary):
        squared_error(each(x), targets).backward()
    assert_same(gradients(copied), gradients(ordinary))
    assert all(gradient is None for gradient in gradients(model).values())


def peak_of_saved_bytes(backward: Callable[[], object]) -> int:
    """The most that graphs hold at one time of tensors that they have saved, in bytes; each storage counts once."""
    held: dict[int, int] = {}
    now = peak = 0

    def pack(tensor: Tensor) -> "Saved":
        nonlocal now, peak
        place, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
        now += 0 if held.get(place) else size
        held[place] = held.get(place, 0) + 1
        peak = max(peak, now)
        saved = Saved(tensor.detach())
        weakref.finalize(saved, let_go, place, size)
        return saved

    def let_go(place: int, size: int) -> None:
        nonlocal now
        held[place] -= 1
        now -= 0 if held[place] else size

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        backward()
    return peak


class Saved:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_kept_for_the_backward_does_not_grow_with_depth(shared):
    def peak(depth: int, streaming: bool) -> int:
        model, x, targets = mlp_and_batch(rows=64, widths=[8] * (depth + 2))
        DirectFeedback(streaming=streaming, shared=shared).attach(model, LAYERS, example=x[:2])
        backward = lambda: squared_error(model(x), targets).backward()  # noqa: E731
        backward()
        return peak_of_saved_bytes(backward)

    assert peak(8, True) == peak(32, True) <= 4 * 64 * 8 * 8
    assert peak(32, False) > 3 * peak(8, False) > 6 * peak(8, True)


def test_one_compiled_graph_is_refused():
    model, x, _ = mlp_and_batch()
    DirectFeedback(streaming=True).attach(model, LAYERS, example=x)
    with pytest.raises(RuntimeError, match="without fullgraph=True"):
        torch.compile(model, backend="eager", fullgraph=True)(x)


# What cannot stream is refused.


def called_outside(model: nn.Module, x: Tensor) -> None:
    model.head(model.layers[1](model.layers[0](x))).sum().backward()


def by_autograd_grad(model: nn.Module, x: Tensor) -> None:
    torch.autograd.grad(model(x).sum(), list(model.parameters()), allow_unused=True)


def for_some(model: nn.Module, x: Tensor) -> None:
    model(x).sum().backward(inputs=[model.head.weight])


def twice_differentiable(model: nn.Module, x: Tensor) -> None:
    model(x).sum().backward(create_graph=True)


def after_a_step(model: nn.Module, x: Tensor) -> None:
    loss = model(x).sum()
    with torch.no_grad():
        model.layers[0].linear.weight.add_(1)
    loss.backward()


def after_a_change_of_the_input(model: nn.Module, x: Tensor) -> None:
    loss = model(x).sum()
    x.add_(1)
    loss.backward()


def after_a_change_of_mode(model: nn.Module, x: Tensor) -> None:
    loss = model(x).sum()
    model.eval()
    loss.backward()


def with_other_parameters(model: nn.Module, x: Tensor) -> None:
    others = {name: parameter.detach().clone().requires_grad_() for name, parameter in model.named_parameters()}
    torch.func.functional_call(model, others, (x,)).sum().backward()


def with_a_generator_of_its_own(model: nn.Module, x: Tensor) -> None:
    generator = torch.Generator()
    noisy = model.layers[0].linear.register_forward_hook(
        lambda module, args, output: output + torch.randn(output.shape, generator=generator)
    )
    with noisy:
        model(x).sum().backward()


def removed_before(model: nn.Module, x: Tensor) -> None:
    loss = model(x).sum()
    for module in model.modules():
        module._forward_hooks.clear()
    loss.backward()


@pytest.mark.parametrize(
    "use, told",
    [
        (called_outside, "Call that module itself"),
        (by_autograd_grad, "not torch.autograd.grad"),
        (for_some, "without create_graph and inputs"),
        (twice_differentiable, "without create_graph"),
        (after_a_step, "have changed between"),
        (after_a_change_of_the_input, "change no input in place"),
        (after_a_change_of_mode, "training mode"),
        (with_other_parameters, "functional_call .*cannot stream"),
        (with_a_generator_of_its_own, "computes other values at the point 'layers.0'"),
        (removed_before, "did not run the point 'layers.0'"),
    ],
)
def test_what_would_give_other_gradients_is_refused(use, told):
    model, x, _ = mlp_and_batch()
    DirectFeedback(streaming=True).attach(model, LAYERS, example=x)
    with pytest.raises(CannotStream, match=told):
        use(model, x)


def test_rules_and_attaching():
    model, _, _ = mlp_and_batch()
    with pytest.raises(MatrixNotDrawn, match="example"):
        DirectFeedback(streaming=True).attach(model, LAYERS)
    with pytest.raises(ValueError, match="learn from activations"):
        DirectKolenPollack(streaming=True)
    with pytest.raises(TypeError, match="streaming"):
        FeedbackAlignment(streaming=True)
    assert DirectFeedback(streaming=True).outcome([LAYERS]) == DirectFeedback().outcome([LAYERS])

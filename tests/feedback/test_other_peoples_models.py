"""What other people's models do: skips and concatenations, experts, dropped layers, adversaries, exporting."""

import copy
import warnings

import pytest
import torch
from torch import nn

from dfa_bench.feedback import (
    DirectFeedback,
    FeedbackAlignment,
    FeedbackError,
    FeedbackPath,
    PointNotReached,
    ShapeMismatch,
)
from tests.feedback.models import (
    Block,
    Mlp,
    assert_same,
    backward_per_block,
    gradients,
    mlp_and_batch,
    squared_error,
)

PATH = FeedbackPath(["layers.*.activation"], error_at="head")


def attach(model, path, example=None, **options):
    return DirectFeedback(seed=1, **options).attach(model, path, example)


class UNet(nn.Module):
    """The first block's output goes down, and over a concatenation to the last block."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh())
        self.down = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Tanh())
        self.up = nn.Sequential(nn.ConvTranspose2d(4, 3, 2, stride=2), nn.Tanh())
        self.last, self.head = nn.Sequential(nn.Conv2d(6, 3, 1), nn.Tanh()), nn.Conv2d(3, 1, 1)

    def forward(self, x):
        skip = self.first(x)
        return self.head(self.last(torch.cat([skip, self.up(self.down(skip))], dim=1)))


def test_concatenations_of_a_u_net_pass_no_true_gradient():
    torch.manual_seed(0)
    model, x = UNet().double(), torch.randn(3, 2, 6, 6).double()
    bare = copy.deepcopy(model)
    attached = attach(model, FeedbackPath(["first", "down", "up", "last"], "head", batch_axes=1), example=x)
    assert attached.describe().both == []
    model(x).exp().sum().backward()
    first = bare.first(x)
    down = bare.down(first.detach())
    up = bare.up(down.detach())
    last = bare.last(torch.cat([first.detach(), up.detach()], dim=1))
    output = bare.head(last.detach())
    backward_per_block(output.exp().sum(), output, [first, down, up, last], attached.matrices[0])
    assert_same(gradients(model), gradients(bare))


class Mixture(nn.Module):
    """Each token goes to the expert that a router likes best, times its probability."""

    def __init__(self, experts=3):
        super().__init__()
        self.router, self.experts = nn.Linear(6, experts), nn.ModuleList(Block(6, 6) for _ in range(experts))

    def forward(self, tokens):
        gate, chosen = self.router(tokens).softmax(-1).max(-1)
        mixed = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            (rows,) = (chosen == number).nonzero(as_tuple=True)
            if len(rows):
                mixed = mixed.index_add(0, rows, gate[rows, None] * expert(tokens[rows]))
        return mixed


class MixtureOfExperts(nn.Module):
    def __init__(self, experts=3):
        super().__init__()
        self.mixtures, self.head = nn.ModuleList(Mixture(experts) for _ in range(2)), nn.Linear(6, 3)

    def forward(self, tokens):
        for mixture in self.mixtures:
            tokens = mixture(tokens)
        return self.head(tokens)


def test_experts_and_their_router_learn_from_the_error_after_the_mixture():
    torch.manual_seed(0)
    model, x = MixtureOfExperts().double(), torch.randn(9, 6).double()
    bare = copy.deepcopy(model)
    attached = attach(model, FeedbackPath(["mixtures.*"], "head"), example=x)
    model(x).exp().sum().backward()
    points = [bare.mixtures[0](x)]
    points.append(bare.mixtures[1](points[0].detach()))
    output = bare.head(points[1].detach())
    backward_per_block(output.exp().sum(), output, points, attached.matrices[0])
    assert_same(gradients(model), gradients(bare))
    assert model.mixtures[0].router.weight.grad.abs().sum() > 0


def test_points_in_experts_are_refused_since_their_rows_are_some_of_the_tokens():
    torch.manual_seed(0)
    model, x = MixtureOfExperts(), torch.randn(9, 6)
    with pytest.raises(ShapeMismatch, match=r"'mixtures.0.experts.\d' returns shape .*FeedbackPath\(rows=...\)"):
        attach(model, FeedbackPath(["mixtures.*.experts.*"], "head", optional=True), example=x)


class LayerDrop(Mlp):
    """Drops layers in training, as its argument says."""

    def __init__(self):
        super().__init__((6, 6, 6, 6, 3))

    def forward(self, x, dropped=()):
        for number, layer in enumerate(self.layers):
            x = x if number in dropped else layer(x)
        return self.head(x)


@pytest.mark.parametrize("dropped", [(), (1,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("first", [(), (2,)])
def test_dropped_layers_are_points_that_a_forward_may_pass_by(dropped, first):
    torch.manual_seed(0)
    model, x = LayerDrop().double(), torch.randn(7, 6).double()
    bare = copy.deepcopy(model)
    attached = attach(model, FeedbackPath(["layers.*"], "head", optional=True), example=(x, first))
    model(x, dropped).exp().sum().backward()
    points = []
    for number, layer in enumerate(bare.layers):
        if number not in dropped:
            points.append(layer(points[-1].detach() if points else x))
    output = bare.head(points[-1].detach() if points else x)
    backward_per_block(output.exp().sum(), output, points, attached.matrices[0])
    assert_same(gradients(model), gradients(bare))


def test_a_dropped_layer_that_is_not_optional_is_refused():
    model, x = LayerDrop(), torch.randn(7, 6)
    attach(model, FeedbackPath(["layers.*"], "head"), example=x)
    with pytest.raises(PointNotReached, match=r"never reached 'layers.1'.*optional=True"):
        model(x, (1,))
    with pytest.raises(PointNotReached, match=r"'layers.1' was passed by.*model.eval\(\)"):
        attach(LayerDrop(), FeedbackPath(["layers.*"], "head", optional=True), (x, (1,)), shared=False)


def test_a_generator_learns_from_the_true_derivative_of_a_paused_discriminator():
    torch.manual_seed(0)
    generator, discriminator = Mlp((4, 6, 6, 5)).double(), Mlp((5, 6, 6, 1)).double()
    bare_generator, bare_discriminator = copy.deepcopy(generator), copy.deepcopy(discriminator)
    noise = torch.randn(7, 4).double()
    by_generator = attach(generator, PATH, example=noise)
    by_discriminator = attach(discriminator, PATH, example=torch.zeros(2, 5).double())
    with pytest.warns(UserWarning, match="not a derivative of the output"):
        discriminator(generator(noise))
    with by_discriminator.paused(), warnings.catch_warnings():
        warnings.simplefilter("error")
        discriminator(generator(noise)).exp().sum().backward()

    points = [bare_generator.layers[0](noise)]
    points.append(bare_generator.layers[1](points[0].detach()))
    faked = bare_generator.head(points[1].detach())
    backward_per_block(bare_discriminator(faked).exp().sum(), faked, points, by_generator.matrices[0])
    assert_same(gradients(generator), gradients(bare_generator))


# Equal lengths.


class SequenceFirst(nn.Module):
    """Points are (time, samples, width); the error is (samples, classes), or (samples, time, classes)."""

    def __init__(self, pooled, normed=False):
        super().__init__()
        self.mixed, self.pooled = nn.GRU(5, 6), pooled
        self.norm = nn.BatchNorm1d(6) if normed else nn.Identity()
        self.layer, self.head = Block(6, 6), nn.Linear(6, 4)

    def forward(self, x):  # (samples, time, 5)
        h = self.layer(self.mixed(x.transpose(0, 1))[0])
        h = self.norm(h.flatten(0, 1)).view_as(h)
        return self.head(h.mean(0) if self.pooled else h.transpose(0, 1))


class TwoTowers(nn.Module):
    """CLIP: the logits are of each image (rows) and each text (columns)."""

    def __init__(self):
        super().__init__()
        self.image, self.text = nn.Sequential(Block(5, 6)), nn.Sequential(Block(5, 6))

    def forward(self, x):
        return self.image(x) @ self.text(x.flip(1)).T


@pytest.mark.parametrize(
    "model, path, shape, told",
    [
        (
            SequenceFirst(True),
            FeedbackPath(["layer"], "head"),
            (7, 7, 5),
            r"axis 0 of the error .* axis 1 of the point",
        ),
        (
            SequenceFirst(False),
            FeedbackPath(["layer"], "head"),
            (7, 7, 5),
            r"axis 0 of the error .* axis 1 of the point",
        ),
        (
            SequenceFirst(False, normed=True),
            FeedbackPath(["layer"], "head"),
            (7, 7, 5),
            r"axis 0 of the error .* axis 1 of the point",
        ),
        (TwoTowers(), FeedbackPath(["text.0"]), (7, 5), r"axis 1 of the error .* axis 0 of the point"),
    ],
)
def test_axes_that_are_only_as_long_as_those_of_the_error_are_refused(model, path, shape, told):
    torch.manual_seed(0)
    x = torch.randn(shape)
    with pytest.raises(ShapeMismatch, match=rf"not the same in both, only of equal length: {told}"):
        attach(model, path, example=x)
    attached = attach(model, path)  # hooks are off again
    with pytest.raises(ShapeMismatch, match=told):
        attached.check(lambda: model(x).exp().sum().backward())


def test_rows_that_mix_are_not_taken_for_others():
    """Batch norm, attention, and as many nodes, samples, tokens, widths and classes as the others."""
    torch.manual_seed(0)
    four = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4))
    attach(four, FeedbackPath(["2"]), example=torch.randn(4, 4))
    options = {"batch_first": True, "dropout": 0.0}
    attention = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 4, **options), nn.Linear(4, 4))
    attach(attention, FeedbackPath(["0"]), example=torch.randn(4, 4, 4))
    towers = TwoTowers()
    attach(towers, FeedbackPath(["image.0"]), example=torch.randn(7, 5))


class Translator(nn.Module):
    """An encoder, a decoder, and something that is known of each word translated."""

    def __init__(self, batch_first):
        super().__init__()
        options = {"dropout": 0.0, "batch_first": batch_first}
        self.embed = nn.Embedding(9, 8)
        self.encoder = nn.Sequential(*[nn.TransformerEncoderLayer(8, 2, 16, **options) for _ in range(2)])
        self.decoder = nn.ModuleList([nn.TransformerDecoderLayer(8, 2, 16, **options) for _ in range(2)])
        self.of_known = nn.Linear(3, 8)
        self.head = nn.Linear(8, 9)

    def forward(self, source, target, known=None):
        if known is not None and known.min() < 0:
            raise ValueError("never below zero")
        memory, h = self.encoder(self.embed(source)), self.embed(target)
        for layer in self.decoder:
            h = layer(h, memory)
        return self.head(h if known is None else h + self.of_known(known))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("with_known", [True, False])
def test_an_encoder_as_long_as_its_decoder_is_told_apart_by_the_inputs(batch_first, with_known):
    torch.manual_seed(0)
    model, words = Translator(batch_first), torch.randint(9, (2, 5, 5))
    example = {"source": words[0], "target": words[1]} | ({"known": torch.rand(5, 5, 3)} if with_known else {})
    told = r"The rows of 'encoder.0', 'encoder.1' seem to belong to a different sequence .* at 'head'.*rows="
    with pytest.warns(UserWarning, match=told) as caught:
        attached = attach(model, FeedbackPath(["encoder.*", "decoder.*"], "head"), example=example)
    assert [warning.filename for warning in caught] == [__file__]
    attached.remove()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attach(model, FeedbackPath(["decoder.*"], "head"), example=example)


def test_rows_that_two_inputs_share_are_not_taken_for_others():
    """A feature that joins late, values of an attention, a mask, and a model that refuses other rows."""
    torch.manual_seed(0)

    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
            self.value, self.head = nn.Linear(8, 8), nn.Linear(11, 4)

        def forward(self, x, late, mask):
            if not mask.all():
                raise ValueError("all places, please")
            h = self.layer(x)
            h = nn.functional.scaled_dot_product_attention(h, h, self.value(h)) + h
            return self.head(torch.cat([h, late], dim=2))

    example = (torch.randn(2, 6, 8), torch.randn(2, 6, 3), torch.ones(2, 6, dtype=torch.bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attach(Late(), FeedbackPath(["layer", "value"], "head"), example=example)


# What cannot be right is refused.


@pytest.mark.skipif(torch.__version__ < "2.7", reason="PyTorch 2.6 does not say that it exports")
@pytest.mark.parametrize("rule", [DirectFeedback(1), FeedbackAlignment(1)])
def test_exporting_for_training_is_refused_and_works_while_paused_or_without_gradients(rule):
    model, x, _ = mlp_and_batch()
    expected = torch.autograd.grad(model(x).sum(), list(model.parameters()))
    attached = rule.attach(model, PATH, example=x)
    with pytest.raises(FeedbackError, match="no feedback, so the exported model could not be trained.*paused"):
        torch.export.export(model, (x,))
    with attached.paused():
        exported = torch.export.export(model, (x,)).module()
    with torch.no_grad():
        assert torch.equal(torch.export.export(model, (x,)).module()(x), exported(x))
    exported(x).sum().backward()
    for parameter, gradient in zip(exported.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("rule", [DirectFeedback(1), DirectFeedback(1, shared=False, rank=2)])
def test_an_attachment_can_be_saved_as_safetensors(rule, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    model, x, targets = mlp_and_batch()
    attached = rule.attach(model, PATH, example=x)
    safetensors.save_file(attached.state_dict(), tmp_path / "feedback.safetensors")
    other = copy.deepcopy(rule).attach(mlp_and_batch()[0], PATH)
    other.load_state_dict(safetensors.load_file(tmp_path / "feedback.safetensors"))
    squared_error(model(x), targets).backward()
    squared_error(other.model(x), targets).backward()
    assert torch.equal(attached.matrices[0], other.matrices[0])
    assert_same(gradients(other.model), gradients(model))
    former = {name: value for name, value in attached.state_dict().items() if "extra" not in name}
    other.load_state_dict({**former, "routes.0._extra_state": attached.routes[0].widths})  # as it was saved before
    assert torch.equal(attached.matrices[0], other.matrices[0])

"""Every row of the table of traps in DESIGN.md §1, and the ones found since."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dfa_bench.feedback import (
    DirectFeedback,
    FeedbackPath,
    PointChangedInPlace,
    PointNotReached,
    PointWithoutGradient,
    Shallow,
)
from tests.feedback.models import (
    Block,
    Mlp,
    assert_same,
    backward_per_block,
    chain_reference,
    gradients,
    mlp_and_batch,
    mlp_reference,
    squared_error,
)

PATH = FeedbackPath(["layers.*.activation"], error_at="head")


def attach(model, path=PATH, example=None, **options):
    return DirectFeedback(seed=1, **options).attach(model, path, example)


# What a forward that never reached the source has kept.


class Interrupted(Mlp):
    """Fails between its last point and its error source when told so."""

    fail = False

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        if self.fail:
            raise KeyboardInterrupt  # which no `except Exception` cleans up after
        return self.head(x)


def test_what_a_failed_forward_kept_does_not_flow_into_the_next_step():
    torch.manual_seed(0)
    model = Interrupted().double()
    bare, x, targets = copy.deepcopy(model), torch.randn(7, 5).double(), torch.randn(7, 3).double()
    attached = attach(model)
    model.fail = True
    with pytest.raises(KeyboardInterrupt):
        model(x + 1)
    model.fail = False
    squared_error(model(x), targets).backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(Block(5, 8), Block(8, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.encoder(x))


ENCODER_PATH = FeedbackPath(["encoder.?"], error_at="head")


@pytest.mark.parametrize("times", [1, 3])
def test_an_encoder_called_alone_does_not_flow_into_the_next_step(times):
    torch.manual_seed(0)
    model, x = EncoderDecoder().double(), torch.randn(7, 5).double()
    bare = copy.deepcopy(model)
    attached = attach(model, ENCODER_PATH)

    def step():
        for _ in range(times):
            model.encoder(x + 1)
        model(x).exp().sum().backward()

    with pytest.warns(UserWarning, match=r"'encoder.0' ran with gradients outside the forward of the model"):
        step()
    expected = chain_reference(bare, list(bare.encoder), bare.head, x, lambda a: a.exp().sum(), attached.matrices[0])
    assert_same(gradients(model), expected)


def test_encoder_and_head_called_apart_learn_as_one():
    torch.manual_seed(0)
    model, x = EncoderDecoder().double(), torch.randn(7, 5).double()
    bare = copy.deepcopy(model)
    attached = attach(model, ENCODER_PATH)
    for _ in range(2):
        model.zero_grad()
        model.head(model.encoder(x)).exp().sum().backward()
    expected = chain_reference(bare, list(bare.encoder), bare.head, x, lambda a: a.exp().sum(), attached.matrices[0])
    assert_same(gradients(model), expected)


def test_encoder_called_several_times_before_a_head_on_its_own_is_refused_once():
    torch.manual_seed(0)
    model, x = EncoderDecoder(), torch.randn(7, 5)
    attach(model, ENCODER_PATH)
    model.encoder(x)
    with pytest.raises(PointNotReached, match=r"'encoder.0' ran several times outside the forward of the model.*Call"):
        model.head(model.encoder(x))
    model.head(model.encoder(x)).sum().backward()
    assert model.encoder[0].linear.weight.grad is not None


def test_the_head_on_its_own_is_left_alone():
    model = EncoderDecoder()
    attach(model, ENCODER_PATH, example=torch.zeros(2, 5))
    features = torch.randn(7, 6, requires_grad=True)
    model.head(features).sum().backward()
    torch.testing.assert_close(features.grad, model.head.weight.sum(0).expand(7, 6))


# Checkpointing.


class Checkpointed(nn.Module):
    """Blocks under activation checkpointing; `whole` puts the head into it too."""

    def __init__(self, use_reentrant: bool, point_inside: bool = False) -> None:
        super().__init__()
        self.use_reentrant = use_reentrant
        after = Block(8, 8) if point_inside else nn.Identity()
        self.blocks = nn.ModuleList([nn.Sequential(Block(5, 8), after), nn.Sequential(Block(8, 8), nn.Dropout(0.5))])
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.use_reentrant)
        return self.head(x)


@pytest.mark.parametrize("point_inside", [False, True])
def test_recomputation_by_checkpointing_keeps_nothing_and_gradients_stay_right(point_inside):
    torch.manual_seed(0)
    model, x = Checkpointed(use_reentrant=False, point_inside=point_inside).double(), torch.randn(7, 5).double()
    bare = copy.deepcopy(model)
    attached = attach(model, FeedbackPath(["blocks.?.0.activation"], error_at="head"), example=x)
    for _ in range(2):
        model.zero_grad()
        torch.manual_seed(2)
        model(x).exp().sum().backward()

    torch.manual_seed(2)
    first = bare.blocks[0][0](x)
    second = bare.blocks[1][0](bare.blocks[0][1](first.detach()))
    output = bare.head(bare.blocks[1][1](second.detach()))
    backward_per_block(output.exp().sum(), output, [first, second], attached.matrices[0])
    assert_same(gradients(model), gradients(bare))


class WholeInCheckpoint(nn.Module):
    def __init__(self, use_reentrant: bool) -> None:
        super().__init__()
        self.mlp, self.use_reentrant = Mlp(), use_reentrant

    def forward(self, x):
        return checkpoint(self.mlp, x, use_reentrant=self.use_reentrant)


WHOLE_PATH = FeedbackPath(["mlp.layers.*.activation"], error_at="mlp.head")


def test_points_and_source_within_one_checkpoint():
    torch.manual_seed(0)
    model = WholeInCheckpoint(use_reentrant=False).double()
    x, targets = torch.randn(7, 5).double(), torch.randn(7, 3).double()
    bare = copy.deepcopy(model.mlp)
    attached = attach(model, WHOLE_PATH)
    squared_error(model(x), targets).backward()
    assert_same(gradients(model.mlp), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_a_model_checkpointed_as_a_whole():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model)
    squared_error(checkpoint(model, x, use_reentrant=False), targets).backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_evaluation_between_a_checkpointed_forward_and_its_backward():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model)
    loss = squared_error(checkpoint(model, x, use_reentrant=False), targets)
    with torch.no_grad():
        model(x + 1)
    loss.backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_reentrant_checkpointing_of_a_block_is_refused():
    x = torch.randn(7, 5, requires_grad=True)
    for point in ("blocks.*.0.activation", "blocks.?"):
        model = Checkpointed(use_reentrant=True)
        with pytest.raises(PointWithoutGradient, match=r"'blocks.0.*use_reentrant=False"):
            attach(model, FeedbackPath([point], error_at="head"), example=x)


def test_reentrant_checkpointing_of_a_whole_path_is_refused():
    x = torch.randn(7, 5, requires_grad=True)
    with pytest.raises(PointWithoutGradient, match=r"'mlp.layers.0.activation'.*use_reentrant=False"):
        attach(WholeInCheckpoint(use_reentrant=True), WHOLE_PATH, example=x)


def test_reentrant_checkpointing_of_a_whole_model_is_refused():
    model, x = Mlp(), torch.randn(7, 5, requires_grad=True)
    attach(model, example=x)
    output = checkpoint(model, x, use_reentrant=True)
    with pytest.raises(PointWithoutGradient, match=r"'layers.0.activation'.*use_reentrant=False"):
        output.sum().backward()


def test_reentrant_checkpointing_of_an_encoder_without_its_models_forward_is_refused():
    model, x = EncoderDecoder(), torch.randn(7, 5, requires_grad=True)
    attach(model, ENCODER_PATH, example=x)
    output = model.head(checkpoint(model.encoder, x, use_reentrant=True))
    with pytest.raises(PointWithoutGradient, match=r"'encoder.0'.*use_reentrant=False"):
        output.sum().backward()


def test_a_point_under_no_grad_in_a_training_forward_is_refused():
    class PartlyFixed(EncoderDecoder):
        def forward(self, x):
            with torch.no_grad():
                x = self.encoder[0](x)
            return self.head(self.encoder[1](x))

    with pytest.raises(PointWithoutGradient, match=r"'encoder.0'.*torch.no_grad\(\), take it out"):
        attach(PartlyFixed(), ENCODER_PATH, example=torch.zeros(2, 5))


def test_a_path_under_no_grad_in_a_training_forward_is_refused():
    class Fixed(WholeInCheckpoint):
        def forward(self, x):
            with torch.no_grad():
                return self.mlp(x)

    with pytest.raises(PointWithoutGradient, match=r"'mlp.layers.0.activation'"):
        attach(Fixed(False), WHOLE_PATH, example=torch.zeros(2, 5))


# Skip connections.


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(5, 6)
        self.branches = nn.ModuleList(Block(6, 6) for _ in range(2))
        self.sums = nn.ModuleList(nn.Identity() for _ in range(2))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.embedding(x)
        for branch, add in zip(self.branches, self.sums, strict=True):
            x = add(x + branch(x))
        return self.head(x)


def test_a_point_on_a_residual_branch_is_described_and_warned_of():
    attached = attach(Residual(), FeedbackPath(["branches.?"], error_at="head"), example=torch.zeros(2, 5))
    with pytest.warns(UserWarning, match=r"2 parameters learn from a point and by BP.*embedding.weight.*after the sum"):
        description = attached.describe()
    assert description.learns_from["embedding.weight"] == ("BP", "branches.0", "branches.1")
    assert description.learns_from["branches.0.linear.weight"] == ("branches.0", "branches.1")[:1]
    assert description.learns_from["head.bias"] == ("BP",)
    assert description.both == ["embedding.weight", "embedding.bias"]


def test_a_point_at_the_identity_after_the_sum_catches_everything():
    torch.manual_seed(0)
    model, x = Residual().double(), torch.randn(7, 5).double()
    bare = copy.deepcopy(model)
    attached = attach(model, FeedbackPath(["sums.*"], error_at="head"), example=x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        description = attached.describe()
    assert description.both == []
    assert description.learns_from["embedding.weight"] == ("sums.0",)
    assert description.learns_from["branches.1.linear.weight"] == ("sums.1",)
    model(x).exp().sum().backward()

    def first(x):
        h = bare.embedding(x)
        return h + bare.branches[0](h)

    blocks = [first, lambda h: h + bare.branches[1](h)]
    assert_same(
        gradients(model), chain_reference(bare, blocks, bare.head, x, lambda a: a.exp().sum(), attached.matrices[0])
    )


def test_the_description_reads_as_sentences_and_labels_every_parameter():
    model = Mlp()
    model.extra = nn.Linear(2, 2)
    attached = attach(model, FeedbackPath(["layers.*.activation"], "head", cuts=[]), example=torch.zeros(2, 5))
    lines = [" ".join(line.split()) for line in str(attached.describe()).splitlines()]
    assert "layers.1.linear.bias learns from 'layers.1.activation'" in lines
    assert "head.weight learns by BP" in lines
    assert "extra.weight does not learn" in lines
    assert len(lines) == len(list(model.parameters()))


def test_tied_weights_below_and_above_the_points_are_described_as_both():
    model = Mlp((4, 4, 4, 4))
    model.head.weight = model.layers[0].linear.weight
    attached = attach(model, example=torch.zeros(2, 4))
    with pytest.warns(UserWarning, match=r"1 parameters learn.*layers.0.linear.weight.*tied weight"):
        description = attached.describe()
    assert description.learns_from["layers.0.linear.weight"] == ("BP", "layers.0.activation")
    assert "layers.0.linear.weight learns from 'layers.0.activation' and by BP" in " ".join(str(description).split())


def test_a_cut_is_described_as_not_learning():
    attached = Shallow().attach(Mlp(), FeedbackPath(["layers.1.activation"]), example=torch.zeros(2, 5))
    learns_from = attached.describe().learns_from
    assert learns_from["layers.0.linear.weight"] == () == learns_from["layers.1.linear.bias"]
    assert learns_from["head.weight"] == ("BP",)


# Shallow and cuts.


def test_shallow_leaves_no_gradient_below_the_points_so_that_weight_decay_moves_nothing():
    model, x, targets = mlp_and_batch()
    before = copy.deepcopy(model.state_dict())
    Shallow().attach(model, PATH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    squared_error(model(x), targets).backward()
    optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("layers")


def test_a_cut_hands_its_value_on_and_nothing_back():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)).double()
    bare, x = copy.deepcopy(model), torch.randn(7, 5).double()
    attached = attach(model, FeedbackPath(["1"], cuts=["0"]))
    model(x).exp().sum().backward()
    point = bare[1](bare[0](x).detach())
    output = bare[2](point.detach())
    backward_per_block(output.exp().sum(), output, [point], attached.matrices[0])
    assert_same(gradients(model), gradients(bare))
    assert model[0].weight.grad is None


# The error source.


class InPlaceAbove(Mlp):
    def forward(self, x):
        return super().forward(x).mul_(2).relu_()


def test_in_place_arithmetic_on_the_error_sources_output():
    torch.manual_seed(0)
    model, x = InPlaceAbove().double(), torch.randn(7, 5).double()
    bare = copy.deepcopy(model)
    attached = attach(model)
    model(x).exp().sum().backward()
    loss = lambda a: (a * 2).relu().exp().sum()  # noqa: E731
    expected = chain_reference(bare, list(bare.layers), bare.head, x, loss, attached.matrices[0])
    assert_same(gradients(model), expected)


def test_a_point_directly_at_the_source_gets_the_projected_error_of_itself():
    torch.manual_seed(0)
    model, x = nn.Sequential(Block(5, 6), Block(6, 4), nn.Linear(4, 3)).double(), torch.randn(7, 5).double()
    bare = copy.deepcopy(model)
    attached = attach(model, FeedbackPath(["0", "1"], error_at="1"))
    model(x).exp().sum().backward()
    points = [bare[0](x)]
    points.append(bare[1](points[0].detach()))
    at_source = points[1].detach().requires_grad_()
    backward_per_block(bare[2](at_source).exp().sum(), at_source, points, attached.matrices[0])
    assert_same(gradients(model), gradients(bare))
    assert attached.matrices[0].shape == (4, 6)


# In-place changes of kept activations: equal to the out-of-place model's, or an error.


class InPlace(nn.Module):
    """`change` is what the forward does with the point's output before the head."""

    def __init__(self, point: nn.Module, change) -> None:
        super().__init__()
        self.body, self.point, self.skip = nn.Linear(5, 6), point, nn.Linear(5, 6)
        self.head = nn.Linear(6, 3)
        self.change = change

    def forward(self, x):
        a = self.body(x)
        return self.head(self.change(self, x, a, self.point(a)))


def _relu(model, x, a, h):
    return h.relu_()


def _add(model, x, a, h):
    h += model.skip(x)
    return h


def _change_input(model, x, a, h):
    a += model.skip(x)  # of an nn.Identity: the same tensor as the point's output
    return h


def _skip_of_changed(model, x, a, h):
    h.relu_()
    return h + a


def _part(model, x, a, h):
    h[:, :2] *= model.skip(x)[:, :2]
    return h


CHANGES = {
    _relu: lambda model, x, a, h: h.relu(),
    _add: lambda model, x, a, h: h + model.skip(x),
    _part: lambda model, x, a, h: torch.cat([h[:, :2] * model.skip(x)[:, :2], h[:, 2:]], 1),
}
POINTS = {
    "linear": lambda: nn.Linear(6, 6),
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(inplace=True),
    "tanh": nn.Tanh,
    "norm": lambda: nn.LayerNorm(6),
    "identity": nn.Identity,
    "view": lambda: nn.Flatten(),
}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_in_place_change_after_a_point_equals_the_out_of_place_model_or_is_refused(point, change):
    def learn(change):
        torch.manual_seed(0)
        model = InPlace(POINTS[point](), change).double()
        attach(model, FeedbackPath(["point"], error_at="head"))
        model(torch.randn(7, 5).double()).exp().sum().backward()
        return gradients(model)

    overwritten = (
        "modified by an inplace operation"  # autograd's own error, where the point's backward needs its output
    )
    refusals = {"identity": "inplace=False", "view": "inplace=False", "leaky": "inplace=False", "tanh": overwritten}
    refusals |= {"relu": overwritten}
    if point in refusals:
        with pytest.raises((PointChangedInPlace, RuntimeError), match=refusals[point]):
            learn(change)
    else:
        assert_same(learn(change), learn(CHANGES[change]))


@pytest.mark.parametrize("change", [_change_input, _skip_of_changed])
@pytest.mark.parametrize("point", ["identity", "view"])
def test_an_in_place_change_that_falsifies_gradients_is_refused(point, change):
    model = InPlace(POINTS[point](), change)
    with pytest.raises(PointChangedInPlace, match=r"'point' was changed in place.*inplace=False"):
        attach(model, FeedbackPath(["point"], error_at="head"), example=torch.randn(7, 5))


def test_an_in_place_change_of_a_point_output_that_the_model_has_stored_is_refused():
    class Storing(nn.Linear):
        def forward(self, x):
            self.stored = super().forward(x)
            return self.stored

    def change(model, x, a, h):
        model.point.stored += model.skip(x)
        return h

    with pytest.raises(PointChangedInPlace, match=r"'point' was changed in place"):
        attach(InPlace(Storing(6, 6), change), FeedbackPath(["point"], error_at="head"), example=torch.randn(7, 5))


def test_in_place_activations_as_points_are_fine():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace=True), nn.Linear(6, 6), nn.ReLU(inplace=True))
    model = nn.Sequential(*model, nn.Linear(6, 3)).double()
    bare, x = copy.deepcopy(model), torch.randn(7, 5).double()
    attached = attach(model, FeedbackPath(["1", "3"]))
    model(x).exp().sum().backward()
    expected = chain_reference(bare, [bare[:2], bare[2:4]], bare[4], x, lambda a: a.exp().sum(), attached.matrices[0])
    assert_same(gradients(model), expected)

"""Any architecture: gradients equal per-block autograd with the projected error at the end of each block."""

import copy

import pytest
import torch
from torch import nn
from torch_geometric.nn import GCNConv

from dfa_bench.feedback import DirectFeedback, FeedbackPath, NotATensor, PointNotReached
from tests.feedback.models import (
    assert_same,
    backward_per_block,
    chain_reference,
    feedback,
    gradients,
    mlp_and_batch,
    mlp_reference,
    squared_error,
)


def attach(model, *paths, **options):
    return DirectFeedback(seed=1, **options).attach(model, paths)


def test_convolutions_with_batch_norm_and_pooling():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(24, 3)),
    ).double()
    bare, inputs = copy.deepcopy(model), torch.randn(5, 2, 9, 9).double()
    attached = attach(model, FeedbackPath(["0", "1"], error_at="2"))
    model(inputs).exp().sum().backward()
    expected = chain_reference(bare, [bare[0], bare[1]], bare[2], inputs, lambda a: a.exp().sum(), attached.matrices[0])
    assert_same(gradients(model), expected)
    torch.testing.assert_close(dict(model.named_buffers()), dict(bare.named_buffers()))
    assert attached.matrices[0].shape == (3, 4 * 9 * 9)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.attention = nn.ModuleList(nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(2))
        self.sums = nn.ModuleList(nn.Identity() for _ in range(2))
        self.head = nn.Linear(8, 11)

    def block(self, number, h):
        attention, _ = self.attention[number](h, h, h, need_weights=False)
        return self.sums[number](self.norms[number](h + attention))

    def forward(self, tokens):
        h = self.embedding(tokens)
        for number in range(2):
            h = self.block(number, h)
        return self.head(h)


def test_attention_with_points_after_the_residual_sums_has_an_error_per_token():
    torch.manual_seed(0)
    model, tokens = Transformer().double(), torch.randint(11, (3, 5))
    bare = copy.deepcopy(model)
    attached = attach(model, FeedbackPath(["sums.*"], error_at="head"))
    squared_error(model(tokens), 1).backward()
    blocks = [lambda t: bare.block(0, bare.embedding(t)), lambda h: bare.block(1, h)]
    loss = lambda a: squared_error(a, 1)  # noqa: E731
    assert_same(gradients(model), chain_reference(bare, blocks, bare.head, tokens, loss, attached.matrices[0], axes=2))
    assert attached.describe().both == []


def test_attention_with_its_tuple_output_as_the_point():
    torch.manual_seed(0)
    model, tokens = Transformer().double(), torch.randint(11, (3, 5))
    bare = copy.deepcopy(model)
    with pytest.raises(NotATensor, match=r"'attention.0' returns a tuple.*first_of_tuple=True"):
        DirectFeedback().attach(model, FeedbackPath(["attention.*"], error_at="head"), example=tokens)
    attached = attach(model, FeedbackPath(["attention.?"], error_at="head", first_of_tuple=True))
    squared_error(model(tokens), 1).backward()

    h = bare.embedding(tokens)  # its gradient comes over the skip connections, by BP
    points = []
    for number in range(2):
        points.append(bare.attention[number](h, h, h, need_weights=False)[0])
        h = bare.norms[number](h + points[-1].detach())
    output = bare.head(h)
    backward_per_block(squared_error(output, 1), output, points, attached.matrices[0], axes=2)
    assert_same(gradients(model), gradients(bare))


def test_a_projection_that_attention_uses_without_calling_it_is_refused():
    model = Transformer()
    with pytest.raises(PointNotReached, match=r"'attention.0.out_proj'.*calls the module itself"):
        DirectFeedback().attach(model, FeedbackPath(["**.out_proj"], "head"), example=torch.randint(11, (3, 5)))


class GraphNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = GCNConv(4, 9), GCNConv(9, 7), GCNConv(7, 3)

    def forward(self, x, edges):
        return self.head(self.second(self.first(x, edges).relu(), edges).relu(), edges)


def test_graph_convolutions_have_an_error_per_node():
    torch.manual_seed(0)
    model, x, edges = GraphNetwork().double(), torch.randn(12, 4).double(), torch.randint(12, (2, 40))
    bare = copy.deepcopy(model)
    attached = attach(model, FeedbackPath(["first", "second"], error_at="head"), shared=False)
    loss = lambda a: a.log_softmax(-1)[:5, 1].sum()  # noqa: E731  (of five nodes, as with a training mask)
    loss(model(x, edges)).backward()

    first = bare.first(x, edges)
    second = bare.second(first.detach().relu(), edges)
    output = bare.head(second.detach().relu(), edges)
    (error,) = torch.autograd.grad(loss(output), output, retain_graph=True)
    (matrix,) = attached.matrices  # two blocks, side by side
    projected = [feedback(error, matrix[:, :9], first), feedback(error, matrix[:, 9:], second)]
    torch.autograd.backward([loss(output), first, second], [None, *projected])
    assert_same(gradients(model), gradients(bare))


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
        self.right = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
        self.head = nn.Linear(11, 2)

    def forward(self, x):
        return self.head(torch.cat([self.left(x), self.right(x)], dim=-1))


def test_parallel_branches_each_get_their_feedback():
    torch.manual_seed(0)
    model, x = Branches().double(), torch.randn(7, 4).double()
    bare = copy.deepcopy(model)
    attached = attach(model, FeedbackPath(["left", "right"], error_at="head"))
    model(x).exp().sum().backward()
    points = [bare.left(x), bare.right(x)]
    output = bare.head(torch.cat([point.detach() for point in points], dim=-1))
    backward_per_block(output.exp().sum(), output, points, attached.matrices[0])
    assert_same(gradients(model), gradients(bare))


class Twice(nn.Module):
    """A recurrent model: one cell, called once per step, its parameters used each time."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, h, steps=3):
        for _ in range(steps):
            h = self.cell(h).tanh()
        return self.head(h)


def test_a_module_called_several_times_is_one_point_per_call():
    torch.manual_seed(0)
    model, h = Twice().double(), torch.randn(7, 6).double()
    bare = copy.deepcopy(model)
    attached = attach(model, FeedbackPath(["cell"], error_at="head"))
    model(h).exp().sum().backward()
    blocks = [bare.cell, lambda a: bare.cell(a.tanh()), lambda a: bare.cell(a.tanh())]
    head = lambda a: bare.head(a.tanh())  # noqa: E731
    assert_same(gradients(model), chain_reference(bare, blocks, head, h, lambda a: a.exp().sum(), attached.matrices[0]))


class EachStep(Twice):
    """The error source runs at every step too, as in a recurrent language model."""

    def forward(self, h, steps=3):
        outputs = []
        for _ in range(steps):
            h = self.cell(h).tanh()
            outputs.append(self.head(h))
        return torch.stack(outputs)


def test_a_source_called_after_every_step_sends_each_error_to_the_points_of_its_step():
    torch.manual_seed(0)
    model, h = EachStep().double(), torch.randn(7, 6).double()
    bare = copy.deepcopy(model)
    attached = attach(model, FeedbackPath(["cell"], error_at="head"))
    model(h).exp().sum().backward()
    for _ in range(3):
        point = bare.cell(h)
        h = point.detach().tanh()
        output = bare.head(h)
        backward_per_block(output.exp().sum(), output, [point], attached.matrices[0])
    assert_same(gradients(model), gradients(bare))


class CoarseAndFine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.coarse = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        self.fine = nn.Sequential(nn.Linear(7, 10), nn.ReLU(), nn.Linear(10, 3))

    def forward(self, x):
        coarse = torch.cat([self.coarse(chunk) for chunk in x.split(3)])  # in chunks, as a renderer does
        return coarse, self.fine(torch.cat([x, coarse], dim=-1))


def test_two_paths_do_not_mix_and_chunks_are_kept_apart():
    torch.manual_seed(0)
    model, x = CoarseAndFine().double(), torch.randn(7, 4).double()
    bare = copy.deepcopy(model)
    attached = attach(model, FeedbackPath(["coarse.1"], "coarse.2"), FeedbackPath(["fine.1"], "fine.2"))
    coarse, fine = model(x)
    (coarse.exp().sum() + fine.square().sum()).backward()

    points = [bare.coarse[:2](x)]
    coarse = bare.coarse[2](points[0].detach())
    points.append(bare.fine[:2](torch.cat([x, coarse], dim=-1)))  # BP into coarse, below the point of fine
    fine = bare.fine[2](points[1].detach())
    (fine_error,) = torch.autograd.grad(fine.square().sum(), fine, retain_graph=True)
    at_fine = feedback(fine_error, attached.matrices[1], points[1])
    (from_fine,) = torch.autograd.grad(points[1], coarse, at_fine, retain_graph=True)
    coarse_error = coarse.detach().exp() + from_fine
    at_coarse = feedback(coarse_error, attached.matrices[0], points[0])
    torch.autograd.backward([coarse, points[0]], [coarse_error, at_coarse], retain_graph=True)
    torch.autograd.backward([fine], [2 * fine.detach()], retain_graph=True)
    torch.autograd.backward([points[1]], [at_fine], inputs=list(bare.fine.parameters()))
    assert_same(gradients(model), gradients(bare))
    assert not torch.equal(attached.matrices[0][:, :8], attached.matrices[1][:, :8])


def test_a_path_below_another_one_gets_its_error_from_the_feedback_above():
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(5, 5) for _ in range(4))).double()
    bare, x = copy.deepcopy(model), torch.randn(6, 5).double()
    attached = attach(model, FeedbackPath(["0"], error_at="1"), FeedbackPath(["2"], error_at="3"))
    model(x).exp().sum().backward()

    low = bare[0](x)
    middle = bare[1](low.detach())
    high = bare[2](middle)
    output = bare[3](high.detach())
    at_high = feedback(output.detach().exp(), attached.matrices[1], high)
    (error,) = torch.autograd.grad(high, middle, at_high, retain_graph=True)
    torch.autograd.backward(
        [output, high, low], [output.detach().exp(), at_high, feedback(error, attached.matrices[0], low)]
    )
    assert_same(gradients(model), gradients(bare))


def test_inputs_learn_from_the_first_point():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    x.requires_grad_()
    attached = attach(model, FeedbackPath(["layers.*.activation"], error_at="head"))
    squared_error(model(x), targets).backward()
    received, x.grad = x.grad, None
    mlp_reference(bare, x, targets, attached.matrices[0])
    torch.testing.assert_close(received, x.grad, atol=1e-10, rtol=0)


def test_a_point_feeds_all_of_the_block_below_it_and_modules_above_the_source_learn_by_bp():
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(5, 5), nn.Tanh()) for _ in range(5))).double()
    bare, x = copy.deepcopy(model), torch.randn(6, 5).double()
    attached = attach(model, FeedbackPath(["1"], error_at="3"))
    model(x).exp().sum().backward()
    point = bare[1](bare[0](x))  # two modules: ordinary derivatives between them
    at_source = bare[3](bare[2](point.detach()))
    backward_per_block(bare[4](at_source).exp().sum(), at_source, [point], attached.matrices[0])
    assert_same(gradients(model), gradients(bare))


def test_an_error_with_several_axes_is_flattened_where_batch_axes_say_so():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Conv1d(4, 3, 3)).double()
    bare, x = copy.deepcopy(model), torch.randn(5, 2, 10).double()
    attached = attach(model, FeedbackPath(["1"], batch_axes=1))
    model(x).exp().sum().backward()
    assert attached.matrices[0].shape == (3 * 6, 4 * 8)
    expected = chain_reference(bare, [bare[:2]], bare[2], x, lambda a: a.exp().sum(), attached.matrices[0])
    assert_same(gradients(model), expected)


@pytest.mark.parametrize("rows", [0, 1])
def test_batches_of_no_or_one_row_work(rows):
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = DirectFeedback().attach(model, FeedbackPath(["layers.*.activation"], error_at="head"), example=x)
    squared_error(model(x[:rows]), targets[:rows]).backward()
    assert_same(gradients(model), mlp_reference(bare, x[:rows], targets[:rows], attached.matrices[0]))


class Container(nn.Module):
    """Has a forward, but the model around it calls its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.second(self.first(x)))


class Bypassing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = Container()

    def forward(self, x):
        return self.parts.head(self.parts.second(self.parts.first(x)))


@pytest.mark.parametrize("cuts", [[], ["parts.first"]])
def test_a_container_whose_parts_are_called_past_its_forward(cuts):
    torch.manual_seed(0)
    model, x = Bypassing().double(), torch.randn(7, 5).double()
    bare = copy.deepcopy(model.parts)
    path = FeedbackPath(["parts.second"] if cuts else ["parts.first", "parts.second"], "parts.head", cuts)
    attached = attach(model, path)
    for _ in range(2):
        model.zero_grad()
        model(x).exp().sum().backward()
    expected = chain_reference(
        bare, [bare.first, bare.second], bare.head, x, lambda a: a.exp().sum(), attached.matrices[0]
    )
    if cuts:
        expected |= {"first.weight": None, "first.bias": None}
    assert_same(gradients(model.parts), expected)


@pytest.mark.parametrize("container", [nn.ModuleList, lambda modules: nn.ModuleDict(zip("abc", modules, strict=True))])
def test_points_and_source_within_one_list_or_dict_of_modules(container):
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = container([nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)])

        def forward(self, x):
            for part in self.parts.values() if hasattr(self.parts, "values") else self.parts:
                x = part(x)
            return x

    torch.manual_seed(0)
    model, x = Listed().double(), torch.randn(7, 5).double()
    bare = copy.deepcopy(model)
    first, second, head = [name for name, _ in model.named_modules() if name.count(".")]
    attached = attach(model, FeedbackPath([first, second], error_at=head))
    model(x).exp().sum().backward()
    modules = [bare.get_submodule(name) for name in (first, second, head)]
    loss = lambda a: a.exp().sum()  # noqa: E731
    assert_same(gradients(model), chain_reference(bare, modules[:2], modules[2], x, loss, attached.matrices[0]))

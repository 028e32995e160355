"""torch.compile: one graph, no breaks, no recompilation, and gradients as without it."""

import copy
import shutil

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dfa_bench.feedback import DirectFeedback, FeedbackPath, MatrixNotDrawn, PointNotReached, Shallow
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


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def attach(model, path=PATH, example=None):
    return DirectFeedback(seed=1).attach(model, path, example)


def compiled(model, backend="aot_eager"):
    return torch.compile(model, fullgraph=True, backend=backend)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_gradients_are_right_with_no_break_and_no_recompilation(backend):
    if backend == "inductor" and not shutil.which("g++"):
        pytest.skip("inductor needs a C++ compiler, and g++ is not here")
    model, x, targets = mlp_and_batch(widths=(5, 8, 6, 3) if backend == "aot_eager" else (5, 6, 3))
    bare = copy.deepcopy(model)
    attached = attach(model, example=x)
    assert torch._dynamo.explain(model)(x).graph_break_count == 0
    torch.compiler.reset()
    fast = compiled(model, backend)
    expected = mlp_reference(bare, x, targets, attached.matrices[0])
    squared_error(fast(x), targets).backward()
    assert_same(gradients(model), expected)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(3):
            model.zero_grad()
            squared_error(fast(x), targets).backward()
            assert_same(gradients(model), expected)


def test_a_compiled_training_step_of_forward_and_loss():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model, example=x)
    compiled(lambda x, targets: squared_error(model(x), targets))(x, targets).backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_any_number_of_points_is_one_graph_though_breaks_are_allowed():
    """More points than PyTorch compiles one function for (8): hooks are part of the graph, not frames of their own."""
    torch.manual_seed(0)
    layers = [layer for _ in range(12) for layer in (nn.Linear(5, 5), nn.Tanh())]
    model, x, targets = nn.Sequential(*layers, nn.Linear(5, 3)).double(), torch.randn(7, 5).double(), torch.randn(7, 3)
    path = FeedbackPath([str(number) for number in range(1, 24, 2)])
    attach(model, path, example=x)

    def step(x, targets):
        return squared_error(model(x), targets)

    step(x, targets).backward()
    expected = copy.deepcopy(gradients(model))
    torch._dynamo.utils.counters.clear()
    fast = torch.compile(step, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(2):
            model.zero_grad()
            fast(x, targets).backward()
            assert_same(gradients(model), expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_attaching_after_the_model_has_run_compiled_takes_effect_and_removing_too():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    fast = compiled(model)

    def learn():
        model.zero_grad()
        squared_error(fast(x), targets).backward()
        return gradients(model)

    squared_error(bare(x), targets).backward()
    by_backprop = copy.deepcopy(gradients(bare))
    assert_same(learn(), by_backprop)
    attached = attach(model, example=x)
    assert_same(learn(), mlp_reference(copy.deepcopy(bare), x, targets, attached.matrices[0]))
    attached.remove()
    assert_same(learn(), by_backprop)


def test_attaching_to_the_compiled_wrapper_is_attaching_to_the_model():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    fast = compiled(model)
    fast(x)
    attached = attach(fast, FeedbackPath(["_orig_mod.layers.*.activation"], error_at="_orig_mod.head"), example=x)
    squared_error(fast(x), targets).backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))
    assert attached.describe().learns_from["head.weight"] == ("BP",)


def test_blocks_compiled_one_by_one():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    for number, layer in enumerate(model.layers):
        model.layers[number] = compiled(layer)
    model.head.compile(backend="aot_eager", fullgraph=True)
    attached = attach(model, example=x)
    for _ in range(2):
        model.zero_grad()
        squared_error(model(x), targets).backward()
        found = {name.replace("_orig_mod.", ""): gradient for name, gradient in gradients(model).items()}
        assert_same(found, mlp_reference(bare, x, targets, attached.matrices[0]))


def test_the_first_forward_may_be_eager_instead_of_an_example():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model)
    model(x)
    squared_error(compiled(model)(x), targets).backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_a_matrix_not_drawn_before_compilation_is_an_error_that_says_so():
    model, x, _ = mlp_and_batch()
    attach(model)
    with pytest.raises(Exception, match=r"cannot be drawn inside a compiled forward.*example") as caught:
        compiled(model)(x)
    assert isinstance(caught.value, MatrixNotDrawn) or "MatrixNotDrawn" in str(caught.value)


@pytest.mark.skipif(torch.__version__ < "2.7", reason="PyTorch 2.6 does not break there")
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")
def test_a_matrix_not_drawn_is_drawn_by_a_compiled_forward_that_may_break():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model)
    fast = torch.compile(model, backend="aot_eager")
    for _ in range(2):
        model.zero_grad()
        squared_error(fast(x), targets).backward()
        assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_a_failed_compiled_forward_does_not_flow_into_the_next_step():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model, example=x)
    fast = compiled(model)
    with pytest.raises(Exception, match=r"mat1|shape|size"):
        fast(x[:, :2])
    squared_error(fast(x), targets).backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_compiled_evaluation_is_as_the_bare_models():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model, example=x)
    fast = compiled(model)
    loss = squared_error(fast(x), targets)
    with torch.no_grad():
        assert torch.equal(fast(x), bare(x))
    loss.backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_compiled_forwards_of_several_shapes_are_kept_apart():
    model, x, targets = mlp_and_batch(rows=12)
    bare = copy.deepcopy(model)
    attached = attach(model, example=x)
    fast = compiled(model)
    losses = [squared_error(fast(a), b) for a, b in zip(x.split([3, 4, 5]), targets.split([3, 4, 5]), strict=True)]
    sum(losses).backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


class TwoPaths(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.coarse = nn.Sequential(Block(4, 8), nn.Linear(8, 3))
        self.fine = nn.Sequential(Block(4, 6), nn.Linear(6, 3))

    def forward(self, x):
        return self.coarse(x), self.fine(x)


def test_two_paths_compile():
    torch.manual_seed(0)
    model, x = TwoPaths().double(), torch.randn(5, 4).double()
    paths = [FeedbackPath(["coarse.0"], "coarse.1"), FeedbackPath(["fine.0"], "fine.1")]
    bare = copy.deepcopy(model)
    attached = DirectFeedback(seed=1).attach(model, paths, example=x)
    coarse, fine = compiled(model)(x)
    (coarse.exp().sum() + fine.square().sum()).backward()
    losses = [lambda a: a.exp().sum(), lambda a: a.square().sum()]
    for part, loss, matrix in zip((bare.coarse, bare.fine), losses, attached.matrices, strict=True):
        point = part[0](x)
        output = part[1](point.detach())
        backward_per_block(loss(output), output, [point], matrix)
    assert_same(gradients(model), gradients(bare))


class Checkpointed(Mlp):
    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return self.head(x)


@pytest.mark.skipif(
    not hasattr(torch._dynamo.config, "skip_fwd_side_effects_in_bwd_under_checkpoint"),
    reason="this PyTorch does not compile checkpointed modules that keep something",
)
@pytest.mark.parametrize("fullgraph", [False, True])
def test_checkpointed_points_compile(fullgraph):
    torch.manual_seed(0)
    model, x = Checkpointed().double(), torch.randn(7, 5).double()
    bare = copy.deepcopy(model)
    attached = attach(model, example=x)
    # PyTorch asks leave to keep activations once and not again in the recomputation, which is what we want.
    with torch._dynamo.config.patch(skip_fwd_side_effects_in_bwd_under_checkpoint=fullgraph):
        fast = torch.compile(model, fullgraph=fullgraph, backend="aot_eager")
        for _ in range(2):
            model.zero_grad()
            fast(x).exp().sum().backward()
    expected = chain_reference(bare, list(bare.layers), bare.head, x, lambda a: a.exp().sum(), attached.matrices[0])
    assert_same(gradients(model), expected)


def test_shallow_compiles_and_leaves_no_gradient_below():
    model, x, targets = mlp_and_batch()
    Shallow().attach(model, PATH)
    squared_error(compiled(model)(x), targets).backward()
    learning = {name for name, gradient in gradients(model).items() if gradient is not None}
    assert learning == {"head.weight", "head.bias"}


def test_a_point_not_reached_is_named_when_compiled_too():
    class Skipping(Mlp):
        def forward(self, x, every=True):
            h = self.layers[0](x)
            return self.head(self.layers[1](h) if every else h[:, :6])

    torch.manual_seed(0)
    model, x = Skipping(), torch.randn(7, 5)
    attach(model, example=x)
    with pytest.raises(Exception, match=r"'layers.1.activation'") as caught:
        compiled(model)(x, every=False)
    assert isinstance(caught.value, PointNotReached) or "PointNotReached" in str(caught.value)


@pytest.mark.skipif(torch.__version__ < "2.7", reason="PyTorch 2.6 compiles a block again where inputs need gradients")
def test_blocks_compiled_one_by_one_share_their_code():
    """However many there are: more than PyTorch compiles one function for (8)."""
    graphs = []
    for depth in (3, 10):
        torch.compiler.reset()
        torch.manual_seed(0)
        model = Mlp([5] * (depth + 1) + [3]).double()
        x, targets = torch.randn(7, 5).double(), torch.randn(7, 3).double()
        bare = copy.deepcopy(model)
        attached = attach(model, FeedbackPath(["layers.*"], error_at="head"), example=x)
        for layer in model.layers:
            layer.compile(backend="eager", fullgraph=True)
        torch._dynamo.utils.counters.clear()
        for _ in range(2):
            model.zero_grad()
            squared_error(model(x), targets).backward()
            assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1]

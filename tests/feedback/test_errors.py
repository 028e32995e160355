"""Every mistake has an error that names the module and the way out."""

import copy

import pytest
import torch
from torch import nn

from dfa_bench.feedback import (
    AlreadyAttached,
    Backprop,
    DirectFeedback,
    FeedbackError,
    FeedbackPath,
    MatrixNotDrawn,
    NotATensor,
    PointAboveSource,
    PointNotFound,
    PointNotReached,
    PointsOverlap,
    PointWithoutGradient,
    Shallow,
    ShapeMismatch,
    attachment_of,
)
from tests.feedback.models import Mlp, assert_same, gradients, mlp_and_batch, mlp_reference, squared_error

X = torch.zeros(2, 5)
PATH = FeedbackPath(["layers.*.activation"], error_at="head")


def attach(model, *paths, example=X):
    return DirectFeedback().attach(model, paths, example=example)


@pytest.mark.parametrize("rule", [DirectFeedback(), Shallow(), Backprop()])
def test_a_pattern_that_matches_nothing_names_the_nearest_module(rule):
    with pytest.raises(PointNotFound, match=r"(point|cut) 'layers.\*.act'.*mean 'layers.\*.activation'\?"):
        rule.attach(Mlp(), FeedbackPath(["layers.*.act"]))
    with pytest.raises(PointNotFound, match=r"cut 'embedding'.*The model has"):
        rule.attach(Mlp(), FeedbackPath(["layers.*.activation"], cuts=["embedding"]))
    with pytest.raises(PointNotFound, match=r"error source 'haed'.*mean 'head'\?"):
        rule.attach(Mlp(), FeedbackPath(["layers.*.activation"], error_at="haed"))


def test_an_error_source_that_matches_several_modules_lists_them():
    with pytest.raises(PointNotFound, match=r"'layers.\?' matches 2 modules \('layers.0', 'layers.1'\).*matches one"):
        attach(Mlp(), FeedbackPath(["layers.0"], error_at="layers.?"))


def test_a_single_string_of_points_is_refused():
    with pytest.raises(TypeError, match=r"points=.*list of patterns"):
        FeedbackPath("layers.*")


def test_batch_axes_below_one_are_refused():
    with pytest.raises(ValueError, match=r"batch_axes=0.*at least one"):
        FeedbackPath(["layers.*"], batch_axes=0)


def test_a_rule_without_points_is_refused():
    with pytest.raises(PointNotFound, match="at least one point; Backprop needs none"):
        attach(Mlp())


@pytest.mark.parametrize("second", [FeedbackPath(["layers.0"]), FeedbackPath(["layers.1"], cuts=["layers.0"])])
def test_a_module_with_two_roles_is_refused(second):
    with pytest.raises(PointsOverlap, match=r"'layers.0' is a point of path 0 and a (point|cut) of path 1"):
        attach(Mlp(), FeedbackPath(["layers.0"]), second)


def test_a_point_above_the_source_is_refused():
    with pytest.raises(PointAboveSource, match=r"'layers.1' ran after the error source 'layers.0'.*Move error_at"):
        attach(Mlp(), FeedbackPath(["layers.1"], error_at="layers.0"), example=X)


def test_a_point_around_the_source_is_refused():
    with pytest.raises(PointAboveSource, match=r"'layers.0' ran after the error source 'layers.0.linear'"):
        attach(Mlp(), FeedbackPath(["layers.0"], error_at="layers.0.linear"))


class Unused(nn.Module):
    """Has parts that its forward passes by."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = Mlp(), Mlp()

    def forward(self, x):
        return self.used(x)


@pytest.mark.parametrize(
    "path, missing",
    [
        (FeedbackPath(["**.activation"]), "unused.layers.0.activation"),
        (FeedbackPath(["used.layers.*.activation"], error_at="unused.head"), "unused.head"),
        (FeedbackPath(["used.layers.*.activation"], error_at="used.head", cuts=["unused"]), "unused"),
        (FeedbackPath(["unused.layers.*.activation"], error_at="unused.head"), "unused"),
        (FeedbackPath(["unused.head"], error_at="unused.head"), "unused.head"),
    ],
)
def test_a_point_cut_or_source_never_reached_is_named(path, missing):
    model = Unused()
    with pytest.raises(PointNotReached, match=rf"'{missing}'.*(calls|Remove)"):
        attach(model, path)
    attached = attach(model, path, example=None)
    with pytest.raises(PointNotReached, match=rf"'{missing}'"):
        model(X)
    with torch.no_grad():
        model(X)  # evaluation needs no point
    attached.remove()


def test_a_cut_of_shallow_never_reached_is_named():
    with pytest.raises(PointNotReached, match="'unused'"):
        Shallow().attach(Unused(), FeedbackPath(["unused"]), example=X)


def test_a_point_reached_only_sometimes_is_named_when_it_is_not():
    model = Mlp((5, 6, 6, 3))
    attach(model, PATH)
    model(X)
    model.layers = model.layers[:1]
    with pytest.raises(PointNotReached, match=r"'layers.1.activation'"):
        model(X)


def test_leading_axes_that_disagree_show_both_shapes():
    model = nn.Sequential(nn.Linear(5, 4), nn.Flatten(0), nn.Unflatten(0, (-1, 4)), nn.Linear(4, 3))
    with pytest.raises(ShapeMismatch, match=r"'1' returns shape \(8,\).*'' has shape \(2, 3\).*begin with \(2,\)"):
        attach(model, FeedbackPath(["1"]))


def test_an_attention_model_with_the_sequence_first_shows_both_shapes():
    class SequenceFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.body(x.transpose(0, 1)).transpose(0, 1))

    path = FeedbackPath(["body"], error_at="head")
    with pytest.raises(ShapeMismatch, match=r"'body'.*\(6, 2, 4\).*'head'.*\(2, 6, 3\).*rows=..."):
        attach(SequenceFirst(), path, example=torch.zeros(2, 6, 5))


def test_a_scalar_error_is_refused():
    class WithLoss(Mlp):
        def forward(self, x):
            return super().forward(x).sum()

    with pytest.raises(ShapeMismatch, match=r"scalar.*error_at"):
        attach(WithLoss(), FeedbackPath(["layers.*.activation"]))


def test_more_batch_axes_than_the_error_has_are_refused():
    with pytest.raises(ShapeMismatch, match=r"batch_axes=3.*'head' returns only 2 axes"):
        attach(Mlp(), FeedbackPath(["layers.*.activation"], "head", batch_axes=3))


def test_a_point_wider_than_its_matrix_is_refused():
    model = nn.Sequential(nn.Conv1d(1, 2, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2, 3))
    attach(model, FeedbackPath(["0"]), example=torch.zeros(2, 1, 8))
    model(torch.zeros(2, 1, 7)).sum().backward()  # narrower: its first columns
    with pytest.raises(ShapeMismatch, match=r"'0' is now 18 wide.*drawn for 16.*widest batch"):
        model(torch.zeros(2, 1, 9))


def test_an_error_of_another_width_is_refused():
    model = Mlp()
    attach(model, PATH)
    model.head.weight = nn.Parameter(torch.zeros(4, 6))
    model.head.bias = None
    with pytest.raises(ShapeMismatch, match=r"'head' is 4 wide.*drawn for 3"):
        model(X)


class Structured(Mlp):
    """Returns something other than one tensor from `inner`."""

    def __init__(self, wrap, unwrap) -> None:
        super().__init__()
        self.unwrap = unwrap
        self.inner = nn.Identity()
        self.inner.forward = wrap

    def forward(self, x):
        return self.head(self.unwrap(self.inner(self.layers[1](self.layers[0](x)))))


@pytest.mark.parametrize("role", ["points", "cuts", "error_at"])
def test_an_output_that_is_no_tensor_is_refused(role):
    model = Structured(lambda h: {"hidden": h}, lambda output: output["hidden"])
    path = {
        "points": FeedbackPath(["inner"]),
        "cuts": FeedbackPath(["layers.0"], cuts=["inner"]),
        "error_at": FeedbackPath(["layers.0"], error_at="inner"),
    }[role]
    with pytest.raises(NotATensor, match=r"(point|cut|source) 'inner' returns a dict, not a tensor. Choose another"):
        attach(model, path)


def test_a_tuple_is_used_only_if_asked_for():
    model = Structured(lambda h: (h, "more"), lambda output: output[0])
    with pytest.raises(NotATensor, match=r"'inner' returns a tuple.*first_of_tuple=True"):
        attach(model, FeedbackPath(["inner"]))
    attach(model, FeedbackPath(["inner"], first_of_tuple=True))
    model(X).sum().backward()
    assert model.layers[0].linear.weight.grad is not None


def test_a_tuple_whose_first_element_is_no_tensor_is_refused_even_then():
    model = Structured(lambda h: (None, h), lambda output: output[1])
    with pytest.raises(NotATensor, match=r"'inner' returns a tuple, not a tensor. Choose another module"):
        attach(model, FeedbackPath(["inner"], first_of_tuple=True))


def test_a_named_tuple_stays_what_it_was():
    Output = torch.return_types.max  # noqa: N806  (a structure that PyTorch itself returns)
    seen = []
    model = Structured(lambda h: h.max(dim=1, keepdim=True), lambda out: (seen.append(out), out[0].expand(-1, 6))[1])
    attach(model, FeedbackPath(["inner"], first_of_tuple=True), example=None)
    model(X)
    assert isinstance(seen[0], Output)


@pytest.mark.parametrize("rule", [DirectFeedback(), Shallow(), Backprop()])
def test_attaching_twice_is_refused(rule):
    model = Mlp()
    first = rule.attach(model, PATH)
    with pytest.raises(AlreadyAttached, match=r"Mlp already learns by a rule.*\.remove\(\)"):
        DirectFeedback().attach(model, PATH)
    assert attachment_of(model) is first
    first.remove()
    assert attachment_of(model) is None
    DirectFeedback().attach(model, PATH)


def test_attaching_to_a_part_of_an_attached_model_and_around_one_is_refused():
    model = Unused()
    whole = attach(model, FeedbackPath(["used.layers.*.activation"], error_at="used.head"))
    with pytest.raises(AlreadyAttached, match="Mlp already"):
        attach(model.used, PATH)
    attach(model.unused, PATH)  # nothing of the other rule lies in it
    whole.remove()
    with pytest.raises(AlreadyAttached, match="Unused already"):
        attach(model, FeedbackPath(["used.layers.*.activation"]))


def test_attaching_to_a_model_whose_rule_is_paused_is_refused():
    model = Unused()
    path = FeedbackPath(["used.layers.*.activation"], error_at="used.head")
    attached = attach(model, path)
    with attached.paused():
        with pytest.raises(AlreadyAttached, match="active or paused"):
            attach(model, path)
        with pytest.raises(AlreadyAttached, match="Mlp already"):
            attach(model.used, PATH)
        attach(model.unused, PATH).remove()
        attach(copy.deepcopy(model), path)  # has no rule
    assert attachment_of(model) is attached


def test_an_example_that_fails_leaves_no_hook():
    model = Mlp()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        attach(model, PATH, example=torch.zeros(2, 99))
    assert attachment_of(model) is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_matrix_asked_for_too_early_says_how_to_get_it():
    attached = attach(Mlp(), PATH, example=None)
    with pytest.raises(MatrixNotDrawn, match=r"path 0 is drawn at the first forward.*example"):
        _ = attached.matrices


def test_a_description_asked_for_too_early_says_how_to_get_it():
    with pytest.raises(FeedbackError, match="Run one, or pass an example"):
        attach(Mlp(), PATH, example=None).describe()


def test_a_source_that_runs_again_without_points_is_refused():
    class Again(Mlp):
        def forward(self, x):
            h = self.layers[1](self.layers[0](x))
            return self.head(h) + self.head(2 * h)

    with pytest.raises(PointNotReached, match=r"'head' ran again with no feedback point before it"):
        attach(Again(), PATH)


def test_a_point_that_ends_in_another_point_is_refused():
    with pytest.raises(PointWithoutGradient, match=r"'layers.0' carries no gradient.*ends in another point"):
        attach(Mlp(), FeedbackPath(["layers.**"]))


def test_a_forward_that_calls_itself_is_refused():
    class Recursive(Mlp):
        def forward(self, x, depth=1):
            h = self.layers[1](self.layers[0](x))
            if depth:
                with torch.no_grad():
                    h = h + 0 * self(x, 0).sum()
            return self.head(h)

    model = Recursive()
    attach(model, PATH, example=None)
    with pytest.raises(FeedbackError, match="the model called itself"):
        model(X)


def test_an_error_under_way_leaves_the_next_step_right():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = attach(model, PATH, example=x)
    with pytest.raises(RuntimeError):
        model(x.float())
    with torch.no_grad():
        model.layers[0](x)  # a part on its own, without gradients, stays possible
    squared_error(model(x), targets).backward()
    assert_same(gradients(model), mlp_reference(bare, x, targets, attached.matrices[0]))


def test_backprop_is_plain_backpropagation():
    model, x, targets = mlp_and_batch()
    bare = copy.deepcopy(model)
    attached = Backprop().attach(model, PATH, example=x)
    squared_error(model(x), targets).backward()
    squared_error(bare(x), targets).backward()
    assert_same(gradients(model), gradients(bare), atol=0)
    assert set(attached.describe().learns_from.values()) == {("BP",)}
    assert attached.matrices == []

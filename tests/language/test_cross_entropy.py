"""Cross-entropy in chunks: loss and gradients of the plain one, with DFA's error below the projection too."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from dfa_bench.feedback import Backprop, DirectFeedback, FeedbackPath
from dfa_bench.feedback.alignment import GradientComparison
from dfa_bench.tasks.language import cross_entropy
from dfa_bench.tasks.language.cross_entropy import mean_cross_entropy
from dfa_bench.tasks.language.models import Transformer

WORDS, WIDTH = 50, 8


class LargestLinear(TorchFunctionMode):
    """Notes how many rows of logits are made at once."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is F.linear and out.shape[-1] == WORDS:
            self.rows = max(self.rows, out.numel() // WORDS)
        return out


def transformer(dtype: torch.dtype = torch.float64) -> Transformer:
    torch.manual_seed(0)
    return Transformer(WORDS, 2, 2, WIDTH, 16, 0.0, 12, "post").to(dtype)


@pytest.mark.parametrize("bias", [True, False])  # False: an embedding is tied to it
@pytest.mark.parametrize("largest", [WORDS, 3 * WORDS, 12 * WORDS, 10**6])
def test_loss_and_gradients_are_those_of_the_plain_one(largest, bias):
    torch.manual_seed(0)
    projection = nn.Linear(WIDTH, WORDS, bias=bias).double()
    hidden = torch.randn(13, WIDTH, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(WORDS, (13,))
    wanted = [hidden, *projection.parameters()]
    plain = F.cross_entropy(projection(hidden), targets)
    chunked = mean_cross_entropy(hidden, projection, targets, largest)
    torch.testing.assert_close(chunked, plain, rtol=1e-12, atol=0)
    expected, found = (torch.autograd.grad(3 * loss, wanted) for loss in (plain, chunked))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("rule", [Backprop(), DirectFeedback(seed=1)])
@pytest.mark.parametrize("points", [["blocks.*.after_feed_forward"], ["blocks.*.feed_forward.hidden"]])
def test_a_transformer_learns_the_same(monkeypatch, rule, points):
    tokens, targets = torch.randint(WORDS, (2, 3, 12))
    learnt = []
    for largest in (10**6, 5 * WORDS):
        monkeypatch.setattr(cross_entropy, "WHOLE", largest)
        model = transformer()
        rule.attach(model, FeedbackPath(points, "last_hidden"), example=tokens)
        with LargestLinear() as seen:
            model(tokens, targets).backward()
        learnt.append({name: parameter.grad for name, parameter in model.named_parameters()})
        assert seen.rows == min(36, largest // WORDS)
    torch.testing.assert_close(*learnt, rtol=1e-9, atol=1e-13)


def test_logits_that_a_hook_waits_for_are_whole(monkeypatch):
    monkeypatch.setattr(cross_entropy, "WHOLE", WORDS)
    tokens, targets = torch.randint(WORDS, (2, 3, 12))
    plain, model = transformer(), transformer()
    path = FeedbackPath(["blocks.*.after_feed_forward"], "vocabulary")
    for each in (plain, model):
        DirectFeedback(seed=1).attach(each, path, example=tokens)
    F.cross_entropy(plain(tokens).flatten(0, 1), targets.flatten()).backward()
    model(tokens, targets).backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_alignment_is_measured_at_the_projection_too(monkeypatch):
    monkeypatch.setattr(cross_entropy, "WHOLE", WORDS)
    tokens, targets = torch.randint(WORDS, (2, 3, 12))
    model = transformer()
    path = FeedbackPath(["blocks.*.after_feed_forward"], "last_hidden")
    attached = DirectFeedback(seed=1).attach(model, path, example=tokens)
    comparison = GradientComparison(attached)
    with comparison.by_rule():
        model(tokens, targets).backward()
    measured = comparison.with_bp(lambda: model(tokens, targets).backward()).paper
    assert measured["vocabulary"].mean == pytest.approx(1.0)


def test_in_bfloat16_gradients_are_as_near_as_without_chunks():
    torch.manual_seed(0)
    exact = nn.Linear(64, 300)
    hidden, targets = torch.randn(40, 64), torch.randint(300, (40,))
    gradients = []
    for largest, autocast in ((10**6, False), (10**6, True), (300 * 7, True)):
        layer = copy.deepcopy(exact)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = mean_cross_entropy(hidden, layer, targets, largest)
        loss.backward()
        gradients.append(layer.weight.grad)
    plain, chunked = ((each - gradients[0]).norm() for each in gradients[1:])
    assert chunked < 1.5 * plain

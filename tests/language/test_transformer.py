"""The Transformer: what each parameter learns from with macro and micro feedback, and that it sees no future."""

import math
import shutil

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dfa_bench.experiments.protocol import run_settings
from dfa_bench.feedback import Backprop, DirectFeedback, FeedbackPath, Shallow
from dfa_bench.tasks.language.models import Transformer, sinusoids
from tests.feedback.models import assert_same, backward_per_block, gradients

VOCABULARY, LAYERS, LENGTH = 11, 3, 7
MACRO = ["blocks.*.after_feed_forward"]
MICRO = ["blocks.*.after_attention", "blocks.*.feed_forward.hidden", *MACRO]


def small(norm: str = "post", dropout: float = 0.0) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(VOCABULARY, LAYERS, 2, 8, 12, dropout, LENGTH, norm)
    return model.double()


def batch(rows: int = 3) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(VOCABULARY, (rows, LENGTH + 1), generator=torch.Generator().manual_seed(1))
    return tokens[:, :-1], tokens[:, 1:]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def embedded(model: Transformer, tokens: Tensor) -> Tensor:
    return model.embedding(tokens) * math.sqrt(8) + model.position[: tokens.shape[1]]


def learnt(model: Transformer, points: list[str], inputs: Tensor, targets: Tensor):
    attached = DirectFeedback(seed=3).attach(model, FeedbackPath(points, "last_hidden"), example=inputs)
    attached.to(torch.float64)
    cross_entropy(model(inputs), targets).backward()
    found, matrix = gradients(model), attached.matrices[0].clone()
    attached.remove()
    model.zero_grad()
    return found, matrix


def test_macro_feedback_is_that_of_blocks_differentiated_one_by_one():
    model, (inputs, targets) = small(), batch()
    found, matrix = learnt(model, MACRO, inputs, targets)
    assert matrix.shape == (8, 8)
    x, points = embedded(model, inputs), []
    for block in model.blocks:
        points.append(block(x))
        x = points[-1].detach()
    hidden = x.requires_grad_()  # the last point is the error source's own tensor
    backward_per_block(cross_entropy(model.vocabulary(hidden), targets), hidden, points, matrix, axes=2)
    assert_same(found, gradients(model))


def test_micro_feedback_is_that_of_sublayers_differentiated_one_by_one():
    model, (inputs, targets) = small(), batch()
    found, matrix = learnt(model, MICRO, inputs, targets)
    assert matrix.shape == (8, 12)  # the hidden units are the widest point
    x, points = embedded(model, inputs), []
    for block in model.blocks:
        points.append(block.attention_norm(x + block.attention(x)))
        seen = points[-1].detach()
        points.append(block.feed_forward.hidden(block.feed_forward.expand(seen)))
        points.append(block.feed_forward_norm(seen + block.feed_forward.contract(points[-1].detach())))
        x = points[-1].detach()
    hidden = x.requires_grad_()
    backward_per_block(cross_entropy(model.vocabulary(hidden), targets), hidden, points, matrix, axes=2)
    assert_same(found, gradients(model))


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("points", [MACRO, MICRO], ids=["macro", "micro"])
def test_nothing_learns_by_both_and_only_the_projection_by_bp(norm, points):
    model, (inputs, _) = small(norm), batch()
    with DirectFeedback().attach(model, FeedbackPath(points, "last_hidden"), example=inputs) as attached:
        lines = str(attached.describe()).splitlines()
    by_bp = {line.split()[0] for line in lines if "by BP" in line}
    behind = {"last_hidden.weight", "last_hidden.bias"} if norm == "pre" else set()
    assert by_bp == {"vocabulary.weight", "vocabulary.bias"} | behind
    assert not any("both" in line for line in lines)
    embedding = next(line for line in lines if line.startswith("embedding.weight"))
    assert "blocks.0" in embedding
    assert "blocks.1" not in embedding


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_outputs_know_nothing_of_later_tokens(norm):
    model, (inputs, _) = small(norm).eval(), batch()
    before = model(inputs)
    for t in range(LENGTH - 1):
        changed = inputs.clone()
        changed[:, t + 1 :] = (changed[:, t + 1 :] + 1) % VOCABULARY
        torch.testing.assert_close(model(changed)[:, : t + 1], before[:, : t + 1], rtol=0, atol=1e-12)
        assert not torch.allclose(model(changed)[:, t + 1 :], before[:, t + 1 :])


def test_with_the_error_behind_the_vocabulary_projection_the_matrix_is_as_wide_as_the_vocabulary():
    for choice, widest in (("macro_logits", 8), ("micro_logits", 12)):
        chosen = ["task=language", "dataset=wikitext-2", "model=transformer", f"feedback={choice}"]
        (path,) = run_settings(chosen).feedback
        model, (inputs, _) = small(), batch()
        attached = DirectFeedback().attach(model, FeedbackPath(path.points, path.error_at), example=inputs)
        assert attached.matrices[0].shape == (VOCABULARY, widest)
        attached.remove()


def test_shallow_leaves_all_but_the_projection_without_gradient():
    model, (inputs, targets) = small(), batch()
    Shallow().attach(model, FeedbackPath(MACRO, "last_hidden"))
    cross_entropy(model(inputs), targets).backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        "vocabulary.weight",
        "vocabulary.bias",
    }


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_tied_embedding_learns_as_embedding_and_as_projection(norm):
    inputs, targets = batch()
    tied = Transformer(VOCABULARY, LAYERS, 2, 8, 12, 0.0, LENGTH, norm, tied=True).double()
    assert "vocabulary.bias" not in dict(tied.named_parameters())
    apart = small(norm)
    values = tied.state_dict() | {"vocabulary.bias": torch.zeros(VOCABULARY)}
    apart.load_state_dict(values)
    (both, _), (each, _) = (learnt(model, MACRO, inputs, targets) for model in (tied, apart))
    torch.testing.assert_close(both["embedding.weight"], each["embedding.weight"] + each["vocabulary.weight"])


def test_positions_are_sinusoids_of_geometrically_falling_frequency():
    found = sinusoids(50, 8)
    for position in (0, 1, 49):
        for k in range(4):
            angle = position / 10000 ** (2 * k / 8)
            assert found[position, 2 * k] == pytest.approx(math.sin(angle), abs=1e-5)
            assert found[position, 2 * k + 1] == pytest.approx(math.cos(angle), abs=1e-5)


def test_a_sequence_longer_than_the_positions_is_refused():
    with pytest.raises(ValueError, match=f"{LENGTH + 1} tokens do not fit model.positions={LENGTH}"):
        small()(torch.zeros(1, LENGTH + 1, dtype=torch.long))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="width=8 must be even and a multiple of heads=3"):
        Transformer(VOCABULARY, 1, 3, 8, 12, 0.0, LENGTH, "post")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.parametrize("points", [None, MICRO], ids=["bp", "micro"])
def test_compiled_training_has_the_gradients_of_plain_training(points):
    torch.compiler.reset()
    rule, paths = (DirectFeedback(), FeedbackPath(points, "last_hidden")) if points else (Backprop(), ())
    found, (inputs, targets) = [], batch()
    for compiled in (False, True):
        model = small().float()
        rule.attach(model, paths, example=inputs)
        if compiled:
            model.compile(fullgraph=True)
        cross_entropy(model(inputs), targets).backward()
        found.append(gradients(model))
    assert_same(*found, atol=1e-5)


@pytest.mark.parametrize("points", [None, MICRO], ids=["bp", "micro"])
def test_gradients_in_bfloat16_point_where_those_of_float32_do(points):
    rule, paths = (DirectFeedback(), FeedbackPath(points, "last_hidden")) if points else (Backprop(), ())
    model, (inputs, targets) = small().float(), batch(64)
    rule.attach(model, paths, example=inputs)
    found = []
    for mixed in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = cross_entropy(model(inputs).float(), targets)
        loss.backward()
        found.append(torch.cat([gradient.flatten() for gradient in gradients(model).values()]))
    exact, rounded = found
    assert F.cosine_similarity(exact, rounded, dim=0) > 0.99
    assert not torch.equal(exact, rounded)

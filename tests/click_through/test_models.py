"""Click models: where they learn from, and that they learn what a known teacher plants."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dfa_bench.experiments.protocol import run_settings
from dfa_bench.runs.rule import build_path, build_rule
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import Shard, build_task
from dfa_bench.tasks.click_through import models
from dfa_bench.tasks.click_through.planted import Teacher, draw_clicks, planted
from dfa_bench.tasks.click_through.task import ClickBatch
from dfa_bench.training.trainer import build_learner

MODELS = ("deepfm", "dcn", "afn", "autoint")
# Where PAPER.md says that each model learns under DFA, by the first part of a parameter's name.
BY_BP = {
    "deepfm": {"linear", "embedding", "deep"},
    "dcn": {"output"},
    "afn": {"linear", "deep"},
    "autoint": {"linear", "attended", "deep"},
}


def settings(model: str, *overrides: str) -> RunSettings:
    return run_settings(["task=clicks", "dataset=criteo", f"model={model}", "scale=smoke", *overrides])


def gradients(model: str, rule: str, *overrides: str) -> dict[str, torch.Tensor | None]:
    chosen = settings(model, f"rule={rule}", "model.dropout=0", *overrides)
    task = build_task(chosen)
    learner, _ = build_learner(chosen, task)
    task.loss(learner, next(iter(task.batches(1, Shard())))).backward()
    return {name: parameter.grad for name, parameter in learner.named_parameters()}


@pytest.mark.parametrize("model", MODELS)
def test_only_what_stands_above_all_points_has_bps_gradient(model):
    by_bp, by_dfa = gradients(model, "bp"), gradients(model, "dfa")
    same = {
        name.split(".")[0] for name, grad in by_dfa.items() if grad is not None and torch.allclose(grad, by_bp[name])
    }
    different = {
        name.split(".")[0]
        for name, grad in by_dfa.items()
        if grad is not None and not torch.allclose(grad, by_bp[name])
    }
    assert same >= BY_BP[model] - {"embedding"}
    assert not different & (BY_BP[model] - {"embedding"})
    assert "mlp" in different


def test_deepfms_embeddings_learn_through_fm_only():
    grads = gradients("deepfm", "dfa")
    chosen = settings("deepfm", "rule=bp", "model.dropout=0")
    task = build_task(chosen)
    learner, _ = build_learner(chosen, task)
    batch = next(iter(task.batches(1, Shard())))
    embedded = learner.embedding(batch.ids)
    deep = learner.deep(learner.mlp(learner.mlp_input(embedded.detach()))).squeeze(-1)
    logit = learner.linear(batch.ids) + models.pairwise(embedded) + deep
    torch.nn.functional.binary_cross_entropy_with_logits(logit, batch.clicked).backward()
    torch.testing.assert_close(grads["embedding.weight"], learner.embedding.weight.grad)


def test_afns_embeddings_keep_their_values_as_released_and_learn_in_the_papers_variant():
    assert gradients("afn", "dfa", "variant=released")["embedding.weight"] is None
    assert gradients("afn", "dfa", "variant=paper")["embedding.weight"].abs().sum() > 0


@pytest.mark.parametrize("model", MODELS)
def test_shallow_leaves_what_is_below_the_points_alone(model):
    grads = gradients(model, "shallow")
    assert all(grad is None for name, grad in grads.items() if name.startswith("mlp."))
    assert any(grad is not None for grad in grads.values())


@pytest.mark.parametrize("model", MODELS)
def test_nothing_learns_by_both(model):
    chosen = settings(model, "rule=dfa")
    _, attached = build_learner(chosen, build_task(chosen))
    assert attached.describe().both == []


def test_deep_and_crosss_points_have_the_papers_widths():
    model = models.DeepCross(fields=39, vocabulary=50)
    assert model.output.in_features == 1648
    assert model.cross[0].bias.shape == (624,)


def test_the_attention_width_must_fit_the_heads():
    with pytest.raises(ValueError, match="multiple of heads=2"):
        models.AutoInt(fields=3, vocabulary=9, attention_width=5)


TEACHER = Teacher(rows=12000, fields=4, values=6, linear=0.3, pairs=0.5, triples=2.5, seed=1)


@pytest.fixture(scope="module")
def taught():
    return planted(TEACHER), draw_clicks(TEACHER)[2]


def learned_auc(data, name: str, rule: str = "bp") -> float:
    """AUC on the last quarter of the rows, after some passes over the others."""
    torch.manual_seed(0)
    kind = {"fm": models.FM, "deepfm": models.DeepFM, "dcn": models.DeepCross}
    kind |= {"afn": models.AFN, "autoint": models.AutoInt}
    sizes = {} if name == "fm" else {"mlp_width": 64, "dropout": 0.0}
    sizes |= {"log_neurons": 64} if name == "afn" else {}
    model = kind[name](data.fields, data.vocabulary, **sizes)
    chosen = settings(name, f"rule={rule}")
    ids, labels = torch.from_numpy(np.asarray(data.ids)), torch.from_numpy(np.asarray(data.labels)).float()
    build_rule(chosen.rule).attach(model, [build_path(path) for path in chosen.feedback], example=ids[:2])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    cut = len(ids) * 3 // 4
    for _ in range(10):
        for start in range(0, cut, 500):
            batch = ClickBatch(ids[start : start + 500], labels[start : start + 500])
            optimizer.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(batch.ids), batch.clicked)
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        return float(roc_auc_score(labels[cut:], model(ids[cut:])))


def test_deep_models_pass_fm_and_come_near_the_best_achievable(taught):
    data, logits = taught
    cut = len(logits) * 3 // 4
    best = float(roc_auc_score(data.labels[cut:], logits[cut:]))
    by_fm = learned_auc(data, "fm")
    assert by_fm < best - 0.05  # third-order interactions are beyond it
    for name in MODELS:
        auc = learned_auc(data, name)
        assert by_fm + 0.03 < auc < best + 0.01, (name, auc, by_fm, best)


@pytest.mark.parametrize("name", ["deepfm", "dcn"])
def test_dfa_learns_the_planted_interactions_and_shallow_learns_less(taught, name):
    data, _ = taught
    assert learned_auc(data, name, "dfa") > learned_auc(data, name, "shallow") + 0.02

"""Lightning's Trainer, and what callbacks log; Hugging Face's has tests of its own."""

import copy
import warnings

import pytest
import torch

from dfa_bench.feedback import (
    DirectFeedback,
    FeedbackPath,
    KolenPollack,
    LightningCallback,
    PassesDiffer,
    PointNotReached,
    TargetProjection,
    attachment_of,
    measure,
)
from tests.feedback.models import Mlp, assert_same, gradients, mlp_and_batch, mlp_reference, squared_error

PATH = FeedbackPath(["layers.*.activation"], error_at="head")


def test_alignment_and_norms_as_numbers_for_any_logger():
    model, x, targets = mlp_and_batch()
    attached = DirectFeedback(1).attach(model, PATH, example=x)
    squared_error(model(x), targets).backward()
    before = copy.deepcopy(gradients(model))
    found = measure(attached, lambda: squared_error(model(x), targets).backward())
    assert_same(gradients(model), before, atol=0)
    attached.remove()
    model.zero_grad()
    squared_error(model(x), targets).backward()
    weight, by_bp = model.layers[0].linear.weight, model.layers[0].linear.weight.grad
    ours = before["layers.0.linear.weight"]
    cosine = torch.cosine_similarity(ours.flatten(), by_bp.flatten(), dim=0)
    expected = {
        "alignment/head": 1.0,
        "weight_alignment/layers.0.linear.weight": float(cosine),
        "norm_ratio/layers.0.linear.weight": float(ours.norm() / by_bp.norm()),
        "norm/layers.0.linear.weight": float(weight.detach().norm()),
        "gradient_norm/layers.0.linear.weight": float(ours.norm()),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert -1 <= found["alignment/layers.1.activation"] < 0.99


lightning = pytest.importorskip("pytorch_lightning", reason="pytorch-lightning is not installed")


class Learner(lightning.LightningModule):
    def __init__(self, by_part=True, manual=False):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.by_part, self.automatic_optimization = Mlp().double(), by_part, not manual
        self.seen = []

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, number):
        x, targets = batch
        loss = squared_error(self.net(x) if self.by_part else self(x), targets)
        self.log("loss", loss)
        self.seen.append(number)
        if self.automatic_optimization:
            return loss
        self.optimizers().zero_grad()
        self.manual_backward(loss)
        self.optimizers().step()
        return None

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


_, X, TARGETS = mlp_and_batch(rows=6)
BATCHES = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, TARGETS), batch_size=3)


def fit(module, callback, folder, steps=2, resume=None, logger=False):
    options = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    trainer = lightning.Trainer(
        accelerator="cpu", default_root_dir=folder, max_steps=steps, callbacks=[callback], logger=logger, **options
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        trainer.fit(module, BATCHES, ckpt_path=resume)
    return trainer


@pytest.mark.parametrize("by_part", [True, False])
def test_lightning_trains_by_the_rule_and_logs(by_part, tmp_path):
    module = Learner(by_part)
    bare = copy.deepcopy(module.net)
    path = PATH if by_part else FeedbackPath(["net.layers.*.activation"])
    callback = LightningCallback(DirectFeedback(1), path, part="net" if by_part else "", every=1)
    trainer = fit(module, callback, tmp_path, steps=1)
    mlp_reference(bare, X[:3], TARGETS[:3], callback.attached.matrices[0])
    with torch.no_grad():
        for parameter in bare.parameters():
            parameter -= 0.01 * parameter.grad
    assert_same(dict(module.net.named_parameters()), dict(bare.named_parameters()))
    prefix = "" if by_part else "net."
    logged = trainer.logged_metrics
    assert logged[f"weight_alignment/{prefix}head.weight"] == pytest.approx(1)
    assert logged[f"gradient_norm/{prefix}layers.0.linear.weight"] > 0
    assert "loss" in logged
    assert module.seen == [0, 0, 0]  # the step, and both passes that are compared


def test_a_step_past_the_error_source_is_refused(tmp_path):
    callback = LightningCallback(DirectFeedback(1), FeedbackPath(["net.layers.*.activation"]))
    with pytest.raises(PointNotReached, match=r"training_step ran .*'net.layers.0.activation'.*self.net\(x\).*part="):
        fit(Learner(by_part=True), callback, tmp_path)


@pytest.mark.parametrize("rule", [DirectFeedback, KolenPollack])
def test_lightnings_checkpoint_has_the_matrices(rule, tmp_path):
    first = LightningCallback(rule(seed=1), PATH, X, part="net", remove_at_end=True)
    module = Learner()
    fit(module, first, tmp_path)
    assert attachment_of(module) is None
    (saved,) = tmp_path.glob("checkpoints/*.ckpt")
    kept = torch.load(saved, weights_only=True)["callbacks"][first.state_key]
    resumed = LightningCallback(rule(seed=2), PATH, X, part="net")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the weights, which are loaded first, are of other feedback
        fit(Learner(), resumed, tmp_path, resume=saved)  # all its steps are done
    matrices = [name for name, value in kept.items() if isinstance(value, torch.Tensor)]
    assert matrices
    assert all(torch.equal(resumed.state_dict()[name], kept[name]) for name in matrices)


def test_what_a_rule_is_told_at_each_step(tmp_path):
    begin = lambda batch: {"targets": batch[1]}  # noqa: E731
    module = Learner()
    before = module.net.layers[0].linear.weight.clone()
    fit(module, LightningCallback(TargetProjection(1), PATH, X[:2], part="net", begin=begin), tmp_path)
    assert not torch.equal(module.net.layers[0].linear.weight, before)


def test_a_module_that_steps_its_optimizers_needs_a_loss_to_be_measured(tmp_path):
    with pytest.raises(PassesDiffer, match=r"Learner steps its optimizers itself.*loss="):
        fit(Learner(manual=True), LightningCallback(DirectFeedback(1), PATH, part="net", every=1), tmp_path)
    loss = lambda module, batch: squared_error(module.net(batch[0]), batch[1])  # noqa: E731
    callback = LightningCallback(DirectFeedback(1), PATH, part="net", every=2, loss=loss)
    trainer = fit(Learner(manual=True), callback, tmp_path, steps=1)
    assert trainer.logged_metrics["weight_alignment/head.weight"] == pytest.approx(1)

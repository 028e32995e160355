"""Steps as one CUDA graph: what they learn, and where there is none."""

import gc
import itertools
import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dfa_bench.runs.record import Record
from dfa_bench.tasks.base import build_task
from dfa_bench.tasks.graphs.nodes import NodeClassification
from dfa_bench.training import trainer as loop
from dfa_bench.training.capture import CapturedStep, why_not
from dfa_bench.training.execute import execute
from dfa_bench.training.optimizer import build_optimizer
from dfa_bench.training.trainer import Trainer, build_fabric, build_learner
from tests.training.test_rules import SUITE

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

# Each takes more steps than a capture needs to warm up; clicks end their epochs with a batch of another shape.
TASKS = {
    "gcn": ["model=gcn", "trainer.max_epochs=8"],
    "cheb": ["model=cheb", "trainer.max_epochs=8"],
    "spline": ["model=spline", "trainer.max_epochs=8"],
    "gat": ["model=gat", "trainer.max_epochs=8"],
    "dna": ["model=dna", "trainer.max_epochs=8"],
    "links": ["task=links", "trainer.max_epochs=8"],
    "deepfm": ["task=clicks", "model=deepfm", "task.batch=256", "trainer.max_epochs=1"],
    "dcn": ["task=clicks", "model=dcn", "task.batch=256", "trainer.max_epochs=1"],
    "afn": ["task=clicks", "model=afn", "task.batch=256", "trainer.max_epochs=1"],
    "autoint": ["task=clicks", "model=autoint", "task.batch=256", "trainer.max_epochs=1"],
    "language": ["task=language", "model.dropout=0.1", "recipe=transformer/baseline"],
    "language in bf16": ["task=language", "model.dropout=0.1", "trainer.precision=bf16-mixed"],
    "view_synthesis": ["task=view_synthesis", "model.density_noise=1.0", "trainer.max_epochs=3"],
}


# Operations whose result, or its shape, the CPU waits for; and that bring a number of Python's to the device.
WAITS = ("_local_scalar_dense", "equal", "is_nonzero", "masked_select", "nonzero", "unique", "repeat_interleave")
BRINGS = ("lift_fresh", "_to_copy")


class Watching(TorchDispatchMode):
    """Notes what no CUDA graph can hold, on any device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        name = function.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_") and any(
            each is not None and each.dtype == torch.bool for each in arguments[1]
        )
        if masks or name.startswith((*WAITS, *BRINGS)):
            self.seen.append(str(function))
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("overrides", SUITE, ids=lambda overrides: overrides[-1].partition("=")[2])
def test_no_step_reads_back_from_the_device(smoke, tmp_path, overrides):
    settings = smoke(*overrides, "rule=bp" if "model=fm" in overrides else "rule=dfa", "recipe.gradient_clip=1.0")
    trainer = Trainer(build_fabric(settings), settings, Record(tmp_path), "identity")
    trainer.learner.train()
    first, then = itertools.islice(itertools.cycle(trainer.feed.batches(1, trainer.shard)), 2)
    trainer.step(first)  # draws the matrices
    then = trainer.fabric.to_device(then)
    with Watching() as watching:
        trainer._backward(then)
        trainer.fabric.clip_gradients(trainer.learner, trainer.optimizer, max_norm=1.0, error_if_nonfinite=False)
    assert watching.seen == []


def test_what_reads_back_is_seen():
    values = torch.arange(4.0)
    with Watching() as watching:
        float(values.sum())
        values[values > 1]
        values.to(torch.float64)
        torch.tensor(1.0)
    assert [each.split(".")[1] for each in watching.seen] == ["_local_scalar_dense", "index", "_to_copy", "lift_fresh"]


@pytest.mark.parametrize(
    "options, reason",
    [
        (["model=gcn", "rule=dfa"], None),
        (["task=clicks", "model=deepfm", "rule=fa"], None),  # linear layers and embeddings
        (["model=gcn", "rule=fa"], "rule=fa runs layers of this model again in the backward"),
        (["model=gcn", "rule=dkp"], "rule=dkp does work of its own at each step"),
        (["task=clicks", "model=deepfm", "rule=sign", "rule.magnitude=batch"], "does work of its own at each step"),
        (["model=gcn", "rule=dfa", "rule.streaming=true"], "the model runs again"),
        (["model=gcn", "rule=dfa", "recipe.optimizer=radam"], "recipe.optimizer=radam is not Adam"),
        (["task=language", "rule=dfa", "recipe=transformer/one_cycle"], "changes the momentum"),
    ],
)
def test_what_cannot_be_captured(smoke, options, reason):
    settings = smoke(*options)
    model, attachment = build_learner(settings, build_task(settings))
    obstacle = why_not(settings, torch.device("cuda"), 1, build_optimizer(model, settings.recipe), attachment)
    assert obstacle is None if reason is None else reason in str(obstacle)


class WithoutGraph(CapturedStep):
    """Everything but CUDA: notes which batches go where."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
        optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
        super().__init__(lambda batch: self.note("alone", batch), optimizer, torch.device("cpu"))
        self.told: list[tuple[str, int]] = []

    def note(self, how: str, batch: torch.Tensor) -> torch.Tensor:
        self.told.append((how, len(batch)))
        return batch.sum()

    def _beside(self, batch: Any) -> torch.Tensor:
        return self.note("beside", batch)

    def _capture(self, batch: Any) -> bool:
        self._graph: Any = batch
        return True

    def _replay(self) -> torch.Tensor:
        return self.note("graph", self._graph)


def test_the_graph_is_of_the_largest_batches_and_reads_each(monkeypatch):
    step = WithoutGraph(monkeypatch)
    batches = [torch.full((size,), float(at)) for at, size in enumerate([2, 5, 5, 2, 5, 5, 2, 5])]
    assert [float(step(batch)) for batch in batches] == [float(batch.sum()) for batch in batches]
    names = ["beside", "beside", "beside", "alone", "beside", "graph", "alone", "graph"]
    assert step.told == [(name, len(batch)) for name, batch in zip(names, batches, strict=True)]


def test_a_finished_run_with_captured_steps_is_freed_at_once(smoke, tmp_path, monkeypatch):
    class Direct:
        is_captured = True

        def __init__(self, step: Any, *_: Any) -> None:
            self.step = step

        def __call__(self, batch: Any) -> torch.Tensor:
            return self.step(batch)

    monkeypatch.setattr(loop, "why_not", lambda *_: None)
    monkeypatch.setattr(loop, "CapturedStep", Direct)
    settings = smoke("task=links", "rule=dfa", "trainer.max_epochs=2", "trainer.capture=true")
    trainer = Trainer(build_fabric(settings), settings, Record(tmp_path), "identity")
    assert trainer.train().state.captured
    held = weakref.ref(trainer.model)
    gc.disable()
    try:
        del trainer
        assert held() is None
    finally:
        gc.enable()


@cuda
@pytest.mark.parametrize("rule", ["bp", "dfa", "shallow"])
@pytest.mark.parametrize("name", TASKS)
def test_captured_steps_learn_what_uncaptured_ones_learn(smoke, tmp_path, capfd, name, rule):
    found = {}
    for capture in (False, True):
        options = [f"trainer.capture={capture}", "trainer.accelerator=cuda", f"store.root={tmp_path / str(capture)}"]
        settings = smoke(*TASKS[name], f"rule={rule}", *options)
        (tmp_path / f"record-{capture}").mkdir()
        trainer = Trainer(build_fabric(settings), settings, Record(tmp_path / f"record-{capture}"), "identity")
        trained = trainer.train()
        found[capture] = (trained.metrics["train/loss"], [each.detach().clone() for each in trainer.model.parameters()])
        if capture:
            assert trainer.captured is not None
            assert trainer.captured.is_captured
    assert "could not be captured" not in capfd.readouterr().err
    close = {"rtol": 1e-2, "atol": 1e-3} if "bf16" in name else {"rtol": 1e-3, "atol": 1e-5}
    torch.testing.assert_close(found[True], found[False], **close)


@cuda
def test_a_step_that_cannot_be_captured_runs_uncaptured_and_says_so(smoke, capfd, monkeypatch):
    loss = NodeClassification.loss
    looked_at = []

    def curious(*arguments):
        value = loss(*arguments)
        looked_at.append(value.item())  # the CPU waits for the device: no graph can hold that
        return value

    monkeypatch.setattr(NodeClassification, "loss", curious)
    options = ["model=gat", "rule=dfa", "trainer.max_epochs=8", "trainer.accelerator=cuda"]  # gat: dropout goes on
    captured = execute(smoke(*options, "trainer.capture=true")).result
    assert captured.steps == 8
    assert len(looked_at) == 8
    assert capfd.readouterr().err.count("the step could not be captured") == 1
    plain = execute(smoke(*options, "force=true")).result
    assert captured.metrics == pytest.approx(plain.metrics, rel=1e-3)


@cuda
def test_a_captured_run_that_was_interrupted_goes_on(smoke, monkeypatch):
    options = ["model=gat", "rule=dfa", "trainer.accelerator=cuda", "trainer.capture=true", "trainer.max_epochs=12"]
    whole = execute(smoke(*options)).result
    evaluate, epochs = NodeClassification.evaluate, iter(range(6))

    def failing(*arguments):
        if next(epochs, None) is None:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setattr(NodeClassification, "evaluate", failing)
    settings = smoke(*options, "force=true", "trainer.checkpoint_seconds=0")
    with pytest.raises(KeyboardInterrupt):
        execute(settings)
    monkeypatch.setattr(NodeClassification, "evaluate", evaluate)
    resumed = execute(settings.model_copy(update={"force": False})).result
    assert resumed.metrics == pytest.approx(whole.metrics, rel=1e-3)


@pytest.mark.parametrize(
    "options, reason",
    [
        ([], "needs a CUDA device"),
        pytest.param(
            ["task=clicks", "model=fm", "rule=bp", "recipe.optimizer=lazy_adam", "trainer.accelerator=cuda"],
            "other rows at each step",
            marks=cuda,
        ),
    ],
)
def test_where_no_step_can_be_captured_a_line_says_so(smoke, capfd, options, reason):
    base = ["model=gcn", "rule=dfa"] if "task=clicks" not in options else []
    execute(smoke(*base, "trainer.max_epochs=1", *options, "trainer.capture=true"))
    (line,) = [each for each in capfd.readouterr().err.splitlines() if each.startswith("trainer.capture")]
    assert reason in line
    execute(smoke(*base, "trainer.max_epochs=1", *options, "trainer.capture=auto", "force=true"))
    assert "trainer.capture" not in capfd.readouterr().err

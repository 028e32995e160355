"""What the trainer tells an attachment at each step, and when."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from dfa_bench.errors import ConfigError
from dfa_bench.runs.record import Record
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.graphs.nodes import NodeClassification
from dfa_bench.training.rules import check_needs
from dfa_bench.training.trainer import Trainer, build_fabric


@pytest.fixture
def trainer_of(tmp_path) -> Iterator[Callable[[RunSettings], Trainer]]:
    """A trainer of settings; the number of threads is put back."""
    threads = torch.get_num_threads()

    def build(settings: RunSettings) -> Trainer:
        (tmp_path / "record").mkdir()
        return Trainer(build_fabric(settings), settings, Record(tmp_path / "record"), "identity")

    yield build
    torch.set_num_threads(threads)


def listened_to(trainer: Trainer, needs: frozenset[str]) -> tuple[list[str], list[dict[str, Tensor]]]:
    """What happens in training, in order, and what each `begin_step` was given."""
    events: list[str] = []
    inputs: list[dict[str, Tensor]] = []

    class Listening(type(trainer.attachment)):  # type: ignore[misc]
        @property
        def needs(self) -> frozenset[str]:
            return needs

        def begin_step(self, **given: Tensor) -> None:
            super().begin_step(**given)
            events.append("begin")
            inputs.append(given)

        def end_step(self) -> None:
            super().end_step()
            events.append("end")

    trainer.attachment.__class__ = Listening
    trainer.model.register_forward_hook(lambda model, *_: events.append("forward" if model.training else "evaluate"))
    last = list(trainer.model.parameters())[-1]
    last.register_post_accumulate_grad_hook(lambda _: events.append("backward"))
    trainer.optimizer.optimizer.register_step_post_hook(lambda *_: events.append("optimizer"))
    return events, inputs


STEP = ["begin", "forward", "backward", "optimizer", "end"]


def test_a_step_begins_before_the_forward_and_ends_after_the_optimizer(smoke, trainer_of):
    trainer = trainer_of(smoke("model=gcn", "rule=dfa", "trainer.max_epochs=2"))
    events, inputs = listened_to(trainer, frozenset())
    trainer.train()
    assert events == [*STEP, "evaluate", *STEP, "evaluate", "evaluate"]
    assert inputs == [{}, {}]


def test_a_step_that_measures_alignment_begins_once(smoke, trainer_of):
    trainer = trainer_of(smoke("model=gcn", "rule=dfa", "trainer.max_epochs=1", "trainer.alignment_every=1"))
    events, _ = listened_to(trainer, frozenset())
    trainer.train()
    assert events == ["begin", "forward", "backward", "forward", "backward", "optimizer", "end", "evaluate", "evaluate"]


def test_a_rule_gets_what_it_needs_of_a_batch_and_no_more(smoke, trainer_of, monkeypatch):
    for name in ("targets", "nodes_of"):
        monkeypatch.setattr(NodeClassification, name, staticmethod(lambda batch: batch.labels), raising=False)
    trainer = trainer_of(smoke("model=gcn", "rule=dfa", "trainer.max_epochs=1"))
    _, inputs = listened_to(trainer, frozenset({"targets"}))
    trainer.train()
    (given,) = inputs
    assert given.keys() == {"targets"}
    assert torch.equal(given["targets"], trainer.task.labels[trainer.task.nodes["train"]])


def test_a_rule_that_needs_what_no_task_provides_is_refused(smoke, trainer_of, monkeypatch):
    monkeypatch.delattr(NodeClassification, "targets")
    trainer = trainer_of(smoke("model=gcn", "rule=dfa"))
    listened_to(trainer, frozenset({"targets"}))
    with pytest.raises(ConfigError, match="rule=dfa needs the targets of a batch, which NodeClassification"):
        check_needs(trainer.attachment, trainer.task, trainer.settings.rule)


def test_the_rule_is_off_the_model_when_training_fails(smoke, trainer_of, monkeypatch):
    trainer = trainer_of(smoke("model=gcn", "rule=dfa"))
    hooked = [len(module._forward_hooks) for module in trainer.model.modules()]
    assert sum(hooked) > 0

    def fails(*args: object) -> None:
        raise ConfigError("no")

    monkeypatch.setattr(NodeClassification, "evaluate", fails)
    with pytest.raises(ConfigError):
        trainer.train()
    assert sum(len(module._forward_hooks) for module in trainer.model.modules()) == 0

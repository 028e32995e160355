"""Signals that end a run early: what they leave, and that the run then goes on as if nothing had been."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from torch.optim.optimizer import register_optimizer_step_post_hook

from dfa_bench.errors import Preempted
from dfa_bench.runs.record import Record
from dfa_bench.runs.store import record_of
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.graphs.nodes import NodeClassification
from dfa_bench.training.checkpoint import read_tensors
from dfa_bench.training.execute import execute, run_identity

# Each has dropout or draws of its own within an epoch, so that random state counts.
TASKS = {
    "nodes": ["model=gat", "trainer.max_epochs=6"],
    "links": ["task=links", "trainer.max_epochs=6"],
    "clicks": ["task=clicks", "model=deepfm", "trainer.max_epochs=2"],
    "language": ["task=language", "model.dropout=0.1", "trainer.max_epochs=2"],
    "view_synthesis": ["task=view_synthesis", "trainer.max_epochs=2"],
}


@pytest.fixture
def at_step() -> Iterator[Callable[[int, int], None]]:
    """Send this process a signal while the optimizer takes its n-th step from now on."""
    hooks = []

    def arm(number: int, sent: int) -> None:
        steps = iter(range(number - 1, -1, -1))
        hooks.append(register_optimizer_step_post_hook(lambda *_: next(steps, 1) or os.kill(os.getpid(), sent)))

    yield arm
    for hook in hooks:
        hook.remove()


def record(settings: RunSettings) -> Record:
    return record_of(settings, run_identity(settings)[0])


def curve(settings: RunSettings) -> list[dict[str, float]]:
    return [{**line, "seconds": 0.0} for line in record(settings).read_metrics()]


@pytest.mark.parametrize("task", TASKS)
def test_a_run_that_was_told_to_end_within_an_epoch_goes_on_from_that_step(smoke, tmp_path, at_step, task):
    overrides = [*TASKS[task], "rule=dfa"]
    whole = smoke(*overrides, f"store.root={tmp_path / 'whole'}")
    result = execute(whole).result
    per_epoch = result.steps // result.epochs
    settings = smoke(*overrides)
    stops_at = per_epoch + max(1, per_epoch // 2)  # in the middle of the second epoch
    at_step(stops_at, signal.SIGUSR1)
    with pytest.raises(Preempted) as end:
        execute(settings)
    assert end.value.status == 75
    progress = read_tensors(record(settings).checkpoint)["progress"]
    assert progress["steps"] == stops_at
    resumed = execute(settings).result
    assert (resumed.metrics, resumed.steps) == (result.metrics, result.steps)
    assert curve(settings) == curve(whole)
    left = {path.name for path in record(settings).folder.iterdir()}
    assert left == {path.name for path in record(whole).folder.iterdir()}


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_during_evaluation_does_not_wait_for_its_end(smoke, monkeypatch, number, status):
    settings = smoke("model=gat", "rule=dfa", "trainer.max_epochs=3")
    evaluate, ended = NodeClassification.evaluate, []

    def interrupted(*arguments: object) -> dict[str, float]:
        os.kill(os.getpid(), number)
        ended.append(True)
        return {}

    monkeypatch.setattr(NodeClassification, "evaluate", interrupted)
    with pytest.raises(Preempted) as end:
        execute(settings)
    assert end.value.status == status
    assert not ended
    monkeypatch.setattr(NodeClassification, "evaluate", evaluate)
    assert read_tensors(record(settings).checkpoint)["progress"]["steps"] == 1
    resumed = execute(settings).result
    again = execute(settings.model_copy(update={"force": True})).result
    assert (resumed.metrics, resumed.steps) == (again.metrics, again.steps)


ORPHAN = """
import os, sys, time
from dfa_bench.training.preemption import end_with_launcher, launches_workers
launches_workers()
launcher = os.getpid()
if os.fork() == 0:
    while os.getppid() == launcher:
        time.sleep(0.01)
    end_with_launcher()
    time.sleep(100)
    print("it lives")
"""


def test_a_worker_ends_whose_launcher_was_gone_before_it_began():
    done = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True)  # waits for both
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_forced_run_that_is_interrupted_goes_on_instead_of_starting_anew(smoke, at_step):
    settings = smoke("model=gcn", "rule=bp", "trainer.max_epochs=6", "force=true")
    execute(settings)
    at_step(4, signal.SIGTERM)
    with pytest.raises(Preempted):
        execute(settings)
    at_step(3, signal.SIGTERM)  # never reached: two steps are left
    assert execute(settings).result.steps == 6

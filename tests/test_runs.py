"""A run: its identity, its record, resuming, and what stops it."""

import json
import math
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from dfa_bench.errors import ConfigError, RecordError
from dfa_bench.runs.identity import identity
from dfa_bench.runs.record import Record
from dfa_bench.runs.store import record_of
from dfa_bench.settings.schema import DataSettings
from dfa_bench.tasks.base import build_dataset
from dfa_bench.tasks.graphs.nodes import NodeClassification
from dfa_bench.training.checkpoint import RunState
from dfa_bench.training.execute import _counts, execute, run_identity
from dfa_bench.training.finished import trained_parts
from dfa_bench.training.trainer import Trainer, build_fabric


def test_a_record_has_metrics_cost_protocol_and_provenance(smoke):
    outcome = execute(smoke())
    written = json.loads((outcome.folder / "result.json").read_text())
    assert {"test/accuracy", "val/accuracy"} <= set(written["metrics"])
    assert {"wall_seconds", "step_seconds", "peak_memory_mib", "numerics"} <= set(written)
    assert written["protocol"] == "reduced"
    assert written["data_kind"] == "stand-in"


def test_a_finished_run_is_not_run_again_unless_forced(smoke):
    first, again, forced = execute(smoke()), execute(smoke()), execute(smoke("force=true"))
    assert (first.reused, again.reused, forced.reused) == (False, True, False)
    assert forced.result.metrics == first.result.metrics


@pytest.mark.parametrize(
    "override", ["logger=wandb", "trainer.threads=1", "force=true", "variant=paper", "trainer.alignment_every=2"]
)
def test_identity_does_not_see_what_cannot_change_the_outcome(smoke, override):
    assert run_identity(smoke("rule=bp"))[0] == run_identity(smoke("rule=bp", override))[0]


@pytest.mark.parametrize("override", ["seed=1", "recipe.lr=0.02", "rule=dfa", "model.hidden=8", "trainer.max_epochs=7"])
def test_identity_sees_what_can_change_the_outcome(smoke, override):
    assert run_identity(smoke("rule=bp"))[0] != run_identity(smoke("rule=bp", override))[0]


def test_identity_sees_the_data_and_the_version_of_the_code(smoke):
    settings = smoke()
    dataset = build_dataset(settings)
    cards = dataset.card(settings.data), dataset.card(DataSettings())
    assert len({identity(settings, cards[0], 1), identity(settings, cards[1], 1), identity(settings, cards[0], 2)}) == 3


PLATEAU = ["recipe.schedule.name=plateau", "recipe.schedule.factor=0.9"]


@pytest.mark.parametrize("task", [["model=gcn", *PLATEAU], ["task=links", "model=gae"]])
def test_a_killed_run_goes_on_and_ends_with_the_same_metrics(smoke, tmp_path, task):
    # dfa-bench run in a process of its own, killed as soon as a checkpoint of a few epochs is there.
    overrides = [*task, "rule=dfa", "trainer.max_epochs=400"]
    whole = execute(smoke(*overrides, f"store.root={tmp_path / 'whole'}"))
    settings = smoke(*overrides)
    record = record_of(settings, run_identity(settings)[0])
    command = [sys.executable, "-m", "dfa_bench", "run", "scale=smoke", *overrides, f"store.root={tmp_path / 'runs'}"]
    command += ["trainer.accelerator=cpu", "trainer.checkpoint_seconds=0"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not record.checkpoint.exists() and process.poll() is None:
        threading.Event().wait(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert record.read_result() is None, "it was killed before its end"
    kept = record.checkpoint if record.checkpoint.exists() else record.previous_checkpoint
    assert 0 < torch.load(kept)["progress"]["steps"] < 400
    resumed = execute(settings)
    assert resumed.result.metrics == whole.result.metrics
    curves = [
        [{name: value for name, value in line.items() if name != "seconds"} for line in lines]
        for lines in (record_of(settings, resumed.result.identity).read_metrics(), _lines(whole.folder))
    ]
    assert curves[0] == curves[1]
    assert [line["epoch"] for line in curves[0]] == list(range(1, 401))


def _lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


TORTURE = Path(__file__).parents[1] / ".ci" / "torture.py"


@pytest.mark.skipif(not TORTURE.exists(), reason="an installed package has no torture script")
def test_a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_been(tmp_path):
    command = [sys.executable, TORTURE, "--quick", tmp_path / "torture"]  # `make torture` does it for half an hour
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(re.search(r"a run; kills: (\d+)", done.stdout)[1]) > 0


def test_the_first_epoch_with_the_best_validation_is_tested(smoke):
    outcome = execute(smoke("trainer.max_epochs=30", "rule=bp"))
    values = [line["val/accuracy"] for line in _lines(outcome.folder)]
    assert outcome.result.best_epoch == values.index(max(values)) + 1
    assert outcome.result.metrics["val/accuracy"] == max(values)


def test_patience_stops_a_run_that_no_longer_gets_better(smoke):
    outcome = execute(smoke("trainer.max_epochs=400", "trainer.patience=3", "rule=bp"))
    assert outcome.result.epochs == outcome.result.best_epoch + 3 < 400


def test_the_best_weights_may_count_only_if_patience_ran_out(smoke):
    chosen = ["trainer.keep=best_if_stopped", "trainer.max_epochs=30", "rule=bp"]
    stopped, whole = execute(smoke(*chosen, "trainer.patience=3")), execute(smoke(*chosen))
    for outcome, epoch in ((stopped, stopped.result.best_epoch), (whole, 30)):
        assert outcome.result.metrics["train/loss"] == _lines(outcome.folder)[epoch - 1]["train/loss"]
    assert whole.result.best_epoch < 30, "the test would not tell them apart"


def test_an_infinite_loss_stops_the_run_and_the_record_says_so(smoke):
    result = execute(smoke("recipe.lr=1e30", "trainer.max_epochs=20", "rule=bp")).result
    assert result.status == "diverged"
    assert "recipe.lr" in result.message
    assert result.metrics == {}


def test_a_run_that_diverged_tells_how_far_it_came(smoke, monkeypatch):
    loss, calls = NodeClassification.loss, iter(range(1, 1000))
    monkeypatch.setattr(NodeClassification, "loss", lambda *given: loss(*given) * (math.nan if next(calls) > 3 else 1))
    outcome = execute(smoke("trainer.max_epochs=20", "rule=bp"))
    result = outcome.result
    assert (result.status, result.epochs, result.steps) == ("diverged", 3, 4)
    assert [line["epoch"] for line in _lines(outcome.folder)] == [1, 2, 3]
    assert min(result.wall_seconds, result.step_seconds, result.peak_memory_mib) > 0
    assert not list(outcome.folder.glob("failed.json")), "a diverged run is done"


def test_a_forced_run_begins_anew_whatever_checkpoint_was_left(smoke):
    outcome = execute(smoke("rule=bp"))
    record = Record(outcome.folder)
    state = RunState(epoch=outcome.result.epochs, steps=outcome.result.steps)
    torch.save({"identity": outcome.result.identity, "progress": vars(state)}, record.previous_checkpoint)
    forced = execute(smoke("rule=bp", "force=true")).result  # would have nothing left to do, or fail, if it resumed
    assert (forced.steps, forced.metrics) == (outcome.result.steps, outcome.result.metrics)
    assert not record.previous_checkpoint.exists()


@pytest.mark.parametrize("seconds, saved_at", [(0, [0, 0]), (1e-9, [1, 2, 0, 1, 2, 0])])
def test_checkpoints_are_written_after_every_epoch_or_every_so_often(smoke, tmp_path, monkeypatch, seconds, saved_at):
    settings = smoke("task=view_synthesis", "task.steps_per_epoch=2", f"trainer.checkpoint_seconds={seconds}")
    trainer, steps = Trainer(build_fabric(settings), settings, Record(tmp_path), "identity"), []
    save = trainer._save
    monkeypatch.setattr(trainer, "_save", lambda: (steps.append(trainer.state.step), save()))
    trainer.train()
    assert steps == saved_at


def test_a_process_that_follows_trains_where_the_one_that_leads_does(smoke, monkeypatch):
    done = execute(smoke("rule=dfa"))
    measured = smoke("rule=dfa", "trainer.alignment_every=1")
    record = Record(done.folder)
    for settings, counts in ((smoke("rule=dfa"), True), (smoke("rule=dfa", "force=true"), False), (measured, False)):
        assert _counts(settings, record, done.result) is counts


def test_a_record_without_weights_says_so(smoke):
    outcome = execute(smoke("trainer.max_epochs=1"))
    (outcome.folder / "model.pt").unlink()
    with pytest.raises(RecordError, match=r"model\.pt is not there: .* Run it again with force=true"):
        trained_parts(outcome.folder)


@pytest.mark.parametrize("model", ["cheb", "gcn", "spline", "gat", "dna"])
def test_bfloat16_trains(smoke, model):
    result = execute(smoke(f"model={model}", "trainer.precision=bf16-mixed", "trainer.max_epochs=2")).result
    assert result.status == "finished"


def test_weight_decay_on_a_parameter_that_is_not_there_is_refused(smoke):
    with pytest.raises(ConfigError, match=r"'conv9\.\*' matches no parameter.*conv1\.weight"):
        execute(smoke("recipe.decay_only=[conv9.*]"))


def test_a_checkpoint_of_other_settings_is_refused(smoke):
    settings = smoke()
    record = record_of(settings, run_identity(settings)[0])
    record.create()
    torch.save({"identity": "another"}, record.checkpoint)
    with pytest.raises(RecordError, match="belongs to the run another, not to"):
        execute(settings)


def test_a_damaged_checkpoint_is_refused(smoke):
    settings = smoke()
    record = record_of(settings, run_identity(settings)[0])
    record.create()
    record.checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(RecordError, match="damaged"):
        execute(settings)


@pytest.mark.parametrize("text, message", [('{"record_version": 0}', "version 0"), ("{", "damaged")])
def test_a_record_of_another_version_or_a_damaged_one_is_refused(smoke, text, message):
    outcome = execute(smoke())
    (outcome.folder / "result.json").write_text(text)
    with pytest.raises(RecordError, match=message):
        execute(smoke())


def test_a_store_that_cannot_be_written_is_named(smoke, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="file/runs"):
        execute(smoke(f"store.root={tmp_path / 'file' / 'runs'}"))


FULL_DISK = """
import resource, signal, sys
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.errors import UserError
from dfa_bench.training import execute as module
settings = run_settings(sys.argv[1:])
module.run_identity(settings)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    module.execute(settings)
except UserError as error:
    print(type(error).__name__, error)
"""


def test_a_disk_that_fills_up_costs_no_result(smoke, tmp_path):
    overrides = ["scale=smoke", f"store.root={tmp_path / 'runs'}", "trainer.progress=none"]
    told = subprocess.run([sys.executable, "-c", FULL_DISK, *overrides], capture_output=True, text=True).stdout
    assert told.startswith("RecordError")
    assert "store.root=DIR" in told
    settings = smoke()
    record = record_of(settings, run_identity(settings)[0])
    assert record.read_result() is None
    assert not list(record.folder.glob(".model.pt.*")), "no half-written file stays"
    assert execute(settings).result.status == "finished"


def test_two_processes_at_one_run_do_it_once(smoke, tmp_path):
    command = [sys.executable, "-m", "dfa_bench", "run", "scale=smoke"]
    command += [f"store.root={tmp_path / 'runs'}", "trainer.max_epochs=100"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum("Done before" in output for output in outputs) == 1
    assert outputs[0].splitlines()[-1] == outputs[1].splitlines()[-1]

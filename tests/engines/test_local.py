"""Processes of this machine, and what is done about those that are gone."""

import json
import os
import signal
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

import pytest

from dfa_bench.errors import ConfigError, Preempted
from dfa_bench.experiments.engines import local
from dfa_bench.experiments.engines.gpus import Load, loads
from dfa_bench.experiments.engines.local import LocalEngine
from dfa_bench.experiments.engines.work import Report
from dfa_bench.settings.engines import LocalSettings, engine_settings
from dfa_bench.settings.schema import RunSettings
from tests.engines.conftest import assert_done_as_undisturbed, do


def test_a_run_whose_process_is_killed_is_done_in_another(planned, tmp_path, at_checkpoint):
    runs = planned(1, "trainer.max_epochs=400")
    killed = []

    def kill(folder: Path) -> None:
        killed.append(json.loads((folder / "running.json").read_text())["pid"])
        os.kill(killed[0], signal.SIGKILL)

    at_checkpoint(tmp_path / "runs", kill)
    assert do(runs, LocalEngine(LocalSettings(name="local", jobs=1), [run.settings for run in runs]), retry=1) == []
    assert killed
    assert_done_as_undisturbed(runs, tmp_path)


class Scripted:
    """An engine that tells what it is given to tell, in order of submission."""

    says = "nowhere"

    def __init__(self, *reports: Report) -> None:
        self.reports, self.waiting, self.submitted, self.closed = deque(reports), deque[str](), [], False

    def submit(self, runs: Mapping[str, RunSettings]) -> None:
        self.waiting.extend(runs)
        self.submitted.extend(runs)

    def finished(self, seconds: float) -> dict[str, Report]:
        report = self.reports.popleft()
        if report.status == "preempted" and report.reason == "Ctrl-C":
            raise Preempted(signal.SIGINT)
        return {self.waiting.popleft(): report}

    def close(self) -> None:
        self.closed = True


DONE, LOST, PREEMPTED = Report("done"), Report("lost", "gone"), Report("preempted")


def test_lost_runs_are_retried_and_preempted_ones_without_counting(planned):
    first, second = (run.identity for run in planned(2))
    engine = Scripted(LOST, PREEMPTED, LOST, DONE)
    failures = do(planned(2), engine, retry=1)
    assert engine.submitted == [first, second, first, second]
    assert [failure.reason for failure in failures] == ["gone, 2 times"]
    assert engine.closed


def test_so_many_failures_end_the_others(planned, capsys):
    engine = Scripted(DONE, Report("failed", "no"), DONE)
    failures = do(planned(3), engine, max_failures=1)
    assert [failure.reason for failure in failures] == ["no"]
    assert failures[0].command.startswith("dfa-bench run task=links")
    assert "1 run failed: the other 1 is not done" in capsys.readouterr().err
    assert engine.closed


def test_an_interrupted_command_closes_its_engine(planned):
    engine = Scripted(DONE, Report("preempted", "Ctrl-C"))
    with pytest.raises(Preempted):
        do(planned(2), engine)
    assert engine.closed


def test_each_gpu_has_its_runs_and_threads_do_not_fight(smoke, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2,3")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    settings = smoke("trainer.accelerator=auto")

    def environments(runs: list[RunSettings], **given: int) -> list[tuple[str | None, str]]:
        engine = LocalEngine(LocalSettings(name="local", **given), runs)
        return [(each.get("CUDA_VISIBLE_DEVICES"), each["OMP_NUM_THREADS"]) for each in engine._environments]

    assert environments([settings]) == [("0", "4"), ("2", "4"), ("3", "4")]
    assert environments([settings], per_gpu=2) == [(gpu, "2") for gpu in ("0", "2", "3", "0", "2", "3")]
    pair = settings.model_copy(update={"trainer": settings.trainer.model_copy(update={"devices": 2})})
    assert environments([pair]) == [("0,2", "6")]
    assert environments([smoke("trainer.accelerator=cpu")], jobs=4) == [(None, "3")] * 4
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what the user says stays
    assert environments([smoke("trainer.accelerator=cpu")], jobs=4) == [(None, "1")] * 4


SMI = """#!/bin/sh
cat {told}
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """nvidia-smi, which says what the test writes for it."""
    told, program = tmp_path / "told", tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(SMI.format(told=told))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    def say(*gpus: tuple[object, object, object]) -> None:
        lines = [f"{n}, GPU-{n}, {total}, {used}, {busy}" for n, (total, used, busy) in enumerate(gpus)]
        told.write_text("\n".join(lines) + "\n")

    return say


class Puppets(LocalEngine):
    """Its runs end when the test says so."""

    def _start(self, run: RunSettings, slot: int) -> Future[Report]:
        self.started = [*getattr(self, "started", []), run.seed]
        return Future()

    def end(self, seed: int, report: Report) -> dict[str, Report]:
        (future,) = (future for future, each in self._running.items() if each.run.seed == seed)
        future.set_result(report)
        return self.finished(0)


@pytest.fixture
def puppets(smoke, monkeypatch):
    def build(gpus: str, number: int) -> Puppets:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        monkeypatch.setattr(local, "SETTLED", 0.0)
        runs = {str(seed): smoke("trainer.accelerator=auto", f"seed={seed}") for seed in range(number)}
        engine = Puppets(LocalSettings(name="local", per_gpu="auto"), [*runs.values()])
        engine.submit(runs)
        return engine

    return build


IDLE = (80000, 3000, 40)


@pytest.mark.parametrize(
    "load, number",
    [
        (IDLE, 5),
        ((80000, 3000, 97), 1),  # no kernel would find a gap
        ((8000, 5000, 10), 1),  # no memory for another one
    ],
)
def test_runs_join_those_on_a_gpu_that_is_neither_full_nor_busy(smi, puppets, load, number):
    smi(load)
    assert len(puppets("0", 5).started) == number


def test_cores_limit_the_runs_of_a_gpu_too_and_the_emptier_gpu_comes_first(smi, puppets):
    smi(IDLE, IDLE)
    engine = puppets("GPU-0,GPU-1", 12)
    assert (
        engine.says == "8 at a time on this machine's 8 cores and 2 GPUs, as far as memory and load of the GPUs allow"
    )
    assert len(engine.started) == 8
    assert [each.slot % 2 for each in engine._running.values()] == [0, 1] * 4


def test_a_run_waits_until_the_last_one_shows_what_it_takes(smi, puppets, monkeypatch):
    smi(IDLE)
    engine = puppets("0", 1)
    monkeypatch.setattr(local, "SETTLED", 60.0)
    engine.submit({"late": next(iter(engine._running.values())).run})
    assert len(engine.started) == 1
    monkeypatch.setattr(local, "SETTLED", 0.0)
    engine.finished(0)
    assert len(engine.started) == 2


def test_a_run_without_memory_beside_others_goes_on_alone(smi, puppets):
    smi(IDLE)
    engine = puppets("0", 3)
    none = Report("failed", "Out of memory", out_of_memory=True)
    assert engine.end(1, none) == {}, "it is no failure yet"
    assert engine.end(0, Report("done")).keys() == {"0"}
    engine.submit({"9": next(iter(engine._running.values())).run.model_copy(update={"seed": 9})})
    assert engine.started == [0, 1, 2], "none may come before it, or it would wait forever"
    assert engine.end(2, Report("done")).keys() == {"2"}
    assert engine.started == [0, 1, 2, 1]
    assert engine.end(1, none) == {"1": none}, "alone it is one"
    assert engine.started[-1] == 9


def test_without_an_answer_of_nvidia_smi_a_number_is_asked_for(puppets, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="nvidia-smi how full GPUs are.*Give a number"):
        puppets("0", 1)


def test_what_nvidia_smi_does_not_measure_is_left_out(smi):
    smi(IDLE, ("[N/A]", "[N/A]", "[N/A]"))
    assert loads() == dict.fromkeys(("0", "GPU-0"), Load(80000, 3000, 0.4))


def test_a_sweep_goes_through_an_engine_and_what_is_done_is_not_done_again(say, tmp_path):
    words = ["run", "-m", "--engine", "local", "--jobs=1", "scale=smoke", "task=links", f"store.root={tmp_path}"]
    words += ["trainer.accelerator=cpu", "trainer.max_epochs=2"]
    status, said, _ = say(*words, "rule=bp,dfa")
    assert status == 0, said
    assert "2 of 2 runs to do, 1 at a time" in said
    assert said.endswith("2 of 2 runs are done.\n")
    assert sorted(path.parent.name.split("-")[3] for path in tmp_path.glob("*/result.json")) == ["bp", "dfa"]
    status, said, told = say(*words, "rule=bp,dfa,shallow", "recipe.weight_decay=0,-1")
    assert status == 1
    assert "1 of 3 runs to do" in said
    assert "3 of 6 runs are done." in said, "three have an impossible setting"
    assert told.count("recipe.weight_decay=-1") == 3


def test_a_damaged_record_fails_its_own_run_of_a_sweep_only(say, tmp_path):
    words = ["run", "-m", "--engine", "local", "--jobs=1", "scale=smoke", "task=links", f"store.root={tmp_path}"]
    words += ["trainer.accelerator=cpu", "trainer.max_epochs=2", "rule=bp"]
    assert say(*words, "seed=0")[0] == 0
    next(tmp_path.glob("*/result.json")).write_text("{")
    status, said, told = say(*words, "seed=0,1")
    assert status == 1
    assert "1 of 2 runs are done." in said
    assert "is damaged" in told
    assert "Run it again with force=true" in told
    assert sum("finished" in path.read_text() for path in tmp_path.glob("*/result.json")) == 1


@pytest.mark.parametrize(
    "words, reason",
    [
        (["--engine", "cloud"], "invalid choice: 'cloud'"),
        (["--jobs", "2"], "--jobs 2 needs --engine"),
        (["--engine", "slurm", "engine.partitoin=a"], "engine.partitoin"),
        (["--engine", "local", "hydra/launcher=joblib"], "exclude each other"),
    ],
)
def test_an_impossible_engine_of_a_sweep_is_told(say, words, reason):
    status, _, told = say("run", "-m", "scale=smoke", *words)
    assert status == 2
    assert reason in told


def test_settings_of_an_engine_are_checked():
    assert engine_settings("slurm", ["engine.partition=gpu", "engine.minutes=30"], jobs=8).jobs == 8
    with pytest.raises(ConfigError, match=r"^engine.per_gpu=two: input should be a valid integer or 'auto'\.$"):
        engine_settings("local", ["engine.per_gpu=two"], None)
    for given, told in {"engine.partitoin=a": "engine.partitoin", "engine.minutes=x": "engine.minutes=x"}.items():
        with pytest.raises(ConfigError, match=told):
            engine_settings("slurm", [given], None)
    with pytest.raises(ConfigError, match=r"Did you mean 'jobs'\? configs/engine/local.yaml has jobs, per_gpu\.$"):
        engine_settings("local", ["engine.job=2"], None)

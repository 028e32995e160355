"""Processes of this machine, and what is done about those that are gone."""

import json
import os
import signal
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import pytest

from dfa_bench.errors import ConfigError, Preempted
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
    for given, told in {"engine.partitoin=a": "engine.partitoin", "engine.minutes=x": "engine.minutes=x"}.items():
        with pytest.raises(ConfigError, match=told):
            engine_settings("slurm", [given], None)

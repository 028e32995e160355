"""A real SLURM cluster of this machine alone, started for this file (.ci/slurm.sh) and stopped after it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfa_bench.experiments.dispatch import planned_alone
from dfa_bench.experiments.plan import finished_result
from dfa_bench.settings.engines import SlurmSettings
from dfa_bench.training.execute import execute
from tests.engines.conftest import assert_done_as_undisturbed, do

SCRIPT = Path(__file__).parents[2] / ".ci" / "slurm.sh"
missing = [name for name in ("slurmctld", "slurmd", "munged") if shutil.which(name, path="/usr/sbin:/usr/bin") is None]
pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)} (apt-get install slurm-wlm munge)"),
    pytest.mark.skipif(os.getuid() != 0, reason="starting slurmd takes root"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([SCRIPT, "start", folder], check=True)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield
    del os.environ["SLURM_CONF"]
    subprocess.run([SCRIPT, "stop", folder], check=True)


def engine_below(tmp_path: Path):
    from dfa_bench.experiments.engines.slurm import SlurmEngine

    settings = SlurmSettings(name="slurm", cpus=1, memory_gb=1, minutes=10, jobs=2)
    return SlurmEngine(settings, tmp_path / "runs")


def test_a_job_whose_time_is_up_is_requeued_and_goes_on(cluster, planned, tmp_path, at_checkpoint):
    runs = planned(2, "trainer.max_epochs=400")
    told = []

    def tell(folder: Path) -> None:
        command = ["squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i"]
        told.extend(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        for job in told:
            subprocess.run(["scancel", "--signal=USR2", job], check=False)

    at_checkpoint(tmp_path / "runs", tell)
    assert do(runs, engine_below(tmp_path)) == []
    assert told
    shown = subprocess.run(["scontrol", "show", "job", "--oneliner"], capture_output=True, text=True, check=True).stdout
    assert any(f"Restarts={number}" in shown for number in (1, 2))
    assert_done_as_undisturbed(runs, tmp_path)


def test_a_run_of_two_processes_is_one_job(cluster, smoke, tmp_path):
    overrides = ["task=clicks", "model=fm", "rule=bp"]
    run = planned_alone(smoke(*overrides, "trainer.devices=2"), [*overrides, "trainer.devices=2"])
    assert do([run], engine_below(tmp_path)) == []
    result = finished_result(run)
    assert result is not None
    assert result.numerics == "fp32, 2 processes, cpu"
    alone = execute(smoke(*overrides, f"store.root={tmp_path / 'alone'}"))
    assert result.metrics == pytest.approx(alone.result.metrics, rel=1e-4)


def test_a_command_finds_the_jobs_of_an_interrupted_one_again(cluster, planned, tmp_path, capsys):
    from dfa_bench.experiments.engines.slurm import queued_jobs

    runs = planned(1, "trainer.max_epochs=5")
    first = engine_below(tmp_path)
    first.submit({run.identity: run.settings for run in runs})
    first.close()
    assert "1 SLURM jobs stay in the queue" in capsys.readouterr().err
    queued = queued_jobs()
    again = engine_below(tmp_path)
    again.submit({run.identity: run.settings for run in runs})
    assert queued_jobs() <= queued, "nothing was submitted a second time"
    reports = {}
    while not reports:
        reports = again.finished(1.0)
    assert [report.status for report in reports.values()] == ["done"]


def test_a_cancelled_job_is_told_and_not_done_again(cluster, planned, tmp_path, at_checkpoint):
    runs = planned(1, "trainer.max_epochs=1000000")
    at_checkpoint(tmp_path / "runs", lambda folder: subprocess.run(["scancel", "--name=dfa-bench"], check=True))
    (failure,) = do(runs, engine_below(tmp_path), retry=3)
    assert "was cancelled" in failure.reason

"""One run in several processes: the same run as in one, and what happens when a process is lost."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from dfa_bench.errors import ConfigError, Preempted, RunKilled
from dfa_bench.runs.record import Record
from dfa_bench.runs.store import record_of
from dfa_bench.tasks.base import Shard, build_task
from dfa_bench.training.execute import execute, run_identity
from dfa_bench.training.processes import ProcessPlace, place_among_processes

# Without dropout, which each process draws for itself.
TASKS = {
    "clicks": ["task=clicks", "model=fm", "rule=bp"],
    "language": ["task=language", "model.dropout=0", "rule=dfa"],
    "view_synthesis": ["task=view_synthesis", "rule=dfa", "model.density_noise=1.0"],
}


def curve(folder: Path) -> list[dict[str, float]]:
    return [{**line, "seconds": 0.0} for line in Record(folder).read_metrics()]


@pytest.mark.parametrize("task", TASKS)
def test_two_processes_train_as_one_does(smoke, tmp_path, task):
    one = execute(smoke(*TASKS[task], f"store.root={tmp_path / 'one'}"))
    two = execute(smoke(*TASKS[task], "trainer.devices=2"))
    assert two.result.identity == one.result.identity
    assert (one.result.numerics, two.result.numerics) == ("fp32, cpu", "fp32, 2 processes, cpu")
    for alone, together in zip(curve(one.folder), curve(two.folder), strict=True):
        assert together == pytest.approx(alone, rel=1e-4)
    assert two.result.metrics == pytest.approx(one.result.metrics, rel=1e-4)


@pytest.mark.parametrize("task", ["nodes", "links"])
def test_a_task_on_one_graph_refuses_several_processes(smoke, task):
    with pytest.raises(ConfigError, match=f"task={task} trains on one whole graph.*trainer.devices=1"):
        build_task(smoke(f"task={task}")).batches(1, Shard(0, 2))


def test_the_shares_of_a_batch_of_rays_are_the_batch(smoke):
    task = build_task(smoke("task=view_synthesis"))
    (whole, *_), *shares = ([*task.batches(1, shard)] for shard in (Shard(), Shard(0, 2), Shard(1, 2)))
    for rank, (share, *_) in enumerate(shares):
        assert torch.equal(share.colours, whole.colours[rank::2])
        assert torch.equal(share.rays.origins, whole.rays.origins[rank::2])
    with pytest.raises(ConfigError, match="task.rays=64 does not divide into 3 processes"):
        task.batches(1, Shard(0, 3))


def children() -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "spawn_main"], capture_output=True, text=True)
    return [int(number) for number in listed.stdout.split()]


def test_a_lost_process_ends_the_run_and_one_process_goes_on_with_it(smoke, tmp_path):
    overrides = ["task=language", "model.dropout=0", "rule=dfa", "trainer.max_epochs=1", "trainer.max_tokens=12800"]
    overrides += ["trainer.checkpoint_seconds=0.02"]
    settings = smoke(*overrides, "trainer.devices=2")
    record = record_of(settings, run_identity(settings)[0])
    before, over = {*children()}, threading.Event()

    def kill() -> None:
        while not record.checkpoint.exists() and not over.wait(0.02):
            pass
        os.kill(max({*children()} - before), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with pytest.raises((RunKilled, Preempted), match="was killed"):
            execute(settings)
    finally:
        over.set()
        thread.join()
    assert {*children()} == before
    resumed = execute(smoke(*overrides))
    assert resumed.result.numerics == "fp32, cpu"
    whole = execute(smoke(*overrides, f"store.root={tmp_path / 'whole'}"))
    assert resumed.result.steps == whole.result.steps
    assert resumed.result.metrics == pytest.approx(whole.result.metrics, rel=1e-3)


def test_torchrun_takes_the_same_command_line(smoke, tmp_path):
    overrides = [*TASKS["clicks"], "scale=smoke", "trainer.accelerator=cpu", "trainer.progress=none"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, "-m", "dfa_bench", "run", *overrides, f"store.root={tmp_path / 'torchrun'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("test/auc") == 1
    folder = Path(done.stdout.splitlines()[-1])
    alone = execute(smoke(*overrides, f"store.root={tmp_path / 'alone'}"))
    result = Record(folder).read_result()
    assert result is not None
    assert result.numerics == "fp32, 2 processes, cpu"
    assert result.metrics == pytest.approx(alone.result.metrics, rel=1e-4)


def test_a_place_is_read_from_torchrun_or_srun(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES"):
        monkeypatch.delenv(name, raising=False)
    assert place_among_processes() == ProcessPlace()
    for name, value in {"SLURM_PROCID": 3, "SLURM_STEP_NUM_TASKS": 4, "SLURM_STEP_NUM_NODES": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert place_among_processes() == ProcessPlace(3, 4, 2)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "1")
    assert place_among_processes() == ProcessPlace()

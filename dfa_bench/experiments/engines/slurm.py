"""Job arrays of a SLURM cluster. submitit submits them and brings back what they return; squeue says which still live.

(submitit asks sacct, which a cluster without an accounting database does not have.)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import submitit

from dfa_bench.errors import ConfigError
from dfa_bench.experiments.engines.work import Report, do_run
from dfa_bench.settings.engines import SlurmSettings
from dfa_bench.settings.schema import RunSettings

NAME = "dfa-bench"  # of the jobs
JOBS = "jobs.jsonl"  # which job does which run, below the store
POLL = 2.0  # seconds between looks
GONE_AFTER = 3  # looks at which a job is in no queue and has no result before it counts as lost: files may come late


class SlurmEngine:
    """Runs as job arrays of SLURM.

    Args:
        settings: what each run needs of the cluster.
        store: of the runs; jobs' scripts and output go below it, so it must be seen by the nodes.
    """

    def __init__(self, settings: SlurmSettings, store: Path) -> None:
        self._settings, self._folder = settings, store.absolute() / ".slurm"
        self._queue: list[tuple[str, RunSettings]] = []
        self._jobs: dict[str, Any] = {}
        self._missing: dict[str, int] = {}  # looks at which a job was in no queue
        self._earlier = self._jobs_of_earlier_commands()
        self._executor = submitit.SlurmExecutor(self._folder)
        given = {"partition": settings.partition, "account": settings.account, "qos": settings.qos}
        self._executor.update_parameters(
            job_name=NAME,
            time=settings.minutes,
            cpus_per_task=settings.cpus,
            mem=f"{round(settings.memory_gb * 1024)}MB",
            signal_delay_s=settings.signal_seconds,
            array_parallelism=settings.jobs,
            setup=[*settings.setup, f"export OMP_NUM_THREADS={settings.cpus}"],
            stderr_to_stdout=True,
            additional_parameters={"requeue": True, "open_mode": "append"},
            **{name: value for name, value in given.items() if value is not None},
            **({"gpus_per_node": settings.gpus} if settings.gpus else {}),
        )
        self.says = f"at most {settings.jobs} at a time, as SLURM jobs with their output in {self._folder}"

    def submit(self, runs: Mapping[str, RunSettings]) -> None:
        for identity, run in runs.items():
            if identity in self._earlier:  # of a command that was interrupted
                self._jobs[identity] = self._earlier.pop(identity)
            else:
                self._queue.append((identity, run))
        self._fill()

    def finished(self, seconds: float) -> dict[str, Report]:
        deadline = time.monotonic() + seconds
        while not (reports := dict(self._ended())) and time.monotonic() < deadline:
            time.sleep(min(POLL, seconds))
        for identity in reports:
            del self._jobs[identity]
        self._fill()
        return reports

    def close(self) -> None:
        if self._jobs:
            print(
                f"{len(self._jobs)} SLURM jobs stay in the queue, and the same command waits for them again. "
                f"`scancel --name={NAME}` cancels them.",
                file=sys.stderr,
            )

    def _fill(self) -> None:
        """Submit the next array when the one before is nearly through, so that their runs at a time are bounded."""
        if self._queue and len(self._jobs) < self._settings.jobs:
            chunk, self._queue = self._queue[: self._settings.array], self._queue[self._settings.array :]
            try:
                jobs = self._executor.map_array(run_as_job, [run for _, run in chunk])
            except submitit.core.utils.FailedJobError as error:
                raise ConfigError(f"sbatch refuses the job: {str(error).strip().splitlines()[-1]}") from error
            submitted = {identity: job for (identity, _), job in zip(chunk, jobs, strict=True)}
            self._jobs |= submitted
            with (self._folder / JOBS).open("a") as file:
                file.writelines(json.dumps([identity, job.job_id]) + "\n" for identity, job in submitted.items())

    def _jobs_of_earlier_commands(self) -> dict[str, Any]:
        """Jobs that still wait or run, by the identity of their runs."""
        if not (self._folder / JOBS).exists():
            return {}
        queued, lines = queued_jobs(), (self._folder / JOBS).read_text().splitlines()
        known = dict(json.loads(line) for line in lines)
        return {identity: submitit.SlurmJob(self._folder, job) for identity, job in known.items() if job in queued}

    def _ended(self) -> Iterator[tuple[str, Report]]:
        queued = queued_jobs()
        for identity, job in self._jobs.items():
            if job.paths.result_pickle.exists():
                error = job.exception()
                yield identity, job.result() if error is None else Report("failed", str(error).strip().splitlines()[-1])
            elif str(job.job_id) not in queued:
                self._missing[identity] = self._missing.get(identity, 0) + 1
                if self._missing[identity] > GONE_AFTER:
                    yield identity, self._without_result(job)

    def _without_result(self, job: Any) -> Report:
        shown = subprocess.run(["scontrol", "show", "job", job.job_id, "-o"], capture_output=True, text=True).stdout
        if "JobState=CANCELLED" in shown:
            return Report("failed", f"job {job.job_id} was cancelled")
        return Report("lost", f"job {job.job_id} ended without a result; see {job.paths.stdout}")


def queued_jobs() -> set[str]:
    """Jobs of this user that wait or run, "12" or, of an array, "12_3"."""
    command = ["squeue", "--noheader", "--array", "--format=%i", "--user", str(os.getuid())]
    return {*subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()}


def run_as_job(settings: RunSettings) -> Report:
    """`do_run`; a run whose time is up puts its job back into the queue, where it goes on. Its result stays open.

    After SIGTERM it only ends: SLURM itself requeues what it preempts, and does not what a user cancels.
    """
    report = do_run(settings)
    if report.status == "preempted":
        if report.signal != signal.SIGTERM:
            subprocess.run(["scontrol", "requeue", this_job()], check=False)
        raise SystemExit(75)
    return report


def this_job() -> str:
    """The job that this process belongs to, "12" or, of an array, "12_3"."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]

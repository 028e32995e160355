"""Tasks of a Ray cluster, with resources."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from typing import Any

import ray

from dfa_bench.experiments.engines.work import Report, do_run
from dfa_bench.settings.engines import RaySettings
from dfa_bench.settings.schema import RunSettings
from dfa_bench.training.preemption import GRACE


class RayEngine:
    def __init__(self, settings: RaySettings) -> None:
        threads = {"OMP_NUM_THREADS": str(max(1, int(settings.cpus)))}
        handed_on = {name: os.environ[name] for name in ("PYTHONPATH", "DFA_BENCH_DATA") if name in os.environ}
        self._started = not ray.is_initialized()
        if self._started:
            ray.init(
                address=settings.address,
                runtime_env={"env_vars": threads | handed_on},
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
            )
        # A process for each run, so that memory, threads and devices are its own; retries are those of the command.
        options = {"num_cpus": settings.cpus, "num_gpus": settings.gpus, "max_retries": 0, "max_calls": 1}
        self._task: Any = ray.remote(**options)(do_run)
        self._jobs = settings.jobs
        self._queue: deque[tuple[str, RunSettings]] = deque()
        self._running: dict[Any, str] = {}  # identity by task
        room = ", ".join(
            f"{number:g} {name}s" for name, number in ray.cluster_resources().items() if name in ("CPU", "GPU")
        )
        self.says = f"as tasks of a Ray cluster with {room}"

    def submit(self, runs: Mapping[str, RunSettings]) -> None:
        self._queue.extend(runs.items())
        self._fill()

    def finished(self, seconds: float) -> dict[str, Report]:
        if not self._running:
            return {}
        ended, _ = ray.wait([*self._running], num_returns=1, timeout=seconds)
        reports: dict[str, Report] = {}
        for task in ended:
            identity = self._running.pop(task)
            try:
                reports[identity] = ray.get(task)
            except ray.exceptions.RayTaskError as error:
                reports[identity] = Report("failed", str(error).strip().splitlines()[-1])
            except ray.exceptions.RayError as error:  # a worker or a node is gone
                reports[identity] = Report("lost", f"{type(error).__name__}: its process or node is gone")
        self._fill()
        return reports

    def close(self) -> None:
        self._queue.clear()
        for task in self._running:
            ray.cancel(task)  # as Ctrl-C in its process: the run writes its checkpoint
        if self._running:
            ray.wait([*self._running], num_returns=len(self._running), timeout=GRACE)
        if self._started:
            ray.shutdown()

    def _fill(self) -> None:
        while self._queue and (self._jobs is None or len(self._running) < self._jobs):
            identity, run = self._queue.popleft()
            self._running[self._task.remote(run)] = identity

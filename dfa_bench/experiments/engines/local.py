"""Processes of this machine, by loky: one pool of one process for each run at a time.

So a process that is killed takes no other run with it, and each has its own environment: threads, devices.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

from dfa_bench.errors import counted
from dfa_bench.experiments.engines.work import Report, do_run
from dfa_bench.settings.engines import LocalSettings
from dfa_bench.settings.schema import RunSettings
from dfa_bench.training.preemption import GRACE, end_with

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class LocalEngine:
    """Args:
    settings: how many runs at a time.
    runs: that may come; whether they use GPUs, and how many each, decides about the rest.
    """

    def __init__(self, settings: LocalSettings, runs: Sequence[RunSettings]) -> None:
        cores, each = os.cpu_count() or 1, max((run.trainer.devices for run in runs), default=1)
        wanted = any(run.trainer.accelerator in ("auto", "cuda") for run in runs)
        gpus = visible_gpus() if wanted else []
        shares = [gpus[first : first + each] for first in range(0, len(gpus) - each + 1, each)]
        slots = settings.jobs or len(shares) * settings.per_gpu or max(1, cores // each)
        self._environments = [
            {name: os.environ.get(name) or str(max(1, cores // (slots * each))) for name in THREADS}
            | ({"CUDA_VISIBLE_DEVICES": ",".join(shares[slot % len(shares)])} if shares else {})
            for slot in range(slots)
        ]
        self._free = [*range(slots)]
        self._pools: dict[int, ProcessPoolExecutor] = {}
        self._queue: deque[tuple[str, RunSettings]] = deque()
        self._running: dict[Future[Report], tuple[str, int]] = {}  # identity, slot
        shared = f" and {counted(len(gpus), 'GPU')}" if gpus else ""
        self.says = f"{slots} at a time on this machine's {counted(cores, 'core')}{shared}"

    def submit(self, runs: Mapping[str, RunSettings]) -> None:
        self._queue.extend(runs.items())
        self._fill()

    def finished(self, seconds: float) -> dict[str, Report]:
        reports: dict[str, Report] = {}
        for future in wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED).done:
            identity, slot = self._running.pop(future)
            try:
                reports[identity] = future.result()
            except BrokenProcessPool:
                reports[identity] = Report("lost", "its process was killed (out of memory?)")
                self._pools.pop(slot).shutdown(wait=False)
            self._free.append(slot)
        self._fill()
        return reports

    def close(self) -> None:
        self._queue.clear()
        for _, slot in self._running.values():
            for process in [*self._pools[slot]._processes.values()]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)
        wait(self._running, timeout=GRACE)
        for pool in self._pools.values():
            pool.shutdown(wait=False, kill_workers=True)

    def _fill(self) -> None:
        while self._queue and self._free:
            slot = self._free.pop(0)
            if slot not in self._pools:
                self._pools[slot] = ProcessPoolExecutor(
                    1, initializer=end_with, initargs=(os.getpid(),), env=self._environments[slot]
                )
            identity, run = self._queue.popleft()
            self._running[self._pools[slot].submit(do_run, run)] = identity, slot


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may hold for each GPU of this machine."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [each for each in given.split(",") if each]
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/kfd").exists():
        return []
    import torch  # seconds, which machines without a GPU are spared

    return [str(number) for number in range(torch.cuda.device_count())]  # by NVML: no context on any of them

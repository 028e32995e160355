"""Processes of this machine, by loky: one pool of one process for each run at a time.

So a process that is killed takes no other run with it, and each has its own environment: threads, devices.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

from dfa_bench.errors import ConfigError, counted
from dfa_bench.experiments.engines.gpus import Load, loads, visible_gpus
from dfa_bench.experiments.engines.work import Report, do_run
from dfa_bench.settings.engines import LocalSettings
from dfa_bench.settings.schema import RunSettings
from dfa_bench.training.preemption import GRACE, end_with

# When another run may join those on a GPU, with engine.per_gpu=auto.
SETTLED = 30.0  # seconds after the last one, which shows what it takes by then
BUSY = 0.85  # part of the time in which kernels run; beyond it, runs would only slow each other down
LEAST_MIB = 4096  # free memory, and so many times what those that are there take in the mean:
MARGIN = 1.5

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Running:
    """A run and where it is."""

    identity: str
    run: RunSettings
    slot: int
    alone: bool  # none may start beside it
    shared: bool = False  # others have been on its GPUs
    started: float = field(default_factory=time.monotonic)


class LocalEngine:
    """Runs in processes of this machine.

    Args:
        settings: how many runs at a time.
        runs: that may come; whether they use GPUs, and how many each, decides about the rest.

    Raises:
        ConfigError: engine.per_gpu=auto, and nvidia-smi does not answer.
    """

    def __init__(self, settings: LocalSettings, runs: Sequence[RunSettings]) -> None:
        cores, each = os.cpu_count() or 1, max((run.trainer.devices for run in runs), default=1)
        wanted = any(run.trainer.accelerator in ("auto", "cuda") for run in runs)
        gpus = visible_gpus() if wanted else []
        self._shares = [gpus[first : first + each] for first in range(0, len(gpus) - each + 1, each)]
        self._as_room_allows = settings.per_gpu == "auto" and bool(self._shares)
        if self._as_room_allows and not loads():
            raise ConfigError(
                "engine.per_gpu=auto asks nvidia-smi how full GPUs are, and it does not answer. Give a number."
            )
        many = settings.per_gpu if settings.per_gpu != "auto" else max(1, cores // max(1, len(self._shares) * each))
        slots = settings.jobs or len(self._shares) * many or max(1, cores // each)
        self._environments = [
            {name: os.environ.get(name) or str(max(1, cores // (slots * each))) for name in THREADS}
            | ({"CUDA_VISIBLE_DEVICES": ",".join(self._shares[slot % len(self._shares)])} if self._shares else {})
            | ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if self._as_room_allows else {})  # as nvidia-smi counts
            for slot in range(slots)
        ]
        self._free = [*range(slots)]
        self._pools: dict[int, ProcessPoolExecutor] = {}
        self._queue: deque[tuple[str, RunSettings, bool]] = deque()  # the last: whether it must be alone
        self._running: dict[Future[Report], Running] = {}
        shared = f" and {counted(len(gpus), 'GPU')}" if gpus else ""
        room = ", as far as memory and load of the GPUs allow" if self._as_room_allows else ""
        self.says = f"{slots} at a time on this machine's {counted(cores, 'core')}{shared}{room}"

    def submit(self, runs: Mapping[str, RunSettings]) -> None:
        self._queue.extend((identity, run, False) for identity, run in runs.items())
        self._fill()

    def finished(self, seconds: float) -> dict[str, Report]:
        reports: dict[str, Report] = {}
        for future in wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED).done:
            ended = self._running.pop(future)
            try:
                report = future.result()
            except BrokenProcessPool:
                report = Report("lost", "its process was killed (out of memory?)")
                self._pools.pop(ended.slot).shutdown(wait=False)
            self._free.append(ended.slot)
            if report.out_of_memory and ended.shared:
                self._queue.appendleft((ended.identity, ended.run, True))  # goes on from its checkpoint
            else:
                reports[ended.identity] = report
        self._fill()
        return reports

    def close(self) -> None:
        self._queue.clear()
        for each in self._running.values():
            for process in [*self._pools[each.slot]._processes.values()]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)
        wait(self._running, timeout=GRACE)
        for pool in self._pools.values():
            pool.shutdown(wait=False, kill_workers=True)

    def _fill(self) -> None:
        while self._queue and self._free:
            identity, run, alone = self._queue[0]
            if (slot := self._slot(alone)) is None:
                return
            self._queue.popleft()
            self._free.remove(slot)
            beside = self._beside(slot) if self._shares else []
            for each in beside:
                each.shared = True
            self._running[self._start(run, slot)] = Running(identity, run, slot, alone, shared=bool(beside))

    def _slot(self, alone: bool) -> int | None:
        """Where a run may start now."""
        if not self._as_room_allows:
            return self._free[0]
        one_each = {slot % len(self._shares): slot for slot in reversed(self._free)}
        fewest = sorted(one_each.values(), key=lambda slot: (len(self._beside(slot)), slot))
        look = functools.cache(loads)  # nvidia-smi is asked once, if at all
        return next((slot for slot in fewest if self._has_room(slot, alone, look)), None)

    def _beside(self, slot: int) -> list[Running]:
        """Runs on the GPUs of a slot."""
        share = slot % len(self._shares)
        return [each for each in self._running.values() if each.slot % len(self._shares) == share]

    def _has_room(self, slot: int, alone: bool, look: Callable[[], Mapping[str, Load]]) -> bool:
        """Whether the GPUs of a slot are empty, or neither full nor busy with what has run there for a while."""
        beside = self._beside(slot)
        if not beside:
            return True
        settled = time.monotonic() - max(each.started for each in beside) >= SETTLED
        if alone or any(each.alone for each in beside) or not settled:
            return False
        found = look()
        for gpu in self._shares[slot % len(self._shares)]:
            if (load := found.get(gpu)) is None or load.busy > BUSY:
                return False
            if load.free_mib < max(LEAST_MIB, MARGIN * load.used_mib / len(beside)):
                return False
        return True

    def _start(self, run: RunSettings, slot: int) -> Future[Report]:
        if slot not in self._pools:
            self._pools[slot] = ProcessPoolExecutor(
                1, initializer=end_with, initargs=(os.getpid(),), env=self._environments[slot]
            )
        future: Future[Report] = self._pools[slot].submit(do_run, run)
        return future

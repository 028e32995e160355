"""Many runs on all cores: processes, progress over runs, and what failed."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from dfa_bench.errors import UserError
from dfa_bench.experiments.plan import PlannedRun
from dfa_bench.settings.schema import RunSettings
from dfa_bench.training.allocator import keep_freed_memory

PLAIN_SECONDS = 15.0  # between lines of progress when there is no terminal


@dataclass(frozen=True)
class Failure:
    command: str
    reason: str


def run_all(todo: Sequence[PlannedRun], jobs: int, console: Console) -> list[Failure]:
    """Do runs, `jobs` at a time, each in one of as many processes. A failing run does not stop the others."""
    failures: list[Failure] = []
    if not todo:
        return failures
    threads = max(1, (os.cpu_count() or 1) // jobs)
    waiting = list(todo)
    board = _Board(todo, jobs, console)
    with board:
        while waiting:
            pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_prepare)
            running: dict[Future[str | None], PlannedRun] = {}
            try:
                while waiting or running:
                    while waiting and len(running) < jobs:
                        run = waiting.pop(0)
                        running[pool.submit(_do, run.settings, threads)] = run
                        board.start(run)
                    for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                        run = running.pop(future)
                        board.finish(run)
                        if reason := future.result():
                            failures.append(Failure(run.command, reason))
                    board.tick()
            except BrokenProcessPool:  # a worker was killed, by lack of memory for instance
                reason = "a process was killed (out of memory?)"
                failures += [Failure(run.command, reason) for run in running.values()]
            except KeyboardInterrupt:
                for process in list((pool._processes or {}).values()):
                    process.terminate()
                raise
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    return failures


def _prepare() -> None:
    keep_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would hold its record, and wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do(settings: RunSettings, threads: int) -> str | None:
    """One run in a worker process; returns what went wrong."""
    from dfa_bench.training.execute import execute

    trainer = settings.trainer.model_copy(update={"progress": "none", "threads": settings.trainer.threads or threads})
    try:
        result = execute(settings.model_copy(update={"trainer": trainer})).result
    except KeyboardInterrupt:
        return "interrupted"
    except UserError as error:
        return str(error)
    except Exception as error:  # told in the summary; the other runs go on
        return f"{type(error).__name__}: {error}"
    return result.message


class _Board:
    """Progress over runs: a live bar on a terminal, else a line now and then. Time left goes by the cells' costs."""

    def __init__(self, todo: Sequence[PlannedRun], jobs: int, console: Console) -> None:
        self._total = sum(run.cell.cost for run in todo)
        self._count, self._done, self._done_cost = len(todo), 0, 0.0
        self._running: dict[str, str] = {}
        self._begin = self._printed = time.monotonic()
        columns = SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
        self._live = Progress(*columns, console=console) if console.is_terminal else None
        self._task = self._live.add_task("", total=self._count) if self._live else None

    def __enter__(self) -> _Board:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def start(self, run: PlannedRun) -> None:
        cell = run.cell
        self._running[run.identity] = f"{cell.row} {cell.column} {cell.rule} seed {run.settings.seed}"

    def finish(self, run: PlannedRun) -> None:
        self._running.pop(run.identity)
        self._done += 1
        self._done_cost += run.cell.cost

    def tick(self) -> None:
        elapsed = time.monotonic() - self._begin
        left = elapsed * (self._total / self._done_cost - 1) if self._done_cost else None
        text = f"{_minutes(elapsed)} elapsed, {'about ' + _minutes(left) if left is not None else '?'} left"
        if self._live and self._task is not None:
            self._live.update(
                self._task, completed=self._done, description=f"{text}: {', '.join(self._running.values())}"
            )
        elif time.monotonic() - self._printed > PLAIN_SECONDS or self._done == self._count:
            self._printed = time.monotonic()
            print(f"{self._done} of {self._count} runs, {text}: {', '.join(self._running.values())}", flush=True)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"

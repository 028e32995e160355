"""The state of an unfinished run, read from its record by anyone who can see the store.

running.json is there while a process does the run, which touches it now and then; failed.json says why the last one
gave up. Ages are by the clock of the store's file system, so that clocks of machines need not agree.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dfa_bench.data.writing import atomic
from dfa_bench.errors import RecordError, without_secrets
from dfa_bench.runs.record import Record

BEAT = 10.0  # seconds between touches
SILENT = 60.0  # seconds without one after which a run counts as lost

State = Literal["done", "running", "lost", "failed", "begun", "waiting"]


@dataclass(frozen=True)
class Status:
    """A run as its record shows it."""

    state: State
    text: str = ""  # where it runs, or why it failed
    epoch: int = 0
    epochs: int | None = None


@contextlib.contextmanager
def told_as_running(record: Record, epochs: int) -> Iterator[None]:
    """Let others see that this process does a run, and how it ended if it failed."""
    where = {"host": platform.node(), "pid": os.getpid(), "epochs": epochs}
    if job := os.environ.get("SLURM_JOB_ID"):
        where["slurm_job"] = job
    record.failed.unlink(missing_ok=True)
    with atomic(record.running) as file:
        json.dump(where, file)
    ended = threading.Event()
    threading.Thread(target=_beat, args=(record.running, ended), daemon=True).start()
    try:
        yield
    except Exception as error:
        with contextlib.suppress(RecordError), atomic(record.failed) as file:
            json.dump({"reason": without_secrets(f"{error}".strip()) or type(error).__name__}, file)
        raise
    finally:
        ended.set()
        record.running.unlink(missing_ok=True)


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(path)


def status(record: Record, now: float) -> Status:
    """What a record shows; `now` by the clock of its file system, see `store_time`."""
    if record.result.exists():
        return Status("done")
    if not record.folder.is_dir():
        return Status("waiting")
    lines = record.read_metrics()
    epoch = int(lines[-1]["epoch"]) if lines else 0
    with contextlib.suppress(OSError, ValueError):
        where: dict[str, Any] = json.loads(record.running.read_text())
        quiet = now - record.running.stat().st_mtime
        job = f", job {where['slurm_job']}" if "slurm_job" in where else ""
        text = f"{where['host']}, process {where['pid']}{job}"
        if quiet > SILENT:
            return Status("lost", f"nothing heard from {text} for {quiet:.0f} s", epoch, where["epochs"])
        return Status("running", text, epoch, where["epochs"])
    with contextlib.suppress(OSError, ValueError):
        return Status("failed", json.loads(record.failed.read_text())["reason"], epoch)
    return Status("begun" if epoch or record.checkpoint.exists() else "waiting", epoch=epoch)


def store_time(root: Path) -> float:
    """The time as the file system of a store has it; this machine's, if it cannot be written."""
    try:
        with tempfile.TemporaryFile(dir=root) as probe:
            probe.write(b"tick")
            probe.flush()
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()

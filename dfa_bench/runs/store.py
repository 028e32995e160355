"""Where records lie, and who may write to one."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from dfa_bench.data.writing import remove_leftovers
from dfa_bench.errors import RecordError
from dfa_bench.runs.record import Record
from dfa_bench.settings.schema import RunSettings, StoreSettings

NAMED = re.compile(r"-s(\d+)-[0-9a-f]+$")  # how the folder of a record ends: its seed and its identity


def run_name(settings: RunSettings) -> str:
    """A readable name: dataset, model, rule and seed."""
    parts = (settings.task.name, settings.dataset.name, settings.model.name, settings.rule.name, f"s{settings.seed}")
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts).lower())


def record_of(settings: RunSettings, identity: str) -> Record:
    """The record of a run below `store.root`, whether it exists or not."""
    return Record(Path(settings.store.root).absolute() / f"{run_name(settings)}-{identity}")


def stored_seeds(store: StoreSettings) -> set[int]:
    """Seeds of the records in a store."""
    names = (path.parent.name for path in Path(store.root).glob("*/result.json"))
    return {int(found[1]) for name in names if (found := NAMED.search(name))}


@contextlib.contextmanager
def owned(record: Record) -> Iterator[None]:
    """Hold a record's folder for this process; wait while another one runs the same run.

    The lock goes with the process that holds it, however that ends.
    """
    record.create()
    lock = FileLock(record.folder / ".lock")
    try:
        try:
            lock.acquire(timeout=0.1)
        except Timeout:
            print(f"Another process is doing this run; waiting for it: {record.folder}", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        raise RecordError(f"{record.folder} cannot be locked: {error.strerror or error}.") from error
    with lock:
        lock.release()  # `with` has taken it once more
        remove_leftovers(record.folder)
        yield

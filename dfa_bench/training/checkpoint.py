"""The state of a run after any step, to go on from.

Every epoch seeds its generators from (seed, epoch, rank); within an epoch a checkpoint holds their state too. So a
resumed run draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfa_bench.data.writing import atomic
from dfa_bench.errors import RecordError
from dfa_bench.runs.record import Record


@dataclass
class RunState:
    """How far a run has come."""

    epoch: int = 0  # that are finished
    step: int = 0  # taken of the epoch after them
    steps: int = 0
    wall_seconds: float = 0.0
    step_seconds: float = 0.0  # sum over steps
    peak_memory_mib: float = 0.0
    captured: bool = False  # some of the steps were one CUDA graph
    metrics: dict[str, float] = field(default_factory=dict)  # of the last epoch
    best: float | None = None  # value of the watched metric
    best_epoch: int | None = None
    best_metrics: dict[str, float] | None = None
    best_weights: dict[str, Tensor] | None = None
    alignment: dict[str, float] = field(default_factory=dict)  # measured in the epoch that is not finished
    processes: list[dict[str, Any]] = field(default_factory=list)  # `ProcessState` of each, within an epoch


@dataclass
class ProcessState:
    """What the processes of a run do not share, within an epoch."""

    loss: float  # summed over the steps of the epoch
    random: dict[str, Any]  # see `random_state`


def save_checkpoint(record: Record, identity: str, state: RunState, parts: Mapping[str, Any]) -> None:
    """Write what `load_checkpoint` reads; the checkpoint before it is kept, in case this one gets damaged.

    Args:
        parts: by name: what has a `state_dict`.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    with contextlib.suppress(FileNotFoundError):
        record.checkpoint.replace(record.previous_checkpoint)
    write_tensors(record.checkpoint, {"identity": identity, "progress": vars(state), **states})


def write_tensors(path: Path, state: dict[str, Any]) -> None:
    """torch.save, whole or not at all; from memory, since torch hides what the disk has to say.

    Raises:
        RecordError: the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic(path, "wb") as file:
        file.write(buffer.getbuffer())


def read_tensors(path: Path) -> dict[str, Any]:
    """What `write_tensors` wrote, on the CPU. Only tensors and plain values are unpickled.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: a byte of it has changed, or it holds something else.
    """
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            damaged = archive.testzip()  # compares checksums, which torch.load does not
        saved: dict[str, Any] = dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except Exception as error:  # what damaged bytes make the unpickler raise is open: Index-, Key-, Unicode-, ...
        raise RecordError(f"{path} is damaged.") from error
    if damaged:
        raise RecordError(f"{path} is damaged: {damaged} has another checksum.")
    return saved


def load_checkpoint(record: Record, identity: str, parts: Mapping[str, Any]) -> RunState:
    """Put the parts of a run back to its last checkpoint that is whole, if there is one.

    Returns:
        How far the run had come; nothing done if there is no checkpoint.

    Raises:
        RecordError: they are damaged, or of a run with other settings.
    """
    if (found := _newest_whole(record)) is None:
        return RunState()
    path, saved = found
    if saved.get("identity") != identity:
        raise RecordError(
            f"The checkpoint {path} belongs to the run {saved.get('identity')}, not to {identity}: its settings, data "
            f"or code version differ. Delete it to restart this run."
        )
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return RunState(**saved["progress"])


def _newest_whole(record: Record) -> tuple[Path, dict[str, Any]] | None:
    """The last checkpoint, or the one before it if that is damaged; None if there is none."""
    damaged: RecordError | None = None
    for path in (record.checkpoint, record.previous_checkpoint):
        try:
            saved = read_tensors(path)
        except FileNotFoundError:
            continue
        except RecordError as error:
            damaged = error
            continue
        if damaged:
            print(f"{damaged} Continuing from the checkpoint before it.", file=sys.stderr)
            record.checkpoint.unlink()  # or the next save would keep it, and drop the one that is whole
        return path, saved
    if damaged:
        raise RecordError(f"{damaged} Delete it to restart this run.") from damaged
    return None


def seed_epoch(*keys: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch for one epoch of one process: (seed, epoch, rank)."""
    digest = hashlib.sha256(" ".join(map(str, keys)).encode()).digest()
    value = int.from_bytes(digest[:8], "little")
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value % 2**63)


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of all generators that a step may draw from, as tensors and plain values."""
    name, keys, *rest = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).copy()), *rest],
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy(), *rest))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["device"] is not None:
        torch.cuda.set_rng_state(state["device"], device)

"""The state of a run after an epoch, to go on from.

Random state is no part of it: every epoch seeds its generators from (seed, epoch, rank), so that a resumed run draws
what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
import io
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfa_bench.errors import RecordError
from dfa_bench.runs.record import atomic


@dataclass
class Progress:
    """How far a run has come."""

    epoch: int = 0
    steps: int = 0
    wall_seconds: float = 0.0
    step_seconds: float = 0.0  # sum over steps
    peak_memory_mib: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)  # of the last epoch
    best: float | None = None  # value of the watched metric
    best_epoch: int | None = None
    best_metrics: dict[str, float] | None = None
    best_weights: dict[str, Tensor] | None = None


def save_checkpoint(path: Path, identity: str, progress: Progress, parts: dict[str, Any]) -> None:
    write_tensors(path, {"identity": identity, "progress": asdict(progress), **parts})


def write_tensors(path: Path, state: dict[str, Any]) -> None:
    """torch.save, whole or not at all; from memory, since torch hides what the disk has to say.

    Raises:
        RecordError: the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic(path, "wb") as file:
        file.write(buffer.getbuffer())


def load_checkpoint(path: Path, identity: str) -> dict[str, Any] | None:
    """The checkpoint of a run, or None if there is none. Only tensors and plain values are unpickled.

    Raises:
        RecordError: it is damaged, or of a run with other settings.
    """
    try:
        state: dict[str, Any] = dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        return None
    except Exception as error:  # what damaged bytes make the unpickler raise is open: Index-, Key-, Unicode-, ...
        raise RecordError(f"The checkpoint {path} is damaged. Delete it to start this run anew.") from error
    if state.get("identity") != identity:
        raise RecordError(
            f"The checkpoint {path} is of the run {state.get('identity')}, not of {identity}: its settings, data or "
            f"code version differ. Delete it to start this run anew."
        )
    return state


def seed_epoch(seed: int, epoch: int, rank: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch for one epoch of one process."""
    digest = hashlib.sha256(f"{seed} {epoch} {rank}".encode()).digest()
    value = int.from_bytes(digest[:8], "little")
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value % 2**63)

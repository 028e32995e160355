"""The state of a run after an epoch, to go on from.

Random state is no part of it: every epoch seeds its generators from (seed, epoch, rank), so that a resumed run draws
what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfa_bench.errors import RecordError
from dfa_bench.runs.record import atomic


@dataclass
class RunState:
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


def save_checkpoint(path: Path, identity: str, state: RunState, parts: Mapping[str, Any]) -> None:
    """Write what `load_checkpoint` reads.

    Args:
        parts: by name: what has a `state_dict`.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    write_tensors(path, {"identity": identity, "progress": asdict(state), **states})


def write_tensors(path: Path, state: dict[str, Any]) -> None:
    """torch.save, whole or not at all; from memory, since torch hides what the disk has to say.

    Raises:
        RecordError: the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic(path, "wb") as file:
        file.write(buffer.getbuffer())


def load_checkpoint(path: Path, identity: str, parts: Mapping[str, Any]) -> RunState:
    """Put the parts of a run back to its checkpoint, if there is one. Only tensors and plain values are unpickled.

    Returns:
        How far the run had come; nothing done if there is no checkpoint.

    Raises:
        RecordError: it is damaged, or of a run with other settings.
    """
    try:
        saved: dict[str, Any] = dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        return RunState()
    except Exception as error:  # what damaged bytes make the unpickler raise is open: Index-, Key-, Unicode-, ...
        raise RecordError(f"The checkpoint {path} is damaged. Delete it to restart this run.") from error
    if saved.get("identity") != identity:
        raise RecordError(
            f"The checkpoint {path} belongs to the run {saved.get('identity')}, not to {identity}: its settings, data "
            f"or code version differ. Delete it to restart this run."
        )
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return RunState(**saved["progress"])


def seed_epoch(seed: int, epoch: int, rank: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch for one epoch of one process."""
    digest = hashlib.sha256(f"{seed} {epoch} {rank}".encode()).digest()
    value = int.from_bytes(digest[:8], "little")
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value % 2**63)

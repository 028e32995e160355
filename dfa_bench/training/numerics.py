"""What may move the digits of a run but not what it is an experiment about."""

from __future__ import annotations

import torch

from dfa_bench.settings.schema import TrainerSettings


def numerics(settings: TrainerSettings, device: torch.device) -> str:
    """In words, for the record: "32-true, cpu"."""
    return f"{settings.precision}, {device.type}"

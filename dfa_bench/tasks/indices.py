"""Indices on their way to the data."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(indices: Tensor, device: torch.device) -> Tensor:
    """Indices from the CPU on the device where the data are; the copy does not wait for what that device is doing."""
    if device.type == "cuda":
        indices = indices.pin_memory()
    return indices.to(device, non_blocking=True)

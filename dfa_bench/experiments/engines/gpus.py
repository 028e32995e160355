"""The GPUs of this machine: which there are, and how full and busy they are."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ASK = ("nvidia-smi", "--query-gpu=index,uuid,memory.total,memory.used,utilization.gpu", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Load:
    """The load of one GPU, from all its users."""

    total_mib: float
    used_mib: float
    busy: float  # part of the last second, or less, in which a kernel ran: 0 to 1

    @property
    def free_mib(self) -> float:
        return self.total_mib - self.used_mib


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may hold for each GPU of this machine."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [each for each in given.split(",") if each]
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/kfd").exists():
        return []
    import torch  # seconds, which machines without a GPU are spared

    return [str(number) for number in range(torch.cuda.device_count())]  # by NVML: no context on any of them


def loads() -> dict[str, Load]:
    """By what CUDA_VISIBLE_DEVICES calls a GPU, its index or its UUID; without those that nvidia-smi cannot measure."""
    try:
        told = subprocess.run(ASK, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    found = {}
    for line in told.splitlines():
        index, uuid, *numbers = (part.strip() for part in line.split(","))
        try:
            total, used, busy = map(float, numbers)
        except ValueError:  # "[N/A]"
            continue
        found[index] = found[uuid] = Load(total, used, busy / 100)
    return found

"""A device that has no memory left: what of the settings to lower."""

from __future__ import annotations

import re

import torch

from dfa_bench.errors import OutOfMemory
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import task_class


def is_out_of_memory(error: Exception) -> bool:
    """PyTorch has a type of its own for its GPU allocator; the CPU's and CUDA itself raise other RuntimeErrors."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and any(sign in str(error) for sign in ("DefaultCPUAllocator", "CUDA error: out of memory"))
    )


def out_of_memory(error: Exception, settings: RunSettings, device: torch.device) -> OutOfMemory:
    """The sentence for the user; it holds nothing of the run, whose memory can then be used by the next one."""
    wanted = re.search(r"[Tt]r(?:ied|y) to allocate ([\d.]+ \w+)", str(error))
    asked = f" when {wanted[1]} more was requested" if wanted else ""
    sizes = getattr(task_class(settings), "batch_sizes", ())
    lower = [f"task.{name}={settings.task.arguments[name]}" for name in sizes] + ["the sizes of the model"]
    others = ["trainer.precision=bf16-mixed"] * (settings.trainer.precision == "32-true")
    if device.type == "cuda":
        others += ["trainer.data_on_device=false"] * settings.trainer.data_on_device
        others += ["trainer.capture=false"] * bool(settings.trainer.capture)
    sets = f", or set {' or '.join(others)}" if others else ""
    return OutOfMemory(f"Out of memory on {device}{asked}. Lower {' or '.join(lower)}{sets}.")

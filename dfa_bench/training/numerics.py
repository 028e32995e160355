"""What may move the digits of a run, but not what is run."""

from __future__ import annotations

from typing import Any

import torch

from dfa_bench.settings.schema import TrainerSettings

PRECISIONS = {"32-true": "fp32"}  # the other ones are called what Fabric calls them


def numerics(settings: TrainerSettings, device: torch.device, streams: bool = False, captured: bool = False) -> str:
    """Precision, TF32, compilation, capture, streaming, processes, kind of device: "bf16-mixed, TF32, cuda"."""
    parts = [PRECISIONS.get(settings.precision, settings.precision)]
    if device.type == "cuda":
        parts += _tf32()
    if settings.compile:
        parts.append("compiled")
    if captured:
        parts.append("captured")
    if streams:
        parts.append("streamed")
    if settings.devices > 1:
        parts.append(f"{settings.devices} processes")
    return ", ".join([*parts, device.type])


def allow_tf32(allowed: bool) -> None:
    """Whether this process may use TF32 in CUDA's matrix products, from now on."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")


def _tf32() -> list[str]:
    """Whether CUDA may round factors of float32 products to 10 bits; by PyTorch's default convolutions only."""
    products = _allows_tf32(torch.backends.cuda.matmul)
    convolutions = _allows_tf32(torch.backends.cudnn, getattr(torch.backends.cudnn, "conv", None))
    if products and convolutions:
        return ["TF32"]
    return ["TF32 matmul"] * products + ["TF32 convolutions"] * convolutions


def _allows_tf32(backend: Any, newer: Any = None) -> bool:
    """PyTorch 2.9 has `fp32_precision`, and then refuses to read `allow_tf32` where the newer name was set."""
    setting = getattr(newer or backend, "fp32_precision", None)
    return bool(backend.allow_tf32) if setting is None else setting == "tf32"

"""Whole views in chunks of bounded memory, and how near they come to the photograph."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dfa_bench.data.progress import tracked
from dfa_bench.tasks.view_synthesis.cameras import Camera
from dfa_bench.tasks.view_synthesis.rays import Rays, view_rays
from dfa_bench.tasks.view_synthesis.scenes import Scene, View

CHUNK = {"cpu": 64, "cuda": 4096}  # rays at a time; on a CPU what lies in its cache (2 times faster than 1024)

HALF_WINDOW = 5  # pixels on either side of the middle one of SSIM's window, 11 wide; so many are padded


class Render(NamedTuple):
    """Pixels of a view, or of a grid of them."""

    fine: Tensor  # (rows, columns, 3), in [0, 1]
    coarse: Tensor  # (rows, columns, 3)
    depth: Tensor  # (rows, columns)
    opacity: Tensor  # (rows, columns)


@dataclass(frozen=True)
class Measured:
    """One view, over the rendered pixels: PSNR in dB of the fine and the coarse network."""

    view: str
    number: int
    psnr: float
    psnr_coarse: float
    ssim: float | None  # of whole images only, of more than HALF_WINDOW pixels a side
    rays: int
    seconds: float


@torch.no_grad()
def render_view(
    model: nn.Module,
    scene: Scene,
    camera: Camera,
    pose: Tensor,
    stride: int = 1,
    progress: str | None = None,
    chunk: int | None = None,
) -> Render:
    """Render pixels 0, stride, 2·stride, … of rows and columns of one view.

    Args:
        model: `NeRF`, in evaluation mode.
        camera, pose: of the view; pose (3, 4).
        progress: what the progress bar on stderr says; None: no bar.
        chunk: rays at a time; None: what suits the model's device.
    """
    rays = view_rays(scene, camera, pose, stride)
    shape = (math.ceil(scene.height / stride), math.ceil(scene.width / stride))
    parts = []
    device = next(model.parameters()).device
    for part in _chunks(rays, chunk or CHUNK.get(device.type, 1024), progress):
        seen = model(part.to(device))
        parts.append((seen.fine.colours, seen.coarse.colours, seen.fine.depths, seen.fine.opacities))
    fine, coarse, depth, opacity = (torch.cat(each).cpu() for each in zip(*parts, strict=True))
    return Render(fine.view(*shape, 3), coarse.view(*shape, 3), depth.view(shape), opacity.view(shape))


def measure_view(
    model: nn.Module, scene: Scene, view: View, truth: Tensor, stride: int, progress: str | None = None
) -> Measured:
    """Render one view and compare it with its photograph.

    Args:
        model: `NeRF`.
        truth: pixels 0, stride, 2·stride, … of rows and columns of the photograph, (rows, columns, 3).
        stride: 1: all pixels, and SSIM.
        progress: see `render_view`.
    """
    started = time.perf_counter()
    seen = render_view(model, scene, view.camera, view.pose, stride, progress)
    seconds = time.perf_counter() - started
    has_ssim = stride == 1 and min(scene.height, scene.width) > HALF_WINDOW
    likeness = ssim(seen.fine, truth) if has_ssim else None
    fine, coarse = psnr(seen.fine, truth), psnr(seen.coarse, truth)
    return Measured(view.name, view.number, fine, coarse, likeness, seen.depth.numel(), seconds)


def psnr(image: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB: -10 log10 of the mean squared difference of colours in [0, 1]."""
    error = (image.double() - truth.double()).square().mean().item()
    return -10 * math.log10(error) if error else math.inf


def ssim(image: Tensor, truth: Tensor) -> float:
    """Structural similarity of whole images (height, width, 3), with the Gaussian window of Wang et al. 2004."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    seen, wanted = (each.double().permute(2, 0, 1).unsqueeze(0) for each in (image, truth))
    value = structural_similarity_index_measure(seen, wanted, data_range=1.0)
    assert isinstance(value, Tensor)
    return value.item()


def _chunks(rays: Rays, chunk: int, progress: str | None) -> Iterator[Rays]:
    starts = range(0, rays.origins.shape[0], chunk)
    for start in tracked(starts, progress or "", "chunk", len(starts), shown=progress is not None):
        yield rays.take(slice(start, start + chunk))

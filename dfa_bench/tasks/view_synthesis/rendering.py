"""Volume rendering: colours and densities along rays become pixels (Mildenhall et al. 2020, eq. 3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dfa_bench.tasks.view_synthesis.rays import Rays
from dfa_bench.tasks.view_synthesis.sampling import hierarchical_depths, stratified_depths

LAST_INTERVAL = 1e10  # behind the last sample everything belongs to it (Mildenhall et al.'s code)

Field = Callable[[Tensor, Tensor], Tensor]  # points (rays, samples, 3), view directions (rays, 3) -> raw (..., 4)


class Pixels(NamedTuple):
    """What rays see."""

    colours: Tensor  # (rays, 3)
    depths: Tensor  # (rays,): expected depth, in units of the ray's direction
    opacities: Tensor  # (rays,): share of the ray that something stops
    weights: Tensor  # (rays, samples)


class Rendered(NamedTuple):
    coarse: Pixels
    fine: Pixels


class Sampling(NamedTuple):
    """How rays are sampled, and what lies behind everything."""

    near: float
    far: float
    coarse: int  # samples of the first pass
    fine: int  # further samples of the second, which sees all
    white_background: bool
    density_noise: float  # standard deviation, in training only


class RunningProduct(torch.autograd.Function):
    """torch.cumprod along the last axis of factors that are not zero.

    PyTorch's backward looks for zeros first, so that the CPU waits for the GPU, and no CUDA graph can hold it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(factors: Tensor) -> Tensor:
        return factors.cumprod(dim=-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        factors, products = ctx.saved_tensors
        return (products * gradients[0]).flip(-1).cumsum(-1).flip(-1) / factors


def composite(
    raw: Tensor, depths: Tensor, directions: Tensor, white_background: bool, density_noise: Tensor | None = None
) -> Pixels:
    """Pixels of sampled rays: colours by sigmoid, densities by ReLU, alpha = 1 - exp(-density · distance).

    Args:
        raw: (rays, samples, 4): colours and density before their non-linearities.
        depths: (rays, samples), increasing.
        directions: (rays, 3); distances are multiplied with their length.
        density_noise: (rays, samples), added to the density before its ReLU.
    """
    gaps = depths[:, 1:] - depths[:, :-1]
    distances = torch.cat([gaps, torch.full_like(depths[:, :1], LAST_INTERVAL)], dim=-1)
    distances = distances * directions.norm(dim=-1, keepdim=True)
    density = raw[..., 3]
    if density_noise is not None:
        density = density + density_noise
    density = density.relu()
    alpha = 1 - torch.exp(-density * distances)
    passed = RunningProduct.apply(1 - alpha + 1e-10)
    reached = torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], dim=-1)  # transmittance before each sample
    weights = alpha * reached
    colours = (weights.unsqueeze(-1) * raw[..., :3].sigmoid()).sum(dim=-2)
    opacities = weights.sum(dim=-1)
    if white_background:
        colours = colours + (1 - opacities).unsqueeze(-1)
    return Pixels(colours, (weights * depths).sum(dim=-1), opacities, weights)


def render_rays(coarse: Field, fine: Field, rays: Rays, sampling: Sampling, training: bool) -> Rendered:
    """Coarse pass over stratified depths; fine pass over these and `sampling.fine` more, where the first found weight.

    Args:
        training: depths are jittered and density has its noise; else both are fixed.
    """
    uniform = partial(rays.drawn, torch.rand) if training else None

    def seen(field: Field, depths: Tensor) -> Pixels:
        raw = _along(field, rays, depths)
        noisy = training and sampling.density_noise
        draw = partial(torch.randn, dtype=raw.dtype)
        noise = rays.drawn(draw, depths.shape[1]) * sampling.density_noise if noisy else None
        return composite(raw, depths, rays.directions, sampling.white_background, noise)

    count, device = rays.origins.shape[0], rays.origins.device
    depths = stratified_depths(count, sampling.coarse, sampling.near, sampling.far, uniform, device)
    first = seen(coarse, depths)
    second = seen(fine, hierarchical_depths(depths, first.weights, sampling.fine, uniform))
    return Rendered(first, second)


def _along(field: Field, rays: Rays, depths: Tensor) -> Tensor:
    points = rays.origins.unsqueeze(1) + depths.unsqueeze(-1) * rays.directions.unsqueeze(1)  # (rays, samples, 3)
    return field(points, rays.view_directions)

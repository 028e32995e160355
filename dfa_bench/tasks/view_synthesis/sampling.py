"""Where along each ray a radiance field is evaluated: stratified depths, then depths where the coarse weights are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FLOOR = 1e-5  # added to every weight, so that empty rays are sampled too (Mildenhall et al.'s code)


Uniform = Callable[[int], Tensor]  # how many numbers in [0, 1) for each ray -> (rays, numbers)


def stratified_depths(
    rays: int, samples: int, near: float, far: float, uniform: Uniform | None, device: torch.device
) -> Tensor:
    """Depths in `samples` strata between near and far, (rays, samples), increasing.

    Without `uniform` they are evenly spaced, both ends included; with it each is uniform between the midpoints to its
    neighbours (Mildenhall et al. 2020, eq. 2, as their code does it).
    """
    steps = torch.linspace(0, 1, samples, device=device)
    depths = (near * (1 - steps) + far * steps).expand(rays, samples)
    if uniform is None:
        return depths
    middle = 0.5 * (depths[:, 1:] + depths[:, :-1])
    lower = torch.cat([depths[:, :1], middle], dim=-1)
    upper = torch.cat([middle, depths[:, -1:]], dim=-1)
    return lower + (upper - lower) * uniform(samples)


def inverse_transform_depths(edges: Tensor, weights: Tensor, samples: int, uniform: Uniform | None) -> Tensor:
    """Samples of the piecewise-constant density that the weights of bins describe.

    Args:
        edges: (rays, bins + 1), increasing.
        weights: (rays, bins), not negative.
        samples: on each ray.
        uniform: draws the quantiles; None: evenly spaced ones, 0 and 1 included.

    Returns:
        (rays, samples).
    """
    density = weights + FLOOR
    cumulative = (density / density.sum(-1, keepdim=True)).cumsum(-1)
    cumulative = torch.cat([torch.zeros_like(cumulative[:, :1]), cumulative], dim=-1)  # (rays, bins + 1)
    shape = (len(edges), samples)
    quantiles = (
        torch.linspace(0, 1, samples, device=edges.device).expand(shape).contiguous()
        if uniform is None
        else uniform(samples)
    )
    above = torch.searchsorted(cumulative, quantiles, right=True).clamp(1, edges.shape[1] - 1)
    below = above - 1
    low, high = cumulative.gather(1, below), cumulative.gather(1, above)
    left, right = edges.gather(1, below), edges.gather(1, above)
    share = ((quantiles - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return left + share * (right - left)


def hierarchical_depths(depths: Tensor, weights: Tensor, samples: int, uniform: Uniform | None) -> Tensor:
    """The coarse depths and as many more where their weights are, sorted: (rays, coarse + samples).

    Bins lie between the midpoints of the coarse depths, so the first and the last weight are left out, as in
    Mildenhall et al.'s code. No gradient flows through the choice of depths.
    """
    middle = 0.5 * (depths[:, 1:] + depths[:, :-1])
    more = inverse_transform_depths(middle, weights[:, 1:-1].detach(), samples, uniform)
    return torch.cat([depths, more], dim=-1).sort(dim=-1).values

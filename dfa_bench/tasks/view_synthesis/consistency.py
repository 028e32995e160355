"""Multi-view consistency as a number: a rendered view, warped into its neighbour by the neighbour's depth."""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dfa_bench.tasks.view_synthesis.cameras import Camera
from dfa_bench.tasks.view_synthesis.rays import NDC_NEAR, view_rays
from dfa_bench.tasks.view_synthesis.scenes import Scene

SURFACE = 0.5  # opacity from which a pixel is taken to show a surface
SAME_DEPTH = 0.05  # relative difference up to which two views see the same surface, and not one behind another


def surface_points(scene: Scene, camera: Camera, pose: Tensor, depth: Tensor) -> Tensor:
    """Where the pixels of a view see something, in world coordinates, (height, width, 3).

    Args:
        depth: (height, width), along the rays that the scene renders: for NDC scenes between 0 and 1.
    """
    world = view_rays(dataclasses.replace(scene, ndc=False), camera, pose)
    along = depth.flatten()
    if scene.ndc:  # NDC depth t is at z = near / (t - 1): see `normalised_device_rays`
        z = NDC_NEAR / (along.clamp(max=1 - 1e-4) - 1)
        along = (z - world.origins[:, 2]) / world.directions[:, 2]
    points = world.origins + along.unsqueeze(-1) * world.directions
    return points.view(scene.height, scene.width, 3)


def to_pixels(camera: Camera, pose: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and depths at which a view sees points (..., 3); the inverse of `rays_through`."""
    in_camera = (points - pose[:, 3]) @ pose[:, :3]
    depth = -in_camera[..., 2]
    columns = camera.cx + camera.fx * in_camera[..., 0] / depth
    rows = camera.cy - camera.fy * in_camera[..., 1] / depth
    return rows, columns, depth


def warp_psnr(
    scene: Scene,
    cameras: tuple[Camera, Camera],
    poses: tuple[Tensor, Tensor],
    images: tuple[Tensor, Tensor],
    depths: tuple[Tensor, Tensor],
    opacities: tuple[Tensor, Tensor],
) -> tuple[float, float]:
    """How well a first rendered view, warped by the second's depth, agrees with the second.

    Args:
        poses: (3, 4) each. images: (height, width, 3) each. opacities: (height, width) each.
        depths: (height, width) each, of what the rays hit.

    Returns:
        PSNR in dB over the pixels of the second view whose surface the first one sees, and their share of the image.
    """
    points = surface_points(scene, cameras[1], poses[1], depths[1])
    rows, columns, depth = to_pixels(cameras[0], poses[0], points)
    first_points = surface_points(scene, cameras[0], poses[0], depths[0])
    first_depth = to_pixels(cameras[0], poses[0], first_points)[2]
    stacked = torch.cat([images[0], first_depth.unsqueeze(-1), opacities[0].unsqueeze(-1)], dim=-1)
    found = _bilinear(stacked, rows, columns)
    inside = (rows >= 0) & (rows <= scene.height - 1) & (columns >= 0) & (columns <= scene.width - 1) & (depth > 0)
    solid = (opacities[1] > SURFACE) & (found[..., 4] > SURFACE)
    seen = inside & solid & ((found[..., 3] - depth).abs() < SAME_DEPTH * depth)
    if not seen.any():
        return math.nan, 0.0
    error = (found[..., :3] - images[1])[seen].square().mean().item()
    return -10 * math.log10(max(error, 1e-12)), seen.float().mean().item()


def _bilinear(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    height, width, _ = image.shape
    grid = torch.stack([columns / (width - 1), rows / (height - 1)], dim=-1) * 2 - 1
    moved = image.permute(2, 0, 1).unsqueeze(0)
    sampled = F.grid_sample(moved, grid.unsqueeze(0).to(image), align_corners=True, padding_mode="border")
    return sampled[0].permute(1, 2, 0)

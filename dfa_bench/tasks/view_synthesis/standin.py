"""An analytic scene, the stand-in for photographs: shaded spheres over a checkerboard, ray-traced exactly.

Its geometry, depth and density are known, so that the renderer can be tested against it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from dfa_bench.tasks.view_synthesis.camera_paths import look
from dfa_bench.tasks.view_synthesis.cameras import centred
from dfa_bench.tasks.view_synthesis.rays import view_rays
from dfa_bench.tasks.view_synthesis.scenes import Scene, View
from dfa_bench.tasks.view_synthesis.spheres import (
    BACKGROUND,
    FAR,
    FIELD_OF_VIEW,
    FLOOR_DEPTH,
    FLOOR_HALF,
    FLOOR_Z,
    LIGHT,
    NEAR,
    RADIUS,
    SIZE,
    SPHERES,
    VIEWS,
)


class Traced(NamedTuple):
    colours: Tensor  # (rays, 3)
    depths: Tensor  # (rays,), in units of the direction; infinite where nothing is hit


def trace(origins: Tensor, directions: Tensor) -> Traced:
    """What rays (rays, 3) see: the nearest surface, by its intersection in closed form."""
    depths = [_sphere_depth(origins, directions, sphere) for sphere in SPHERES]
    depths.append(_floor_depth(origins, directions))
    nearest, which = torch.stack(depths).min(dim=0)
    points = origins + torch.where(nearest.isfinite(), nearest, 0.0).unsqueeze(-1) * directions
    candidates = torch.stack([surface_colour(points, number) for number in range(len(depths))])  # (bodies, rays, 3)
    seen = candidates.gather(0, which.view(1, -1, 1).expand(1, -1, 3))[0]
    return Traced(torch.where(nearest.isfinite().unsqueeze(-1), seen, BACKGROUND), nearest)


def surface_colour(points: Tensor, body: int) -> Tensor:
    """Colours (..., 3) of a body near its surface: spheres are shaded by their normal, the floor is a checkerboard."""
    if body < len(SPHERES):
        *centre, radius, red, green, blue = SPHERES[body]
        normal = (points - points.new_tensor(centre)) / radius
        light = (normal @ points.new_tensor(LIGHT)).clamp(min=0)
        return (0.35 + 0.65 * light).clamp(max=1).unsqueeze(-1) * points.new_tensor([red, green, blue])
    squares = (points[..., :2] / 0.35).floor().sum(-1) % 2
    return (0.25 + 0.5 * squares).unsqueeze(-1).expand(*points.shape[:-1], 3)


def stand_in_scene(size: int = SIZE) -> Scene:
    """Cameras on the upper half of a sphere, looking at its centre; `size` pixels a side."""
    camera = centred(0.5 * size / math.tan(0.5 * FIELD_OF_VIEW), size, size)
    scene = Scene("stand-in", {}, size, size, camera, NEAR, FAR, ndc=False, white_background=True)
    poses = spiral_poses(sum(VIEWS.values()), RADIUS)
    order = torch.randperm(len(poses), generator=torch.Generator().manual_seed(0)).tolist()
    splits, start = {}, 0
    for split, count in VIEWS.items():
        splits[split] = [
            View(f"r_{number}", number, poses[place], camera, functools.partial(_photograph, scene, poses[place]))
            for number, place in enumerate(order[start : start + count])
        ]
        start += count
    return dataclasses.replace(scene, splits=splits)


def spiral_poses(count: int, radius: float) -> list[Tensor]:
    """Poses (3, 4) that look at the origin from a spiral over the upper half of a sphere (golden angle)."""
    poses = []
    for number in range(count):
        height = 0.15 + 0.75 * (number + 0.5) / count
        angle = number * math.pi * (3 - math.sqrt(5))
        flat = math.sqrt(1 - height * height)
        poses.append(look_at(radius * torch.tensor([flat * math.cos(angle), flat * math.sin(angle), height])))
    return poses


def look_at(position: Tensor) -> Tensor:
    """Pose (3, 4) of a camera at a position, (3,), that looks at the origin with z upwards."""
    return look(position, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))


def _photograph(scene: Scene, pose: Tensor) -> Tensor:
    rays = view_rays(scene, scene.camera, pose)
    return trace(rays.origins, rays.directions).colours.view(scene.height, scene.width, 3)


def _sphere_depth(origins: Tensor, directions: Tensor, sphere: tuple[float, ...]) -> Tensor:
    offset = origins - origins.new_tensor(sphere[:3])
    a, b = directions.square().sum(-1), (offset * directions).sum(-1)
    discriminant = b * b - a * (offset.square().sum(-1) - sphere[3] ** 2)
    depth = (-b - discriminant.clamp(min=0).sqrt()) / a
    return torch.where((discriminant > 0) & (depth > 0), depth, math.inf)


def _floor_depth(origins: Tensor, directions: Tensor) -> Tensor:
    """Of a box: the largest entry depth over its three slabs, if it is below the smallest exit."""
    low = origins.new_tensor([-FLOOR_HALF, -FLOOR_HALF, FLOOR_Z - FLOOR_DEPTH])
    high = origins.new_tensor([FLOOR_HALF, FLOOR_HALF, FLOOR_Z])
    first, second = (low - origins) / directions, (high - origins) / directions
    entry, leave = torch.minimum(first, second).amax(-1), torch.maximum(first, second).amin(-1)
    return torch.where((entry < leave) & (entry > 0), entry, math.inf)

"""Rays through pixels, and their normalised device coordinates."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dfa_bench.tasks.view_synthesis.cameras import Camera
from dfa_bench.tasks.view_synthesis.scenes import Scene

NDC_NEAR = 1.0  # the plane that rays are moved to before NDC; LLFF depths are scaled so that the scene lies behind it


class Rays(NamedTuple):
    """Points origin + t · direction, and where the eye looks.

    They may be every `of`-th ray of a batch, from `rank` on, in one of several processes. What is drawn for rays is
    drawn for the whole batch, so that it does not depend on the number of processes.
    """

    origins: Tensor  # (rays, 3)
    directions: Tensor  # (rays, 3), not normalised: t is depth along the camera's axis, or that of the NDC ray
    view_directions: Tensor  # (rays, 3), of length one, in world coordinates
    rank: int = 0
    of: int = 1

    def take(self, chosen: slice | Tensor) -> Rays:
        return Rays(self.origins[chosen], self.directions[chosen], self.view_directions[chosen])

    def to(self, device: torch.device) -> Rays:
        return self._replace(
            origins=self.origins.to(device),
            directions=self.directions.to(device),
            view_directions=self.view_directions.to(device),
        )

    def drawn(self, draw: Callable[..., Tensor], *shape: int) -> Tensor:
        """What `draw`, torch.rand for instance, gives each ray: (rays, *shape)."""
        whole = draw(self.of * len(self.origins), *shape, device=self.origins.device)
        return whole[self.rank :: self.of]


def pixel_directions(rows: Tensor, columns: Tensor, cameras: Tensor) -> Tensor:
    """Directions in camera coordinates, right, up, backward; pixels count from the top left corner.

    Args:
        rows, columns: (rays,).
        cameras: fx, fy, cx, cy: (rays, 4) or, one for all, (4,).

    Returns:
        (rays, 3); the last coordinate is -1, so that distances along a ray are depths.
    """
    fx, fy, cx, cy = cameras.to(columns).unbind(-1)
    right = (columns - cx) / fx
    up = -(rows - cy) / fy
    return torch.stack([right, up, -torch.ones_like(right)], dim=-1)


def rays_through(scene: Scene, cameras: Tensor, poses: Tensor, rows: Tensor, columns: Tensor) -> Rays:
    """Rays of a scene's views through given pixels.

    Args:
        cameras: (rays, 4) or, one for all, (4,).
        poses: (rays, 3, 4) or, one for all, (3, 4).
        rows, columns: (rays,).
    """
    in_camera = pixel_directions(rows.to(poses), columns.to(poses), cameras)
    directions = (poses[..., :3] @ in_camera.unsqueeze(-1)).squeeze(-1)
    origins = poses[..., 3].expand_as(directions)
    view_directions = directions / directions.norm(dim=-1, keepdim=True)
    if scene.ndc:  # one mapping of space for all views
        origins, directions = normalised_device_rays(origins, directions, scene.height, scene.width, scene.camera)
    return Rays(origins, directions, view_directions)


def view_rays(scene: Scene, camera: Camera, pose: Tensor, stride: int = 1) -> Rays:
    """Rays through pixels 0, stride, 2·stride, … of rows and columns, row by row."""
    rows, columns = torch.arange(0, scene.height, stride), torch.arange(0, scene.width, stride)
    grid = torch.meshgrid(rows, columns, indexing="ij")
    return rays_through(scene, camera_tensor(camera), pose, grid[0].flatten(), grid[1].flatten())


def camera_tensor(*cameras: Camera) -> Tensor:
    """fx, fy, cx, cy in double precision: (4,), or (cameras, 4) of several."""
    return torch.tensor(cameras[0] if len(cameras) == 1 else cameras, dtype=torch.float64)


def normalised_device_rays(
    origins: Tensor, directions: Tensor, height: int, width: int, camera: Camera, near: float = NDC_NEAR
) -> tuple[Tensor, Tensor]:
    """Rays in normalised device coordinates: t from 0 to 1 goes from the near plane to infinity.

    Mildenhall et al. 2020, appendix C, eqs. (25) and (26), for cameras that look along -z.

    Args:
        origins, directions: (rays, 3).
        camera: gives the focal lengths; wherever its middle is, the mapping keeps lines straight.
        near: distance of the near plane, to which the origins are moved first.
    """
    origins = origins - ((near + origins[..., 2:]) / directions[..., 2:]) * directions
    ox, oy, oz = origins.unbind(-1)
    dx, dy, dz = directions.unbind(-1)
    ax, ay = -2 * camera.fx / width, -2 * camera.fy / height
    moved = torch.stack([ax * ox / oz, ay * oy / oz, 1 + 2 * near / oz], dim=-1)
    turned = torch.stack([ax * (dx / dz - ox / oz), ay * (dy / dz - oy / oz), -2 * near / oz], dim=-1)
    return moved, turned

"""What a scene is: views with poses and pinhole cameras, and the depths between which it lies.

A pose is camera-to-world, (3, 4): columns are the camera's right, up and backward axes and its position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dfa_bench.errors import CorruptData, counted
from dfa_bench.tasks.view_synthesis.cameras import Camera

ORTHONORMAL_WITHIN = 1e-3  # of poses that were written with few digits, or estimated in single precision


@dataclass(frozen=True)
class View:
    """One photograph.

    Args:
        name: of its file, without ending.
        number: in the official file: 56 of r_56; for LLFF the place among the sorted images.
        pose: (3, 4), camera to world.
        camera: of this view.
        load: reads its colours, (height, width, 3).
    """

    name: str
    number: int
    pose: Tensor
    camera: Camera
    load: Callable[[], Tensor]


@dataclass(frozen=True)
class Scene:
    """Views of one scene, all of one size.

    Args:
        name: of the scene.
        splits: "train", and where there are any "val" and "test".
        height, width: of every view, in pixels.
        camera: of new views, and by whose focal lengths device coordinates are normalised.
        near, far: depths along a ray, in units of the ray's direction; with ndc of the normalised rays.
        ndc: rays are put into normalised device coordinates (forward-facing scenes).
        white_background: what a ray sees that hits nothing; else black.
    """

    name: str
    splits: Mapping[str, Sequence[View]]
    height: int
    width: int
    camera: Camera
    near: float
    far: float
    ndc: bool
    white_background: bool

    def views(self, split: str) -> Sequence[View]:
        """Views of a split.

        Raises:
            CorruptData: the scene has no such view.
        """
        if not self.splits.get(split):
            raise CorruptData(f"The scene {self.name} has no {split} views. It has: {', '.join(self.splits)}.")
        return self.splits[split]


def check_pose(pose: Tensor, where: str) -> None:
    """Refuse what is no rigid motion.

    Args:
        pose: (3, 4).
        where: file and frame, for the message.

    Raises:
        CorruptData: NaN, infinite, or the axes are not orthonormal and right-handed.
    """
    if not torch.isfinite(pose).all():
        raise CorruptData(f"{where}: the pose has NaN or infinite entries. Copy the file again.")
    axes = pose[:, :3].double()
    off = (axes.T @ axes - torch.eye(3, dtype=torch.float64)).abs().max().item()
    if off > ORTHONORMAL_WITHIN or torch.linalg.det(axes) < 0:
        raise CorruptData(
            f"{where}: the pose is not a rotation (its axes are off orthonormal by {off:.2g}, allowed "
            f"{ORTHONORMAL_WITHIN:g}; determinant {torch.linalg.det(axes).item():.3g}, expected 1). Copy the file "
            f"again."
        )


def check_views(name: str, count: int) -> None:
    """Raises CorruptData for a scene with one training view: nothing could be learnt of its depth."""
    if count < 2:
        raise CorruptData(f"The scene {name} has {counted(count, 'training view')}; geometry needs at least 2.")

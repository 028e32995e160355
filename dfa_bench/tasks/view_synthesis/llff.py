"""Forward-facing real scenes of LLFF (Mildenhall et al. 2019): poses_bounds.npy and folders images_N."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch

from dfa_bench.errors import CorruptData
from dfa_bench.tasks.view_synthesis.blender import _load
from dfa_bench.tasks.view_synthesis.images import image_size, shrunk_size
from dfa_bench.tasks.view_synthesis.scenes import Scene, View, check_pose, check_views

HELD_OUT_EVERY = 8  # Mildenhall et al. 2020: views 0, 8, 16, … are tested
NEAREST_BOUND = 0.75  # ... and depths are scaled so that the nearest bound times this is 1


def load_llff(folder: Path, name: str, images: str, longest_side: int | None = None) -> Scene:
    """A scene from the official layout, recentred, in normalised device coordinates.

    Args:
        folder: with poses_bounds.npy.
        name: for messages.
        images: folder of the views, such as "images_8"; poses_bounds.npy is about the full resolution.
        longest_side: views are area-averaged to this many pixels; None: as they are.

    Raises:
        CorruptData: a frame is missing, an image has another size, a pose is no rigid motion, near is not below far.
    """
    poses, bounds, full_width, focal = read_poses_bounds(folder / "poses_bounds.npy")
    paths = sorted(path for path in (folder / images).glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    if len(paths) != len(poses):
        raise CorruptData(f"{name}: {folder / images} has {len(paths)} images, poses_bounds.npy {len(poses)} poses.")
    full = image_size(paths[0])
    for path in paths:
        if (found := image_size(path)) != full:
            raise CorruptData(f"{path} is {found[1]} × {found[0]} pixels, the first view {full[1]} × {full[0]}.")
    size = shrunk_size(*full, longest_side)
    scale = 1.0 / (bounds.min() * NEAREST_BOUND)
    poses = poses.copy()
    poses[:, :, 3] *= scale
    poses = recentred(poses)
    views = [
        View(path.stem, number, torch.from_numpy(pose).float(), functools.partial(_load, path, size))
        for number, (path, pose) in enumerate(zip(paths, poses, strict=True))
    ]
    splits = {
        "train": [view for view in views if view.number % HELD_OUT_EVERY],
        "test": views[::HELD_OUT_EVERY],
    }
    check_views(name, len(splits["train"]))
    focal = focal * size[1] / full_width
    return Scene(name, splits, *size, focal, near=0.0, far=1.0, ndc=True, white_background=False)


def read_poses_bounds(path: Path) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Poses (views, 3, 4) with axes right, up, backward; depth bounds (views, 2); width and focal length in pixels.

    The file has a row of 17 for each view: a 3 × 5 matrix (axes down, right, backward; position; height, width, focal
    length) and the bounds.

    Raises:
        CorruptData: see `load_llff`.
    """
    try:
        rows = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise CorruptData(f"{path} is missing. Copy the scene anew.") from None
    except (OSError, ValueError, EOFError) as error:
        raise CorruptData(f"{path} is damaged ({error}). Copy the file anew.") from None
    if rows.ndim != 2 or rows.shape[1] != 17 or not len(rows):
        raise CorruptData(f"{path} has shape {rows.shape}, expected (views, 17). Copy the file anew.")
    matrices, bounds = rows[:, :15].reshape(-1, 3, 5).astype(np.float64), rows[:, 15:].astype(np.float64)
    down, right, rest = matrices[:, :, 0:1], matrices[:, :, 1:2], matrices[:, :, 2:4]
    poses = np.concatenate([right, -down, rest], axis=2)
    for number, (pose, (near, far)) in enumerate(zip(poses, bounds, strict=True)):
        where = f"{path.parent.name}/{path.name}, view {number}"
        check_pose(torch.from_numpy(pose), where)
        if not 0 < near < far:
            raise CorruptData(f"{where}: the depth bounds are {near:g} and {far:g}; expected 0 < near < far.")
    _, width, focal = matrices[0, :, 4]
    if not (width > 0 and focal > 0):
        raise CorruptData(f"{path}: width {width:g} and focal length {focal:g} must be positive.")
    return poses, bounds, float(width), float(focal)


def recentred(poses: np.ndarray) -> np.ndarray:
    """Poses (views, 3, 4) as seen from their mean pose, which becomes the identity."""
    backward = _unit(poses[:, :, 2].sum(0))
    right = _unit(np.cross(poses[:, :, 1].sum(0), backward))
    up = _unit(np.cross(backward, right))
    axes, position = np.stack([right, up, backward], axis=1), poses[:, :, 3].mean(0)
    moved = poses.copy()
    moved[:, :, 3] -= position
    return axes.T @ moved


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)

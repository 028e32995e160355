"""Forward-facing real scenes of LLFF (Mildenhall et al. 2019): poses_bounds.npy and folders images_N."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch

from dfa_bench.errors import CorruptData
from dfa_bench.tasks.view_synthesis.cameras import centred, same_proportions
from dfa_bench.tasks.view_synthesis.images import common_size, read_header, read_view, shrunk_size
from dfa_bench.tasks.view_synthesis.scenes import Scene, View, check_pose, check_views
from dfa_bench.tasks.view_synthesis.transforms import HELD_OUT_EVERY, IMAGES

NEAREST_BOUND = 0.75  # Mildenhall et al. 2020: depths are scaled so that the nearest bound times this is 1


def load_llff(
    folder: Path,
    name: str,
    images: Path,
    longest_side: int | None = None,
    shrink_by: int = 1,
    near: float = 0.0,
    far: float = 1.0,
) -> Scene:
    """A scene from the official layout, recentred, in normalised device coordinates.

    Args:
        folder: with poses_bounds.npy, which is about the full resolution.
        name: for messages.
        images: folder of the views, such as FOLDER/images_8; they and the poses are in the same order.
        longest_side: views are area-averaged to this many pixels; None: as they are.
        shrink_by: ... and, before that, by this factor.
        near, far: of the rays in normalised device coordinates.

    Raises:
        CorruptData: a frame is missing, an image has another size, a pose is no rigid motion, near is not below far.
    """
    poses, bounds, sizes = read_poses_bounds(folder / "poses_bounds.npy")
    paths = view_files(images)
    if len(paths) != len(poses):
        raise CorruptData(
            f"{name}: {images} has {len(paths)} images, but poses_bounds.npy has {len(poses)} poses and does not say "
            f"which images they belong to. Remove the images without a pose (COLMAP lists those with one), or make "
            f"the poses again from these images."
        )
    full = common_size({path: read_header(path) for path in paths})
    size = shrunk_size(max(1, round(full[0] / shrink_by)), max(1, round(full[1] / shrink_by)), longest_side)
    scale = 1.0 / (bounds.min() * NEAREST_BOUND)
    poses = poses.copy()
    poses[:, :, 3] *= scale
    poses = recentred(poses)
    views = []
    for number, (path, pose, (height, width, focal)) in enumerate(zip(paths, poses, sizes.tolist(), strict=True)):
        if not same_proportions((width, height), (full[1], full[0])):
            raise CorruptData(
                f"{folder / 'poses_bounds.npy'}: view {number} has {width:g} × {height:g} pixels there, the image "
                f"{full[1]} × {full[0]}: other proportions. Use the images that the poses were made from, or smaller "
                f"copies of them."
            )
        camera = centred(focal * size[1] / width, *size)
        load = functools.partial(read_view, path, size)
        views.append(View(path.stem, number, torch.from_numpy(pose).float(), camera, load))
    splits = {
        "train": [view for view in views if view.number % HELD_OUT_EVERY],
        "test": views[::HELD_OUT_EVERY],
    }
    check_views(name, len(splits["train"]))
    return Scene(name, splits, *size, views[0].camera, near, far, ndc=True, white_background=False)


def view_files(folder: Path) -> list[Path]:
    """The images of a folder in the order of their names, but not those that a system hides there (`._img.png`)."""
    found = (path for path in folder.glob("*") if path.suffix.lower() in IMAGES and not path.name.startswith("."))
    return sorted(found)


def read_poses_bounds(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses (views, 3, 4) with axes right, up, backward; depth bounds (views, 2); sizes (views, 3).

    Sizes are height, width and focal length in pixels.

    The file has a row of 17 for each view: a 3 × 5 matrix (axes down, right, backward; position; height, width, focal
    length) and the bounds.

    Raises:
        CorruptData: see `load_llff`.
    """
    try:
        rows = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise CorruptData(f"{path} is missing. Copy the scene again.") from None
    except (OSError, ValueError, EOFError) as error:
        raise CorruptData(f"{path} is damaged ({error}). Copy the file again.") from None
    if rows.ndim != 2 or rows.shape[1] != 17 or not len(rows):
        raise CorruptData(f"{path} has shape {rows.shape}, expected (views, 17). Copy the file again.")
    matrices, bounds = rows[:, :15].reshape(-1, 3, 5).astype(np.float64), rows[:, 15:].astype(np.float64)
    down, right, rest = matrices[:, :, 0:1], matrices[:, :, 1:2], matrices[:, :, 2:4]
    poses, sizes = np.concatenate([right, -down, rest], axis=2), matrices[:, :, 4]
    for number, (pose, (near, far)) in enumerate(zip(poses, bounds, strict=True)):
        where = f"{path.parent.name}/{path.name}, view {number}"
        check_pose(torch.from_numpy(pose), where)
        if not 0 < near < far:
            raise CorruptData(f"{where}: the depth bounds are {near:g} and {far:g}; expected 0 < near < far.")
        height, width, focal = sizes[number]
        if not (height > 0 and width > 0 and 0 < focal < np.inf):
            raise CorruptData(
                f"{where}: height {height:g}, width {width:g} and focal length {focal:g} must be positive."
            )
    return poses, bounds, sizes


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

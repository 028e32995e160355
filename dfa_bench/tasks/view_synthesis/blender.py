"""Scenes by transforms.json: NeRF-Synthetic (Mildenhall et al. 2020), and own ones of instant-ngp or nerfstudio."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dfa_bench.errors import ConfigError, CorruptData
from dfa_bench.tasks.view_synthesis.images import common_size, read_header, read_view, shrunk_size
from dfa_bench.tasks.view_synthesis.scenes import Scene, View, check_pose, check_views
from dfa_bench.tasks.view_synthesis.transforms import HELD_OUT_EVERY, Frame, camera_of, read_transforms

# Depths of an object on a plain background, by the distance of the cameras: those of NeRF-Synthetic, 2 and 6 at 4.
OBJECT = (0.5, 1.5)
# ... and of photographs, which show what lies between and behind too.
PHOTOGRAPHS = (0.1, 4.0)


def load_blender(
    folder: Path, name: str, near: float | None, far: float | None, longest_side: int | None = None
) -> Scene:
    """A scene from its transforms files, which say what views there are; a split without file is empty.

    The background is white where the images have transparency, else a part of the scene.

    Args:
        folder: see `read_transforms`.
        name: for messages.
        near, far: 2 and 6 for the official scenes; None: from where the cameras stand and look.
        longest_side: views are area-averaged to this many pixels; None: as they are.

    Raises:
        CorruptData: a frame is missing, an image has another size, a pose is no rigid motion, a lens distorts.
        ConfigError: near and far are not given, and cannot be found; or near is not below far.
    """
    transforms = read_transforms(folder, name)
    check_views(name, len(transforms.splits.get("train", [])))
    frames = [frame for split in transforms.splits.values() for frame in split]
    headers = {frame.image: read_header(frame.image) for frame in frames}
    full = common_size(headers)
    size = shrunk_size(*full, longest_side)
    splits = {split: [_view(frame, full, size) for frame in of_split] for split, of_split in transforms.splits.items()}
    if not transforms.split_is_given:
        held_out = f"every {HELD_OUT_EVERY}th of the {len(frames)} views is tested ({len(splits['test'])})"
        print(f"{name}: transforms.json does not say which views to test; {held_out}.", file=sys.stderr)
    transparent = any(header.alpha for header in headers.values())
    if near is None or far is None:
        distance = viewing_distance([view.pose for view in splits["train"]], name)
        nearest, farthest = (distance * share for share in (OBJECT if transparent else PHOTOGRAPHS))
        near, far = near if near is not None else nearest, far if far is not None else farthest
        told = f"near={near:.4g} and far={far:.4g}, by the distance of the cameras ({distance:.4g})"
        print(f"{name}: {told}; dataset.near and dataset.far set others.", file=sys.stderr)
    if near >= far:
        raise ConfigError(f"dataset.near={near:g} must be below dataset.far={far:g}.")
    camera = splits["train"][0].camera
    return Scene(name, splits, *size, camera, near, far, ndc=False, white_background=transparent)


def viewing_distance(poses: Sequence[torch.Tensor], name: str) -> float:
    """Mean depth, in the cameras, of the point that is nearest to all their axes.

    Args:
        poses: (3, 4) each.

    Raises:
        ConfigError: there is no such point before the cameras.
    """
    stacked = torch.stack(list(poses)).double()
    forward, positions = -stacked[:, :, 2], stacked[:, :, 3]  # (views, 3)
    across = torch.eye(3, dtype=torch.float64) - forward.unsqueeze(2) * forward.unsqueeze(1)  # (views, 3, 3)
    total = across.sum(0)
    if torch.linalg.eigvalsh(total)[0] > 1e-3:  # else all look one way
        point = torch.linalg.solve(total, (across @ positions.unsqueeze(2)).sum(0)).squeeze(1)
        depths = ((point - positions) * forward).sum(1)
        if (depths > 0).all():
            return float(depths.mean())
    raise ConfigError(
        f"{name}: its cameras do not look at one point, so that near and far cannot be found. Give the depths between "
        f"which the scene lies: dataset.near=… dataset.far=…"
    )


def _view(frame: Frame, full: tuple[int, int], size: tuple[int, int]) -> View:
    try:
        matrix = torch.from_numpy(np.array(frame.matrix, dtype=np.float64))
    except (TypeError, ValueError):
        matrix = torch.empty(0)
    if matrix.shape != (4, 4):
        raise CorruptData(f"{frame.where}: transform_matrix is not a 4 × 4 matrix. Copy the file again.")
    check_pose(matrix[:3], frame.where)
    digits = re.findall(r"\d+", frame.image.stem)
    number = int(digits[-1]) if digits else -1
    load = functools.partial(read_view, frame.image, size)
    return View(frame.image.stem, number, matrix[:3].float(), camera_of(frame, full, size), load)

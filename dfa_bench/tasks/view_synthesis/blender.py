"""Scenes of NeRF-Synthetic (Mildenhall et al. 2020): transforms_SPLIT.json and RGBA images, rendered with Blender."""

from __future__ import annotations

import functools
import json
import math
import re
from pathlib import Path
from typing import Any

import torch

from dfa_bench.errors import CorruptData
from dfa_bench.tasks.view_synthesis.images import image_size, read_image, shrink, shrunk_size
from dfa_bench.tasks.view_synthesis.scenes import Scene, View, check_pose, check_views

SPLITS = ("train", "val", "test")


def load_blender(folder: Path, name: str, near: float, far: float, longest_side: int | None = None) -> Scene:
    """A scene from the official layout. The json files say which views there are; a split without file is empty.

    Args:
        folder: with transforms_train.json.
        name: for messages.
        near, far: 2 and 6 for the official scenes.
        longest_side: views are area-averaged to this many pixels; None: as they are.

    Raises:
        CorruptData: a frame is missing, an image has another size, a pose is no rigid motion.
    """
    files = {split: _read(folder / f"transforms_{split}.json") for split in SPLITS if _exists(folder, split)}
    if "train" not in files:
        raise CorruptData(f"{name}: {folder / 'transforms_train.json'} is missing. Copy the scene anew.")
    first = _image_path(folder, files["train"]["frames"][0]) if files["train"]["frames"] else None
    check_views(name, len(files["train"]["frames"]))
    assert first is not None
    full = image_size(first)
    size = shrunk_size(*full, longest_side)
    splits = {
        split: [_view(folder, split, frame, full, size) for frame in values["frames"]]
        for split, values in files.items()
    }
    angle = files["train"]["camera_angle_x"]
    focal = 0.5 * size[1] / math.tan(0.5 * angle)
    return Scene(name, splits, *size, focal, near, far, ndc=False, white_background=True)


def count_frames(folder: Path) -> int:
    """Views of all splits, by the json files; raises CorruptData."""
    return sum(len(_read(folder / f"transforms_{split}.json")["frames"]) for split in SPLITS if _exists(folder, split))


def _exists(folder: Path, split: str) -> bool:
    return (folder / f"transforms_{split}.json").is_file()


def _read(path: Path) -> Any:
    try:
        values = json.loads(path.read_text())
        angle, frames = float(values["camera_angle_x"]), values["frames"]
        assert isinstance(frames, list)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise CorruptData(
            f"{path} is damaged ({type(error).__name__}: {error}); it needs 'camera_angle_x' and 'frames'."
        ) from None
    if not 0 < angle < math.pi:  # NaN too
        raise CorruptData(f"{path}: camera_angle_x is {angle}; expected radians between 0 and π.")
    return values


def _image_path(folder: Path, frame: Any) -> Path:
    try:
        path = folder / str(frame["file_path"])
    except (KeyError, TypeError):
        raise CorruptData(f"{folder}: a frame has no file_path. Copy its transforms file anew.") from None
    return path if path.suffix else path.with_name(path.name + ".png")


def _view(folder: Path, split: str, frame: Any, full: tuple[int, int], size: tuple[int, int]) -> View:
    path = _image_path(folder, frame)
    where = f"{folder.name}/transforms_{split}.json, {path.stem}"
    try:
        matrix = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
        assert matrix.shape == (4, 4)
    except (KeyError, TypeError, ValueError, AssertionError):
        raise CorruptData(f"{where}: transform_matrix is no 4 × 4 matrix. Copy the file anew.") from None
    check_pose(matrix[:3], where)
    if (found := image_size(path)) != full:
        raise CorruptData(f"{path} is {found[1]} × {found[0]} pixels, the first view {full[1]} × {full[0]}.")
    digits = re.findall(r"\d+", path.stem)
    number = int(digits[-1]) if digits else -1
    return View(path.stem, number, matrix[:3].float(), functools.partial(_load, path, size))


def _load(path: Path, size: tuple[int, int]) -> torch.Tensor:
    image = read_image(path)
    return image if tuple(image.shape[:2]) == size else shrink(image, *size)

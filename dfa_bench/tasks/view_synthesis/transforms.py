"""What transforms.json says: frames with their images, poses and cameras, as instant-ngp, nerfstudio and Blender write.

Either there is a file for each split, transforms_train.json, _val and _test, as in NeRF-Synthetic; or one for all,
transforms.json, with lists train_filenames, val_filenames and test_filenames (nerfstudio) or without a split.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfa_bench.errors import CorruptData
from dfa_bench.tasks.view_synthesis.cameras import Camera, centred, same_proportions

SPLITS = ("train", "val", "test")
HELD_OUT_EVERY = 8  # of views without a split: 0, 8, 16, … are tested, as Mildenhall et al. 2020 do with LLFF's
IMAGES = (".png", ".jpg", ".jpeg")
DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")  # of OpenCV's models
PINHOLE = ("PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE")
UNDISTORTABLE = ("SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")  # are pinhole cameras if all coefficients are 0
UNDISTORT = "Undistort the images first, for example with `colmap image_undistorter`"
CAMERA_KEYS = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y", "camera_model", "is_fisheye")


@dataclass(frozen=True)
class Frame:
    """One view.

    Args:
        image: its file.
        where: file and frame, for messages.
        matrix: "transform_matrix" as it stands there: camera to world, 4 × 4; columns right, up, backward, position.
        camera: the file's intrinsics, with the frame's own over them.
    """

    image: Path
    where: str
    matrix: Any
    camera: Mapping[str, Any]


@dataclass(frozen=True)
class Transforms:
    splits: Mapping[str, Sequence[Frame]]
    split_is_given: bool  # by the files; else every 8th view is held out


def is_here(folder: Path) -> bool:
    return (folder / "transforms_train.json").is_file() or (folder / "transforms.json").is_file()


def read_transforms(folder: Path, name: str) -> Transforms:
    """The frames of a scene by split; images are not opened.

    Raises:
        CorruptData: a file is damaged, lacks a key, or names a view that it does not have.
    """
    files = {split: folder / f"transforms_{split}.json" for split in SPLITS}
    if files["train"].is_file():
        return Transforms({split: _read(path)[1] for split, path in files.items() if path.is_file()}, True)
    if not (folder / "transforms.json").is_file():
        raise CorruptData(
            f"{name}: {folder} has no transforms_train.json or transforms.json. Copy the scene again, or give its "
            f"folder with dataset.folder=DIR."
        )
    values, frames = _read(folder / "transforms.json")
    frames.sort(key=lambda frame: str(frame.image))
    lists = {split: values[f"{split}_filenames"] for split in SPLITS if f"{split}_filenames" in values}
    if lists:
        return Transforms({split: _named(folder, frames, names) for split, names in lists.items()}, True)
    train = [frame for number, frame in enumerate(frames) if number % HELD_OUT_EVERY]
    return Transforms({"train": train, "test": frames[::HELD_OUT_EVERY]}, False)


def camera_of(frame: Frame, image: tuple[int, int], size: tuple[int, int]) -> Camera:
    """The camera of a view in pixels of the size that it is shrunk to.

    Files with `fl_x` or `cx` count pixels from the image's edge, as COLMAP, instant-ngp and nerfstudio do: the first
    pixel's middle is 0.5. What a file does not say is as in the released code, see `centred`.

    Args:
        image: (height, width) of its file.
        size: (height, width) that it is shrunk to.

    Raises:
        CorruptData: the lens distorts, a number is missing or impossible, or the image has other proportions.
    """
    values, where = frame.camera, frame.where
    _refuse_distortion(values, where)
    width, height = (_number(values, key, where, default) for key, default in (("w", image[1]), ("h", image[0])))
    if not same_proportions((width, height), (image[1], image[0])):
        raise CorruptData(
            f"{where}: w={width:g} and h={height:g}, but the image has {image[1]} × {image[0]} pixels: other "
            f"proportions, as if it was turned or cropped afterwards. Use the images that the cameras were estimated "
            f"from."
        )
    across, down = size[1] / width, size[0] / height
    fx, fy = _focal(values, "x", where, size[1], across), _focal(values, "y", where, size[0], down)
    if fx is None and fy is None:
        raise CorruptData(
            f"{where}: the file has neither fl_x nor camera_angle_x. One of them must give the focal length."
        )
    middle = centred(fx or fy or 0.0, *size)  # square pixels
    cx = _number(values, "cx", where) * across - 0.5 if "cx" in values else middle.cx
    cy = _number(values, "cy", where) * down - 0.5 if "cy" in values else middle.cy
    return Camera(fx or middle.fx, fy or middle.fy, cx, cy)


def _focal(values: Mapping[str, Any], axis: str, where: str, pixels: int, scale: float) -> float | None:
    """Focal length along an axis, by `fl_` or by the angle of view."""
    if f"fl_{axis}" in values:
        return _number(values, f"fl_{axis}", where) * scale
    if f"camera_angle_{axis}" in values and f"fl_{'y' if axis == 'x' else 'x'}" not in values:
        angle = _number(values, f"camera_angle_{axis}", where)
        if not angle < math.pi:
            raise CorruptData(f"{where}: camera_angle_{axis} is {angle:g}; expected radians between 0 and π.")
        return 0.5 * pixels / math.tan(0.5 * angle)
    return None


def _number(values: Mapping[str, Any], key: str, where: str, default: float | None = None) -> float:
    """A positive number."""
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:  # NaN too
        raise CorruptData(f"{where}: {key} is {value!r}; expected a positive number.")
    return float(value)


def _refuse_distortion(values: Mapping[str, Any], where: str) -> None:
    model = str(values.get("camera_model", "PINHOLE")).upper()
    coefficients = {key: values[key] for key in DISTORTION if values.get(key)}
    if coefficients:
        told = ", ".join(f"{key}={value}" for key, value in coefficients.items())
        raise CorruptData(f"{where}: the lens distorts ({told}), but rays are those of a pinhole camera. {UNDISTORT}.")
    if model not in (*PINHOLE, *UNDISTORTABLE) or values.get("is_fisheye"):
        told = "is_fisheye" if values.get("is_fisheye") else f"camera_model={model}"
        raise CorruptData(f"{where}: {told} is not supported; rays are those of a pinhole camera. {UNDISTORT}.")


def _read(path: Path) -> tuple[Mapping[str, Any], list[Frame]]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        frames = values["frames"]
        if not isinstance(frames, list):
            raise TypeError("'frames' is not a list")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptData(
            f"{path} is damaged ({type(error).__name__}: {error}); it needs 'frames' and the camera ('camera_angle_x' "
            f"or 'fl_x')."
        ) from None
    return values, [_frame(path, values, frame) for frame in frames]


def _frame(path: Path, values: Mapping[str, Any], frame: Any) -> Frame:
    if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
        raise CorruptData(f"{path}: a frame has no file_path. Copy the file again.")
    image = _image(path.parent, frame["file_path"])
    known = (*CAMERA_KEYS, *DISTORTION)
    camera = {key: value for key, value in {**values, **frame}.items() if key in known}
    where = f"{path.parent.name}/{path.name}, {image.stem}"
    return Frame(image, where, frame.get("transform_matrix"), camera)


def _image(folder: Path, file_path: str) -> Path:
    """The file of a frame; names may have Windows' separators, and lack the ending."""
    path = folder / file_path.replace("\\", "/")
    if path.suffix.lower() in IMAGES:
        return path
    candidates = [path.with_name(path.name + ending) for ending in (*IMAGES, *(each.upper() for each in IMAGES))]
    return next((each for each in candidates if each.is_file()), candidates[0])


def _named(folder: Path, frames: Sequence[Frame], names: Sequence[str]) -> list[Frame]:
    by_image = {frame.image: frame for frame in frames}
    images = [_image(folder, str(name)) for name in names]
    if unknown := [image for image in images if image not in by_image]:
        raise CorruptData(f"{folder / 'transforms.json'}: {unknown[0].name} is listed in a split, but has no frame.")
    return [by_image[image] for image in images]

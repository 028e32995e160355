"""Small scenes on disk, in the official layouts, to load and to damage."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dfa_bench.tasks.view_synthesis.standin import spiral_poses


def write_blender(folder: Path, views: int = 4, size: int = 8, splits: tuple[str, ...] = ("train", "test")) -> Path:
    """A scene of random RGBA images in the layout of NeRF-Synthetic."""
    random = np.random.default_rng(0)
    for split in splits:
        (folder / split).mkdir(parents=True)
        frames = []
        for number, pose in enumerate(spiral_poses(views, 4.0)):
            pixels = random.integers(0, 256, (size, size, 4), dtype=np.uint8)
            Image.fromarray(pixels, "RGBA").save(folder / split / f"r_{number}.png")
            matrix = torch.cat([pose, torch.tensor([[0.0, 0, 0, 1]])]).tolist()
            frames.append({"file_path": f"./{split}/r_{number}", "transform_matrix": matrix})
        values = {"camera_angle_x": 0.7, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(values))
    return folder


def write_llff(folder: Path, views: int = 10, size: tuple[int, int] = (6, 8)) -> Path:
    """A forward-facing scene in the layout of LLFF; images are an eighth of the full resolution."""
    random = np.random.default_rng(0)
    (folder / "images_8").mkdir(parents=True)
    height, width = size
    rows = []
    for number in range(views):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images_8" / f"image{number:03d}.png")
        turn = 0.1 * math.sin(number)
        right = np.array([math.cos(turn), 0.0, -math.sin(turn)])
        up, backward = np.array([0.0, 1.0, 0.0]), np.array([math.sin(turn), 0.0, math.cos(turn)])
        camera = [8.0 * height, 8.0 * width, 8.0 * 9]
        position = [0.1 * number, 0.05 * (number % 3), 0.0]
        matrix = np.stack([-up, right, backward, position, camera], axis=1)
        rows.append([*matrix.flatten(), 4.0, 50.0])
    np.save(folder / "poses_bounds.npy", np.array(rows))
    return folder


CAMERA = {"fl_x": 50.0, "fl_y": 44.0, "cx": 21.5, "cy": 10.25, "w": 40, "h": 24}


def write_transforms(
    folder: Path,
    views: int = 10,
    size: tuple[int, int] = (24, 40),
    ending: str = "jpg",
    mode: str = "RGB",
    separator: str = "/",
    camera: dict[str, object] = CAMERA,
) -> Path:
    """A scene as instant-ngp's colmap2nerf and nerfstudio write it: one transforms.json, photographs in images/."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    frames = []
    for number, pose in enumerate(spiral_poses(views, 3.0)):
        pixels = random.integers(0, 256, (*size, len(mode)), dtype=np.uint8)
        Image.fromarray(pixels, mode).save(folder / "images" / f"{number:04d}.{ending}")
        matrix = torch.cat([pose, torch.tensor([[0.0, 0, 0, 1]])]).tolist()
        frames.append({"file_path": separator.join(["images", f"{number:04d}.{ending}"]), "transform_matrix": matrix})
    (folder / "transforms.json").write_text(json.dumps({**camera, "frames": frames}))
    return folder


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a json file."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))

"""Photographs as tensors: colours in [0, 1], alpha laid over white, shrunk by area."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dfa_bench.errors import CorruptData


def read_image(path: Path) -> Tensor:
    """Colours of an image file, shape (height, width, 3), in [0, 1]; alpha is laid over white, in floats.

    Raises:
        CorruptData: the file is missing, truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            mode = "RGBA" if _has_alpha(image) else "RGB"
            values = np.asarray(image.convert(mode))
    except FileNotFoundError:
        raise CorruptData(f"{path} is missing, although its scene names it. Copy the scene again.") from None
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's for truncated and foreign files
        raise CorruptData(f"{path} is truncated or not an image ({error}). Copy the file again.") from None
    return over_white(torch.from_numpy(values.copy()).float() / 255)


class Header(NamedTuple):
    """What an image file says of itself."""

    size: tuple[int, int]  # height, width
    alpha: bool


def read_header(path: Path) -> Header:
    """Size of an image, and whether it has transparency, without reading its pixels.

    Raises:
        CorruptData: the file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            return Header((image.height, image.width), _has_alpha(image))
    except FileNotFoundError:
        raise CorruptData(f"{path} is missing, although its scene names it. Copy the scene again.") from None
    except (OSError, SyntaxError) as error:
        raise CorruptData(f"{path} is truncated or not an image ({error}). Copy the file again.") from None


def common_size(headers: Mapping[Path, Header]) -> tuple[int, int]:
    """(height, width) of the views of a scene.

    Raises:
        CorruptData: they are not of one size.
    """
    first = next(iter(headers.values())).size
    for path, header in headers.items():
        if (found := header.size) != first:
            raise CorruptData(
                f"{path} is {found[1]} × {found[0]} pixels, the first view {first[1]} × {first[0]}. All views of a "
                f"scene need one size: crop or resize them, or leave it out."
            )
    return first


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def read_view(path: Path, size: tuple[int, int]) -> Tensor:
    """Colours of an image, shrunk to (height, width) if it is larger."""
    image = read_image(path)
    return image if tuple(image.shape[:2]) == size else shrink(image, *size)


def over_white(image: Tensor) -> Tensor:
    """Colours (..., 3) of an image with or without alpha, (..., 4) or (..., 3), on a white background."""
    if image.shape[-1] == 3:
        return image
    colour, alpha = image[..., :3], image[..., 3:]
    return colour * alpha + (1 - alpha)


def shrink(image: Tensor, height: int, width: int) -> Tensor:
    """Area average: each new pixel is the mean of what it covers, fractions of pixels included.

    Args:
        image: (old height, old width, channels).
        height, width: not larger than the old ones.
    """
    rows = _coverage(image.shape[0], height).to(image)
    columns = _coverage(image.shape[1], width).to(image)
    return torch.einsum("ih,hwc,jw->ijc", rows, image, columns)


def shrunk_size(height: int, width: int, longest_side: int | None) -> tuple[int, int]:
    """Size with the given longest side and the same proportions; unchanged if it is not larger than that."""
    longest = max(height, width)
    if longest_side is None or longest <= longest_side:
        return height, width
    return max(1, round(height * longest_side / longest)), max(1, round(width * longest_side / longest))


def _coverage(old: int, new: int) -> Tensor:
    """(new, old): the share that each old pixel has of each new one; rows sum to one."""
    edges = torch.arange(new + 1, dtype=torch.float64) * old / new
    start = torch.arange(old, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], start + 1) - torch.maximum(edges[:-1, None], start)
    return overlap.clamp(min=0) * new / old

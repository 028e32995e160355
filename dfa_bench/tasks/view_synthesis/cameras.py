"""A pinhole camera without lens distortion."""

from __future__ import annotations

from typing import NamedTuple


class Camera(NamedTuple):
    """In pixels; row r and column c look along ((c - cx) / fx, -(r - cy) / fy, -1): right, up, backward."""

    fx: float
    fy: float
    cx: float
    cy: float

    def scaled(self, by: float) -> Camera:
        """The same camera with so many times as many pixels a side."""
        return Camera(*(value * by for value in self))


def centred(focal: float, height: int, width: int) -> Camera:
    """As in the released code there is no half-pixel offset: column W/2 and row H/2 look straight ahead."""
    return Camera(focal, focal, width * 0.5, height * 0.5)


def same_proportions(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Whether two sizes are one, scaled and rounded to whole pixels."""
    ratio = (first[0] / second[0]) / (first[1] / second[1])
    return abs(ratio - 1) <= 1 / min(*first, *second)

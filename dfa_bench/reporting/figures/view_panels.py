"""Drawing rendered views: one line of panels for each scene and each kind of picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

PANEL = 2.0  # width in inches
ERROR_AT_MOST = 0.5  # of the colour scale of error maps, in colours from 0 to 1
OUTLIERS = 1  # per cent of the depths of a scene at either end that do not count for its colour scale


@dataclass(frozen=True)
class ViewPanel:
    """One view as a photograph shows it or a model renders it."""

    title: str
    image: np.ndarray  # (height, width, 3), in [0, 1]
    depth: np.ndarray | None  # (height, width), between 0 (near) and 1 (far); None for a photograph


def draw_views(scenes: Mapping[str, Sequence[ViewPanel]], heading: str) -> Figure:
    """Colours, error maps and depths; the first panel of each scene is its photograph, with the scales below it.

    Args:
        scenes: panels by what stands left of them, as many in each.
        heading: above all.
    """
    columns = max(len(panels) for panels in scenes.values())
    shapes = [panels[0].image.shape for panels in scenes.values()]
    heights = [height / width for height, width, _ in shapes for _ in range(3)]
    size = (PANEL * columns, PANEL * sum(heights) + 0.35 * len(scenes) + 0.5)  # inches; titles and heading
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(heading)
    lines = figure.subplots(len(heights), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes in lines.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("lightgrey")  # else white views have no edges
    for number, (name, panels) in enumerate(scenes.items()):
        _draw_scene(lines[3 * number : 3 * number + 3], name, panels)
    return figure


def _draw_scene(lines: np.ndarray, name: str, panels: Sequence[ViewPanel]) -> None:
    """Three lines of axes: colours, errors, depths."""
    colours, errors, depths = lines
    rendered = [panel.depth for panel in panels if panel.depth is not None]
    near, far = np.percentile(np.stack(rendered), [OUTLIERS, 100 - OUTLIERS])
    for axes, label in ((colours, name), (errors, "error"), (depths, "depth")):
        axes[0].set_ylabel(label)
    for column, panel in enumerate(panels):
        colours[column].imshow(panel.image.clip(0, 1), interpolation="nearest")
        colours[column].set_title(panel.title, fontsize=8)
        if panel.depth is None:
            continue
        error = np.abs(panel.image - panels[0].image).mean(axis=-1)
        off = errors[column].imshow(error, cmap="magma", vmin=0, vmax=ERROR_AT_MOST, interpolation="nearest")
        seen = depths[column].imshow(panel.depth, cmap="viridis_r", vmin=near, vmax=far, interpolation="nearest")
    _draw_scale(errors[0], off, {0.0: "0", ERROR_AT_MOST: f"≥ {ERROR_AT_MOST}"})
    _draw_scale(depths[0], seen, {near: "near", far: "far"})


def _draw_scale(axes: Axes, image: AxesImage, ticks: Mapping[float, str]) -> None:
    axes.spines[:].set_visible(False)
    bar = axes.inset_axes((0.15, 0.5, 0.7, 0.06))
    axes.figure.colorbar(image, cax=bar, orientation="horizontal", ticks=list(ticks))
    bar.set_xticklabels(list(ticks.values()), fontsize=8)

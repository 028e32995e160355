"""Drawing rendered views: one line of panels for each scene and each kind of picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

ERROR_AT_MOST = 0.5  # of the colour scale of error maps, in colours from 0 to 1


@dataclass(frozen=True)
class Panel:
    """One view as a photograph shows it or a model renders it."""

    title: str
    image: np.ndarray  # (height, width, 3), in [0, 1]
    depth: np.ndarray | None  # (height, width), between 0 (near) and 1 (far); None for a photograph


def draw_views(scenes: Mapping[str, Sequence[Panel]], heading: str) -> Figure:
    """Colours, error maps and depths; the first panel of each scene is its photograph.

    Args:
        scenes: panels by what stands left of them, as many in each.
        heading: above all.
    """
    columns = max(len(panels) for panels in scenes.values())
    figure = Figure(figsize=(2.2 * columns, 6.4 * len(scenes) + 0.5), layout="constrained")
    figure.suptitle(heading)
    lines = figure.subplots(3 * len(scenes), columns, squeeze=False)
    for axes in lines.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for number, (name, panels) in enumerate(scenes.items()):
        colours, errors, depths = lines[3 * number : 3 * number + 3]
        truth = panels[0].image
        for axes, label in ((colours, name), (errors, "error"), (depths, "depth")):
            axes[0].set_ylabel(label)
        for column, panel in enumerate(panels):
            colours[column].imshow(panel.image.clip(0, 1), interpolation="nearest")
            colours[column].set_title(panel.title, fontsize=8)
            if panel.depth is not None:
                error = np.abs(panel.image - truth).mean(axis=-1)
                errors[column].imshow(error, cmap="magma", vmin=0, vmax=ERROR_AT_MOST, interpolation="nearest")
                depths[column].imshow(panel.depth, cmap="viridis_r", vmin=0, vmax=1, interpolation="nearest")
    return figure

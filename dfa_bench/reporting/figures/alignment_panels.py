"""Drawing alignment over training: a panel for each model, a line for each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLUMNS = 3  # panels side by side
# Groups of layers differ in hue, dashes and markers, so that they are told apart without colours too; within a group
# lines go from light to dark with depth.
LOOKS = (
    ("Blues", "-", "o"),
    ("Oranges", "--", "s"),
    ("Greens", "-.", "^"),
    ("Purples", ":", "D"),
    ("Greys", (0, (6, 1, 1, 1, 1, 1)), "v"),
)
LIGHTEST, DARKEST = 0.45, 0.95  # of a colour map
LOWEST = -0.4  # of the axis, so that panels compare, unless a mean is below
BANDS_UP_TO = 2  # lines in a panel; more bands would hide each other


@dataclass(frozen=True)
class LayerCurve:
    """Alignment of one module over training: mean and standard deviation of cosines over rows."""

    group: str  # of layers of one kind
    label: str
    epochs: Sequence[float]  # trained before
    mean: Sequence[float]
    std: Sequence[float]


@dataclass(frozen=True)
class AlignmentPanel:
    title: str
    layers: Sequence[LayerCurve]  # by group, at most as many as there are LOOKS; each from the input on


def draw_alignment(panels: Sequence[AlignmentPanel], heading: str) -> Figure:
    """Lines of means; where there are few, a band of one standard deviation around each."""
    columns = min(len(panels), COLUMNS)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.9 * columns, 3.1 * rows + 0.6), layout="constrained")
    figure.suptitle(heading)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, axis in zip(panels, axes, strict=False):
        _draw(panel, axis)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.supylabel("cosine between DFA's and BP's gradient")
    return figure


def _draw(panel: AlignmentPanel, axis: Axes) -> None:
    lowest = min(mean for layer in panel.layers for mean in layer.mean)
    axis.set(xlabel="epochs", ylim=(min(LOWEST, lowest - 0.05), 1.05))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title(panel.title, fontsize=10)
    axis.grid(alpha=0.3)
    axis.axhline(0, color="black", linewidth=0.8)
    groups = list(dict.fromkeys(layer.group for layer in panel.layers))
    for group, (colours, dashes, marker) in zip(groups, LOOKS[: len(groups)], strict=True):
        layers = [layer for layer in panel.layers if layer.group == group]
        for depth, layer in enumerate(layers):
            shade = DARKEST if len(layers) == 1 else LIGHTEST + (DARKEST - LIGHTEST) * depth / (len(layers) - 1)
            colour = colormaps[colours](shade)
            look: dict[str, Any] = {
                "color": colour,
                "linestyle": dashes,
                "marker": marker,
                "markersize": 3,
                "linewidth": 1.4,
            }
            axis.plot(layer.epochs, layer.mean, label=layer.label, **look)
            if len(panel.layers) <= BANDS_UP_TO:
                low = [mean - std for mean, std in zip(layer.mean, layer.std, strict=True)]
                high = [mean + std for mean, std in zip(layer.mean, layer.std, strict=True)]
                axis.fill_between(layer.epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    if len(panel.layers) <= BANDS_UP_TO:
        axis.legend(fontsize=8, loc="lower right", frameon=False, handlelength=3)
    else:
        axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False, handlelength=3)

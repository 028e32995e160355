"""Learning curves: the rules over each other, a panel for each cell; or the panels that a table names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from dfa_bench.experiments.plan import marked
from dfa_bench.reporting.figures.drawing import COLOURS
from dfa_bench.settings.rules import rules

COLUMNS = 3  # panels side by side, at most
MARKERS = ("o", "s", "^", "v", "D", "P", "X")  # of the lines of a panel with several cells
MARKED = 30  # points of a line, at most, that are marked


@dataclass(frozen=True)
class Curve:
    """The validation metric of one run."""

    panel: str
    rule: str
    label: str  # runs of a panel with the same one differ in their seed; the rule's name where the panel is one cell
    points: Sequence[tuple[float, float]]
    stand_in: bool
    changed: bool = False  # with settings of the user's own


def draw_curves(curves: Sequence[Curve], over: str, metric: str, heading: str, log: bool = False) -> Figure:
    """One thin line per run; rules differ in dashes, labels in colour, and panels share the axes.

    Args:
        curves: of all panels.
        over: what the first number of a point counts.
        metric: the second one.
        heading: above all panels.
        log: draw the metric on a logarithmic axis.
    """
    panels = list(dict.fromkeys(curve.panel for curve in curves))
    rows = -(-len(panels) // COLUMNS)
    columns = -(-len(panels) // rows)
    by_rule = all(curve.label == rules()[curve.rule].label for curve in curves)
    width, height = (4.0, 3.0) if by_rule else (5.6, 4.2)  # several cells in a panel want room
    figure = Figure(figsize=(width * columns, height * rows + 0.8), layout="constrained")
    figure.suptitle(heading)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
    for place, (panel, axis) in enumerate(zip(panels, axes, strict=False)):
        lowest = place + columns >= len(panels)
        of_stand_in = any(curve.stand_in for curve in curves if curve.panel == panel)
        axis.set(title=marked(panel, of_stand_in), xlabel=over if lowest else "")
        axis.tick_params(labelbottom=lowest)
        axis.grid(alpha=0.3, which="both")
        _draw(axis, [curve for curve in curves if curve.panel == panel], by_rule)
        if max(x for curve in curves for x, _ in curve.points) >= 10_000:
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 2.5M
        if log:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("{x:g}")
        if not by_rule:
            axis.legend(handles=_once(axis).values(), labels=_once(axis).keys(), fontsize="small")
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.supylabel(metric)
    if by_rule:
        handles = {name: line for axis in axes for name, line in _once(axis).items()}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _draw(axis: Axes, curves: Sequence[Curve], by_rule: bool) -> None:
    labels = list(dict.fromkeys(curve.label for curve in curves))
    for curve in curves:
        place, drawn = labels.index(curve.label), rules()[curve.rule]
        axis.plot(
            *zip(*curve.points, strict=True),
            color=drawn.colour if by_rule else COLOURS[place % len(COLOURS)],
            linestyle=drawn.line,
            label=curve.label,
            linewidth=1.2,
            marker=drawn.marker if by_rule else MARKERS[place % len(MARKERS)],
            markersize=3,
            markevery=-(-len(curve.points) // MARKED),
        )


def _once(axis: Axes) -> dict[str, Artist]:
    """The lines of an axis by label, one of each."""
    return {name: line for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}

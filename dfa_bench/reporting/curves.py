"""Learning curves: BP, DFA and shallow over each other, a panel for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from dfa_bench.reporting.experiment import Rule
from dfa_bench.reporting.figures import COLOURS
from dfa_bench.reporting.tables import RULE_NAMES

COLUMNS = 3  # panels side by side
STYLES = {"bp": "-", "dfa": "--", "shallow": ":"}  # told apart without colours too


@dataclass(frozen=True)
class Curve:
    """The validation metric of one run."""

    panel: str
    rule: Rule
    seed: int
    points: Sequence[tuple[float, float]]  # (epoch, value)
    stand_in: bool


def draw_curves(curves: Sequence[Curve], metric: str, heading: str) -> Figure:
    """One thin line per run; rules differ in colour and dashes, panels share the axes."""
    panels = list(dict.fromkeys(curve.panel for curve in curves))
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(4.0 * min(len(panels), COLUMNS), 3.0 * rows + 0.8), layout="constrained")
    figure.suptitle(heading)
    axes = figure.subplots(rows, min(len(panels), COLUMNS), squeeze=False, sharex=True, sharey=True).flatten()
    for panel, axis in zip(panels, axes, strict=False):
        axis.set(title=panel, xlabel="epoch")
        axis.grid(alpha=0.3)
        for curve in (each for each in curves if each.panel == panel):
            colour = COLOURS[list(RULE_NAMES).index(curve.rule)]
            style = {"color": colour, "linestyle": STYLES[curve.rule], "label": RULE_NAMES[curve.rule]}
            axis.plot(*zip(*curve.points, strict=True), linewidth=1.2, marker=".", markersize=3, **style)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.supylabel(metric)
    handles = {name: line for axis in axes for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    return figure

"""Multi-view consistency of the models of Figure 1, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dfa_bench.reporting.grid import Grid, GridCell, cells
from dfa_bench.settings.rules import rules

NOTE = "A held-out view, warped into the view nearest to it by that one's depth; over: share of pixels both see."


def consistency_grid(evidence: Sequence[Mapping[str, Any]]) -> Grid:
    """One line for each model of each scene.

    Args:
        evidence: of `draw_figure1`, with neighbours.
    """
    return Grid(
        heads=["scene", "model", "PSNR to the photograph", "into the neighbour", "warped PSNR", "over"],
        rows=[_line(each) for each in evidence],
        title="Multi-view consistency (dB)",
        notes=[NOTE],
        numbers=(2, 4, 5),
    )


def _line(values: Mapping[str, Any]) -> list[GridCell]:
    model = f"{rules()[values['rule']].label}, " + (
        "the authors' model" if "checkpoint" in values else f"seed {values['seed']}"
    )
    agree = values["warp_psnr"]
    return cells(
        values["scene"],
        model,
        f"{values['psnr']:.2f}",
        f"{values['view']} → {values['neighbour']}",
        "nothing to warp" if agree is None else f"{agree:.2f}",
        f"{values['warp_share']:.0%}",
    )

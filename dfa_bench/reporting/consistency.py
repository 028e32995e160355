"""Multi-view consistency of the models of Figure 1, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dfa_bench.settings.rules import rules

HEADS = ["scene", "model", "PSNR to the photograph", "into the neighbour", "warped PSNR", "over"]


def consistency_markdown(evidence: Sequence[Mapping[str, Any]]) -> str:
    """One line for each model of each scene.

    Args:
        evidence: of `draw_figure1`, with neighbours.
    """
    lines = ["## Multi-view consistency (dB)", "", f"| {' | '.join(HEADS)} |", "| --- |" + " --- |" * (len(HEADS) - 1)]
    lines += [f"| {' | '.join(_cells(each))} |" for each in evidence]
    note = "A held-out view, warped into the view nearest to it by that one's depth; over: share of pixels both see."
    return "\n".join([*lines, "", note]) + "\n"


def _cells(values: Mapping[str, Any]) -> list[str]:
    model = f"{rules()[values['rule']].label}, " + (
        "the authors' model" if "checkpoint" in values else f"seed {values['seed']}"
    )
    agree = values["warp_psnr"]
    return [
        values["scene"],
        model,
        f"{values['psnr']:.2f}",
        f"{values['view']} → {values['neighbour']}",
        "nothing to warp" if agree is None else f"{agree:.2f}",
        f"{values['warp_share']:.0%}",
    ]

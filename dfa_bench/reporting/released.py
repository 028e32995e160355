"""The second block of Table 1: what `dfa-bench evaluate-checkpoint --json` wrote for several scenes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dfa_bench.errors import ConfigError
from dfa_bench.reporting.forms import CSV_COLUMNS
from dfa_bench.reporting.grid import Grid, GridCell, cells

FOLDER = "released"  # below the results
NETWORK = "4x128"  # of all of them: a column of the table
ROWS = {"blender": "NeRF-Synthetic", "llff": "LLFF-Real"}  # of the table, means over eight scenes, by layout
TITLE = "Table 1, second block: the authors' own DFA models, test PSNR (dB)"
HEADS = ["row", "scene", "fine", "coarse", "SSIM", "views", "pixels", "mode", "protocol", "paper, mean of 8 scenes"]
NOTE = (
    "Mean over views, in brackets the lowest and the highest. Nobody here trained these models, so they test the "
    "renderer. Protocol paper: all test views, or the one that the authors' test script takes, of a whole scene at the "
    "paper's resolution. Mode train: with random depths and, in real scenes, noise on the density, as that script "
    "renders. The paper's number is a mean over eight scenes, so no scene can be compared with it."
)


def evaluated(results: Path) -> list[dict[str, Any]]:
    """What is below results/released, synthetic scenes first.

    Raises:
        ConfigError: a file there is none of `evaluate-checkpoint`, or of a stand-in.
    """
    found = [_read(path) for path in sorted((results / FOLDER).glob("*.json"))]
    return sorted(found, key=lambda each: (each["paper"]["row"] == ROWS["llff"], each["scene"], each["mode"]))


def released_grid(evaluations: Sequence[Mapping[str, Any]]) -> Grid:
    """A line for each scene."""
    return Grid(HEADS, [_line(values) for values in evaluations], TITLE, [NOTE], numbers=(3, 4, 5, 9))


def released_values(evaluations: Sequence[Mapping[str, Any]]) -> Grid:
    """The same in the columns of the tables' csv files; one model a scene, so n is 1 and there is no deviation."""
    return Grid(
        CSV_COLUMNS,
        [
            cells(
                *("table1", values["scene"], NETWORK, "dfa", "released"),
                *(_metric(metric, values["mode"]), round(value, 6), None, 1, None, "paper", values["protocol"]),
            )
            for values in evaluations
            for metric, value in values["mean"].items()
            if value is not None
        ],
    )


def _metric(name: str, mode: str) -> str:
    return name if mode == "evaluation" else f"{name}_{mode}_mode"


def _line(values: Mapping[str, Any]) -> list[GridCell]:
    fine = [view["psnr"] for view in values["views"]]
    spread = f" ({min(fine):.2f} to {max(fine):.2f})" if len(fine) > 1 else ""
    likeness, stride = values["mean"]["ssim"], values["stride"]
    grid = f", stride {stride}" if stride > 1 else ""
    return cells(
        values["paper"]["row"],
        values["scene"],
        f"{statistics.fmean(fine):.2f}{spread}",
        f"{values['mean']['psnr_coarse']:.2f}",
        "" if likeness is None else f"{likeness:.3f}",
        str(len(fine)),
        f"{values['width']} × {values['height']}{grid}",
        values["mode"],
        values["protocol"],
        f"{values['paper']['dfa']:.2f}",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        assert values["views"]
        assert values["paper"]["row"]
        assert values["mode"]
        kind = values["data"]["kind"]
    except (ValueError, KeyError, TypeError, AssertionError):
        raise ConfigError(f"{path} was not written by `dfa-bench evaluate-checkpoint --json`. Move it away.") from None
    if kind != "real":
        raise ConfigError(f"{path} was measured on a {kind}, and would stand beside the paper's number. Move it away.")
    return values

"""What `dfa-bench evaluate-checkpoint --json` wrote for several scenes, as one table beside the paper's averages."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from dfa_bench.errors import ConfigError

FOLDER = "released"  # below the results


def released_markdown(results: Path) -> str | None:
    """The table of all evaluated models below results/released; None if there are none.

    Raises:
        ConfigError: a file there is none of `evaluate-checkpoint`.
    """
    found = [(path, _read(path)) for path in sorted((results / FOLDER).glob("*.json"))]
    if not found:
        return None
    out = ["## Table 1, the authors' own DFA models, test PSNR (dB)", ""]
    out += [
        "| row | scene | fine | coarse | SSIM | views | pixels | paper, mean of 8 scenes |",
        "| --- |" + " --- |" * 7,
    ]
    for _, values in sorted(found, key=lambda each: (each[1]["paper"]["row"] == "LLFF-Real", each[1]["scene"])):
        fine = [view["psnr"] for view in values["views"]]
        spread = f" ({min(fine):.2f} to {max(fine):.2f})" if len(fine) > 1 else ""
        likeness = values["mean"]["ssim"]
        pixels = f"{values['width']} × {values['height']}" + (
            f", every {values['stride']}th of rows and columns" if values["stride"] > 1 else ""
        )
        cells = [
            values["paper"]["row"],
            values["scene"],
            f"{statistics.fmean(fine):.2f}{spread}",
            f"{values['mean']['psnr_coarse']:.2f}",
            "" if likeness is None else f"{likeness:.3f}",
            str(len(fine)),
            pixels,
            f"{values['paper']['dfa']:.2f}",
        ]
        out.append("| " + " | ".join(cells) + " |")
    out += [
        "",
        "Mean over views, in brackets the lowest and the highest. Nobody here trained these models: they test the",
    ]
    out += [
        "renderer. No mean over eight scenes can be compared with the paper's, for want of the other scenes' images."
    ]
    return "\n".join(out) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        assert values["views"]
        assert values["paper"]["row"]
    except (ValueError, KeyError, TypeError, AssertionError):
        raise ConfigError(f"{path} was not written by `dfa-bench evaluate-checkpoint --json`. Move it away.") from None
    return values

"""`dfa-bench figure`: draw a figure of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dfa_bench.commands.arguments import take
from dfa_bench.errors import ConfigError
from dfa_bench.reporting.figures.alignment import draw_alignment_figure
from dfa_bench.reporting.figures.embeddings import draw_figure2
from dfa_bench.reporting.figures.views import SCENES, draw_figure1

NAMES = ("1", "2", "alignment")


def main(arguments: Sequence[str]) -> int:
    """Draw a figure of the paper; train the runs that it needs if they are not in the store.

    Raises:
        ConfigError: there is no such figure, or an override is impossible.
    """
    folder, arguments = take(arguments, "results", "results")
    names = [argument for argument in arguments if "=" not in argument]
    name = " ".join(names).removeprefix("figure")
    if name not in NAMES:
        raise ConfigError(f"There is no figure '{' '.join(names)}'. There are: {', '.join(NAMES)}.")
    overrides = [argument for argument in arguments if "=" in argument]
    if name == "1":
        scenes, overrides = take(overrides, "scenes", ",".join(SCENES))
        neighbours, overrides = take(overrides, "neighbours", "yes")
        if neighbours not in ("yes", "no"):
            raise ConfigError(f"neighbours={neighbours}: give yes or no.")
        draw_figure1(Path(folder), overrides, scenes.split(","), neighbours == "yes")
    elif name == "alignment":
        models, overrides = take(overrides, "models", "")
        draw_alignment_figure(Path(folder), overrides, models.split(",") if models else ())
    else:
        draw_figure2(Path(folder), overrides)
    return 0

"""`dfa-bench figure`: draw a figure of the paper, training what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dfa_bench.commands.grammar import COUNT, RESULTS, Command, listed, split, words_argument
from dfa_bench.errors import ConfigError, did_you_mean

NAMES = ("1", "2", "alignment")


@click.command(
    cls=Command,
    no_args_is_help=True,
    epilog="""
    dfa-bench figure 2 --seeds 3
    dfa-bench figure 1 --scenes lego,fern --neighbours no
    dfa-bench figure alignment --models cheb,gcn,spline,gat,gae
    """,
)
@words_argument("1|2|alignment [OVERRIDE]...", lambda: NAMES)
@click.option(
    "--scenes",
    default="",
    callback=listed,
    metavar="NAME,...",
    help="Scenes of figure 1 (default: lego,chair,fern,flower).",
)
@click.option(
    "--neighbours",
    type=bool,
    metavar="yes|no",
    default=True,
    help="Whether figure 1 measures multi-view consistency (default: yes).",
)
@click.option(
    "--models",
    default="",
    callback=listed,
    metavar="NAME,...",
    help="Panels of figure alignment to draw again; the others are kept (default: all).",
)
@click.option(
    "--seeds",
    type=COUNT,
    default=1,
    help="For figures 2 and alignment: seeds 0 to N-1 are measured, for `dfa-bench claims`; the first is drawn "
    "(default 1).",
)
@RESULTS
def command(
    words: Sequence[str],
    scenes: Sequence[str],
    neighbours: bool,
    models: Sequence[str],
    seeds: int,
    results: Path,
) -> int:
    """Draw a figure of the paper, as png (all but figure 1 as svg too) and its numbers and runs as json.

    Runs that are not in the run store are trained first.

    \b
    1          held-out views by NeRF with BP, DFA, shallow training and the authors' released models; error maps, depth
    2          t-SNE of the hidden layer of GraphConv on Cora, with BP, DFA and shallow training
    alignment  cosine between DFA's and BP's gradients over training, by layer (appendix A), a panel for each model
    OVERRIDE   a Hydra override for all runs: scale=paper, store.root=DIR, data.root=DIR, ...

    Figures of synthetic data are written as NAME-stand-in, those whose overrides change the outcome as NAME-changed.
    """
    names, overrides = split(words)
    name = " ".join(names).removeprefix("figure").strip()
    if name not in NAMES:
        raise ConfigError(f"unknown figure '{name}'.{did_you_mean(name, NAMES)} Figures: {', '.join(NAMES)}.")
    if name != "1" and (scenes or not neighbours):
        raise ConfigError(f"--scenes and --neighbours are of figure 1; figure {name} has none. Leave them out.")
    if name != "alignment" and models:
        raise ConfigError(f"--models is of figure alignment; figure {name} has no panels for models. Leave it out.")
    if name == "1" and seeds > 1:
        raise ConfigError("figure 1 is drawn from one seed, and no claim counts its seeds. Leave --seeds out.")
    if name == "1":
        from dfa_bench.reporting.figures.views import SCENES, draw_figure1

        draw_figure1(results, overrides, scenes or SCENES, neighbours)
    elif name == "2":
        from dfa_bench.reporting.figures.embeddings import draw_figure2

        draw_figure2(results, overrides, seeds)
    else:
        from dfa_bench.reporting.figures.alignment import draw_alignment_figure

        draw_alignment_figure(results, overrides, models, seeds)
    return 0

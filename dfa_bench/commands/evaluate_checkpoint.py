"""`dfa-bench evaluate-checkpoint`: measure the PSNR of a NeRF released by the paper's authors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfa_bench.commands.grammar import COUNT, FILE, Command, split, words_argument
from dfa_bench.errors import ConfigError, counted

if TYPE_CHECKING:
    from dfa_bench.tasks.view_synthesis.views import Measured


@click.command(
    cls=Command,
    no_args_is_help=True,
    epilog="""
    dfa-bench evaluate-checkpoint lego --stride 8 --views 0,56,120 --json lego.json
    dfa-bench evaluate-checkpoint fern --views nearest --train-mode --stride 1
    """,
)
@words_argument("SCENE [OVERRIDE]...")
@click.option(
    "--views",
    default="all",
    show_default=True,
    metavar="WHICH",
    help="Numbers of the official files, 0,56,120; all of the test split; or nearest, the one view nearest to the mean "
    "position, on which the authors test real scenes.",
)
@click.option(
    "--stride",
    type=COUNT,
    default=8,
    show_default=True,
    help="Render pixels 0, N, 2N, ... of rows and columns; 1: all pixels, and SSIM.",
)
@click.option(
    "--train-mode",
    is_flag=True,
    help="Render as the authors' test script does: with random depths and, in real scenes, noise on the density.",
)
@click.option(
    "--checkpoint",
    type=FILE,
    help="Another checkpoint in the authors' format (default: that of SCENE in data.root/nerf_checkpoints).",
)
@click.option("--json", "out", type=FILE, help="Write the numbers, view by view, to this file too.")
def command(
    words: Sequence[str], views: str, stride: int, train_mode: bool, checkpoint: Path | None, out: Path | None
) -> int:
    """Measure the PSNR of a NeRF that the paper's authors trained with DFA and released, on held-out views.

    PSNR is that of the fine and the coarse network against the photographs. Synthetic scenes are rendered at 800 x 800,
    real ones as in images_4; where these are missing, at 200 x 200 and as in images_8. Checkpoints are read as data;
    code in them is never run. When interrupted, the numbers of finished views are kept.

    \b
    SCENE     lego, chair, drums, ship, ..., fern, flower, ...
    OVERRIDE  data.root=DIR, dataset.longest_side=200, dataset.images=images_8, ...
    """
    import torch

    from dfa_bench.reporting import evaluating
    from dfa_bench.tasks.view_synthesis.checkpoints import load_released, released_checkpoint
    from dfa_bench.training.allocator import keep_freed_memory

    keep_freed_memory()
    names, overrides = split(words)
    if len(names) != 1:
        raise ConfigError(f"Name one scene, for example `dfa-bench evaluate-checkpoint lego`; given: {names}.")
    files, scene, settings = evaluating.open_scene(names[0], overrides)
    path = checkpoint or released_checkpoint(files, settings.data)
    model = load_released(path, scene).train(train_mode)
    torch.manual_seed(0)  # of what is random in training mode
    chosen = evaluating.choose_views(scene, views)
    evaluated = evaluating.what_is_evaluated(files, scene, settings, path)
    mode = {"mode": "train" if train_mode else "evaluation", "stride": stride}
    protocol = "reduced" if checkpoint else evaluating.protocol_of_scene(files, settings)

    def keep(measured: Sequence[Measured]) -> None:
        if out:
            of_views = protocol if evaluating.is_whole_test(measured, views, scene) else "reduced"
            whole = {**evaluated, **mode, "protocol": of_views, **evaluating.summary(measured)}
            evaluating.write_evaluation(out, whole)

    size = f"{scene.width} × {scene.height}, stride {stride}{', in training mode' if train_mode else ''}"
    print(f"{path.name}: {counted(len(chosen), 'view')} of {scene.name}, {size}")
    measured, status = evaluating.measure_views(model, scene, chosen, stride, keep)
    if status:
        return status
    whole = evaluating.summary(measured)
    print(evaluating.measured_text("mean", **whole["mean"], speed=whole["rays_per_second"]))
    paper = evaluated["paper"]
    print(f"{paper['row']}, DFA: {paper['dfa']:.2f} dB in the paper, over all pixels of 8 scenes.")
    return 0

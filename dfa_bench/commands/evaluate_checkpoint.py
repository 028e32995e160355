"""`dfa-bench evaluate-checkpoint`: measure the PSNR of a NeRF released by the paper's authors."""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfa_bench.commands.grammar import COUNT, FILE, Command, split, words_argument
from dfa_bench.errors import ConfigError, MissingData, Preempted, counted

if TYPE_CHECKING:
    from torch import nn

    from dfa_bench.settings.schema import RunSettings
    from dfa_bench.tasks.view_synthesis.datasets import SceneFiles
    from dfa_bench.tasks.view_synthesis.scenes import Scene, View

ROWS = {"blender": "NeRF-Synthetic", "llff": "LLFF-Real"}  # of Table 1, means over eight scenes
COLUMN = "4x128"  # of all released models
# What is looked for where views of the paper's resolution are missing, by layout.
SMALLER = {"blender": "dataset.longest_side=200", "llff": "dataset.images=images_8"}


@dataclass(frozen=True)
class Measured:
    """One view, over the rendered pixels: PSNR in dB of the fine and the coarse network."""

    view: str
    number: int
    psnr: float
    psnr_coarse: float
    ssim: float | None  # of whole images only
    rays: int
    seconds: float


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

    from dfa_bench.tasks.view_synthesis.checkpoints import load_released, released_checkpoint
    from dfa_bench.training.allocator import keep_freed_memory

    keep_freed_memory()
    names, overrides = split(words)
    if len(names) != 1:
        raise ConfigError(f"Name one scene, for example `dfa-bench evaluate-checkpoint lego`; given: {names}.")
    files, scene, settings = open_scene(names[0], overrides)
    path = checkpoint or released_checkpoint(files, settings.data)
    model = load_released(path, scene).train(train_mode)
    torch.manual_seed(0)  # of what is random in training mode
    chosen = choose_views(scene, views)
    setting = {
        **_setting(files, scene, settings, path),
        "mode": "train" if train_mode else "evaluation",
        "stride": stride,
    }
    protocol = "reduced" if checkpoint else _protocol(files, settings)
    size = f"{scene.width} × {scene.height}, stride {stride}{', in training mode' if train_mode else ''}"
    print(f"{path.name}: {counted(len(chosen), 'view')} of {scene.name}, {size}")
    measured: list[Measured] = []
    try:
        for view in chosen:
            measured.append(measure_view(model, scene, view, stride))
            last = measured[-1]
            print(_text(last.view, last.psnr, last.psnr_coarse, last.ssim, last.rays / last.seconds), flush=True)
            if out:
                of_views = protocol if _is_whole_test(measured, views, scene) else "reduced"
                _write(out, setting | {"protocol": of_views} | summary(measured))
    except Preempted as signal:
        print(f"\n{str(signal)[:-1]} after {len(measured)} of {len(chosen)} views; these are kept.", file=sys.stderr)
        return signal.status
    whole = summary(measured)
    print(_text("mean", **whole["mean"], speed=whole["rays_per_second"]))
    paper = setting["paper"]
    print(f"{paper['row']}, DFA: {paper['dfa']:.2f} dB in the paper, over all pixels of 8 scenes.")
    return 0


def open_scene(name: str, overrides: Sequence[str]) -> tuple[SceneFiles, Scene, RunSettings]:
    """A scene at the paper's resolution; where such views are missing, smaller ones.

    Raises:
        ConfigError: the scene is unknown, or a stand-in, beside which no number of the paper may stand.
        MissingData, CorruptData: of its files.
    """
    from dfa_bench.experiments.protocol import run_settings
    from dfa_bench.tasks.base import build_dataset
    from dfa_bench.tasks.view_synthesis.datasets import SceneFiles

    fixed = ["task=view_synthesis", "model=nerf", f"dataset={name}", "scale=paper"]
    settings = run_settings([*fixed, *overrides])
    if settings.data.stand_in:
        raise ConfigError(
            f"data.stand_in=true: the released models are of photographs, and are compared with the paper's numbers. "
            f"Leave it out; {name} is then looked for in data.root."
        )
    files = build_dataset(settings)
    assert isinstance(files, SceneFiles)
    try:
        return files, files.load(settings.data), settings
    except MissingData as originals:
        settings = run_settings([*fixed, SMALLER[files.layout], *overrides])
        files = build_dataset(settings)
        assert isinstance(files, SceneFiles)
        try:
            return files, files.load(settings.data), settings
        except MissingData:
            raise originals from None


def choose_views(scene: Scene, wanted: str) -> list[View]:
    """Views by their numbers in the official files ("0,56,120"), "all" of the test split, or the "nearest".

    The nearest is the one view, of any split, nearest to the mean position: the released code tests real scenes on it.

    Raises:
        ConfigError: a view is not one of the test split.
    """
    import torch

    test = scene.views("test")
    if wanted == "all":
        return list(test)
    if wanted == "nearest":
        every = sorted((view for views in scene.splits.values() for view in views), key=lambda view: view.number)
        positions = torch.stack([view.pose[:, 3] for view in every])
        return [every[int((positions - positions.mean(0)).norm(dim=-1).argmin())]]
    by_number = {str(view.number): view for view in test}
    unknown = [each for each in wanted.split(",") if each.strip() not in by_number]
    if unknown:
        raise ConfigError(
            f"--views: {scene.name} has no test view '{unknown[0]}' here. Choose from {', '.join(by_number)}, all and "
            f"nearest."
        )
    return [by_number[each.strip()] for each in wanted.split(",")]


def measure_view(model: nn.Module, scene: Scene, view: View, stride: int) -> Measured:
    """Render one view and compare it with its photograph."""
    from dfa_bench.tasks.view_synthesis.views import psnr, render_view, ssim

    truth = view.load()[::stride, ::stride]
    started = time.perf_counter()
    seen = render_view(model, scene, view.camera, view.pose, stride, progress=view.name)
    seconds = time.perf_counter() - started
    likeness = ssim(seen.fine, truth) if stride == 1 else None
    fine, coarse = psnr(seen.fine, truth), psnr(seen.coarse, truth)
    return Measured(view.name, view.number, fine, coarse, likeness, seen.depth.numel(), seconds)


def _is_whole_test(measured: Sequence[Measured], views: str, scene: Scene) -> bool:
    """Whether these are all held out views, or the nearest one, on which the authors test real scenes."""
    every = {view.name for view in scene.views("test")} <= {each.view for each in measured}
    return every or (views == "nearest" and scene.ndc)


def _protocol(files: SceneFiles, settings: RunSettings) -> str:
    """The paper's if the scene is whole and of its resolution: the training of released models is the paper's."""
    return settings.protocol if files.card(settings.data).whole else "reduced"


def _setting(files: SceneFiles, scene: Scene, settings: RunSettings, checkpoint: Path) -> dict[str, Any]:
    """What was evaluated, and the paper's number with its source."""
    from dfa_bench.experiments.schema import load_experiment
    from dfa_bench.runs.provenance import commit
    from dfa_bench.settings.resources import resource_folder

    row = ROWS[files.layout]
    table = load_experiment(resource_folder("experiments"), "table1")
    return {
        "scene": scene.name,
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "height": scene.height,
        "width": scene.width,
        "data": asdict(files.card(settings.data)),
        "commit": commit(),
        "paper": {
            "row": row,
            "dfa": table.paper["psnr"][row][COLUMN]["dfa"],
            "source": "Launay et al. 2020, Table 1, mean over 8 scenes",
        },
    }


def summary(measured: Sequence[Measured]) -> dict[str, Any]:
    """Each view, their mean, and the speed over all of them."""
    whole = [each.ssim for each in measured if each.ssim is not None]
    return {
        "views": [asdict(each) for each in measured],
        "mean": {
            "psnr": statistics.fmean(each.psnr for each in measured),
            "psnr_coarse": statistics.fmean(each.psnr_coarse for each in measured),
            "ssim": statistics.fmean(whole) if whole else None,
        },
        "rays_per_second": sum(each.rays for each in measured) / sum(each.seconds for each in measured),
    }


def _text(name: str, psnr: float, psnr_coarse: float, ssim: float | None, speed: float) -> str:
    likeness = "" if ssim is None else f", SSIM {ssim:.4f}"
    return f"{name:8}{psnr:7.2f} dB fine, {psnr_coarse:6.2f} coarse{likeness}, {speed:.0f} rays/s"


def _write(path: Path, values: dict[str, Any]) -> None:
    from dfa_bench.data.writing import atomic

    with atomic(path) as file:
        file.write(json.dumps(values, indent=2) + "\n")

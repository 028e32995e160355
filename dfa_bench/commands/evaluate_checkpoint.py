"""`dfa-bench evaluate-checkpoint`: held-out views by a model that the paper's authors released, and their PSNR."""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dfa_bench.commands.arguments import Arguments, positive
from dfa_bench.errors import ConfigError, MissingData
from dfa_bench.experiments.protocol import settings_of
from dfa_bench.experiments.schema import load_experiments
from dfa_bench.runs.provenance import commit
from dfa_bench.runs.record import atomic
from dfa_bench.settings.compose import compose_run
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.schema import DataSettings
from dfa_bench.tasks.base import build_dataset
from dfa_bench.tasks.view_synthesis.checkpoints import load_released, released_checkpoint
from dfa_bench.tasks.view_synthesis.datasets import SceneFiles
from dfa_bench.tasks.view_synthesis.scenes import Scene, View
from dfa_bench.tasks.view_synthesis.views import psnr, render_view, ssim

ROWS = {"blender": "NeRF-Synthetic", "llff": "LLFF-Real"}  # of Table 1
REDUCED_SIDE = 200  # of the copies that are looked for where the originals are missing


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


def main(arguments: Sequence[str]) -> int:
    """Evaluate, print and write. What is finished stays written when it is interrupted.

    Raises:
        ConfigError: there is no such scene or view, or an option is impossible.
        MissingData, CorruptData: of the scene or the checkpoint.
    """
    parser = Arguments("evaluate-checkpoint")
    parser.add_argument("scene")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--stride", type=positive, default=8)
    parser.add_argument("--views", default="all")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_intermixed_args(list(arguments))
    files, scene, data = open_scene(chosen.scene, chosen.overrides)
    path = chosen.checkpoint or released_checkpoint(files, data)
    model = load_released(path, scene)
    views = choose_views(scene, chosen.views)
    protocol = "reduced" if chosen.checkpoint else "paper"  # the authors' training is the paper's, another need not be
    setting = {"protocol": protocol, **_setting(files, scene, data, path, chosen.stride)}
    size = f"{scene.width} × {scene.height}, stride {chosen.stride}"
    print(f"{path.name}: {len(views)} view(s) of {scene.name}, {size}")
    measured: list[Measured] = []
    try:
        for view in views:
            measured.append(measure(model, scene, view, chosen.stride))
            last = measured[-1]
            print(_text(last.view, last.psnr, last.psnr_coarse, last.ssim, last.rays / last.seconds), flush=True)
            if chosen.json:
                _write(chosen.json, setting | summary(measured))
    except KeyboardInterrupt:
        print(f"\nInterrupted after {len(measured)} of {len(views)} views; these are kept.", file=sys.stderr)
        return 130
    whole = summary(measured)
    print(_text("mean", **whole["mean"], speed=whole["rays_per_second"]))
    paper = setting["paper"]
    print(f"{paper['row']}, DFA: {paper['dfa']:.2f} dB in the paper, over all pixels of 8 scenes.")
    return 0


def open_scene(name: str, overrides: Sequence[str]) -> tuple[SceneFiles, Scene, DataSettings]:
    """A scene at the resolution of its files; where the originals are not here, their 200-pixel copies.

    Raises:
        ConfigError, MissingData, CorruptData: see `main`.
    """
    fixed = ["task=view_synthesis", "model=nerf", f"dataset={name}", "++dataset.images=images_8"]
    settings = settings_of(compose_run([*fixed, "scale=paper", *overrides]))
    files = build_dataset(settings)
    assert isinstance(files, SceneFiles)
    try:
        return files, files.load(settings.data), settings.data
    except MissingData:
        smaller = settings_of(compose_run([*fixed, "scale=paper", f"dataset.longest_side={REDUCED_SIDE}", *overrides]))
        files = build_dataset(smaller)
        assert isinstance(files, SceneFiles)
        return files, files.load(smaller.data), smaller.data


def choose_views(scene: Scene, wanted: str) -> list[View]:
    """Views by their numbers in the official files ("0,56,120"), "all" of the test split, or the "nearest".

    The nearest is the one view, of any split, nearest to the mean position: the released code tests real scenes on it.

    Raises:
        ConfigError: there is no such test view.
    """
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
            f"--views: {scene.name} has no test view '{unknown[0]}' here. It has {', '.join(by_number)}; "
            f"'all' and 'nearest' choose too."
        )
    return [by_number[each.strip()] for each in wanted.split(",")]


def measure(model: torch.nn.Module, scene: Scene, view: View, stride: int) -> Measured:
    """Render one view and compare it with its photograph."""
    truth = view.load()[::stride, ::stride]
    started = time.perf_counter()
    seen = render_view(model, scene, view.camera, view.pose, stride, progress=view.name)
    seconds = time.perf_counter() - started
    likeness = ssim(seen.fine, truth) if stride == 1 else None
    fine, coarse = psnr(seen.fine, truth), psnr(seen.coarse, truth)
    return Measured(view.name, view.number, fine, coarse, likeness, seen.depth.numel(), seconds)


def _setting(files: SceneFiles, scene: Scene, data: DataSettings, checkpoint: Path, stride: int) -> dict[str, Any]:
    """What was evaluated, and the paper's number with its source."""
    row = ROWS[files.layout]
    table = load_experiments(resource_folder("experiments"))["table1"]
    return {
        "scene": scene.name,
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "height": scene.height,
        "width": scene.width,
        "stride": stride,
        "data": asdict(files.card(data)),
        "commit": commit(),
        "paper": {
            "row": row,
            "dfa": table.paper["psnr"][row]["mean"]["dfa"],
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
    with atomic(path) as file:
        file.write(json.dumps(values, indent=2) + "\n")

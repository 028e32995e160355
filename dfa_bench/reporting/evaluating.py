"""Measure a model that the paper's authors released on held-out views, beside the paper's number."""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dfa_bench.data.writing import atomic
from dfa_bench.errors import ConfigError, MissingData, Preempted
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.experiments.schema import load_experiment
from dfa_bench.reporting.released import NETWORK, ROWS
from dfa_bench.runs.provenance import commit
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import build_dataset
from dfa_bench.tasks.view_synthesis.datasets import SceneFiles
from dfa_bench.tasks.view_synthesis.scenes import Scene, View
from dfa_bench.tasks.view_synthesis.views import Measured, measure_view

# What is looked for where views of the paper's resolution are missing, by layout.
SMALLER = {"blender": "dataset.longest_side=200", "llff": "dataset.images=images_8"}


def open_scene(name: str, overrides: Sequence[str]) -> tuple[SceneFiles, Scene, RunSettings]:
    """A scene at the paper's resolution; where such views are missing, smaller ones.

    Raises:
        ConfigError: the scene is unknown, or a stand-in, beside which no number of the paper may stand.
        MissingData, CorruptData: of its files.
    """
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


def measure_views(
    model: nn.Module, scene: Scene, views: Sequence[View], stride: int, keep: Callable[[Sequence[Measured]], None]
) -> tuple[list[Measured], int]:
    """Measure views one after the other and tell of each.

    Args:
        model: ready to render.
        stride: see `measure_view`.
        keep: is called after each view with those so far.

    Returns:
        What was measured, and the status to exit with if that was interrupted; else 0.
    """
    measured: list[Measured] = []
    try:
        for view in views:
            truth = view.load()[::stride, ::stride]
            measured.append(measure_view(model, scene, view, truth, stride, progress=view.name))
            last, speed = measured[-1], measured[-1].rays / measured[-1].seconds
            print(measured_text(last.view, last.psnr, last.psnr_coarse, last.ssim, speed), flush=True)
            keep(measured)
    except Preempted as signal:
        print(f"\n{str(signal)[:-1]} after {len(measured)} of {len(views)} views; these are kept.", file=sys.stderr)
        return measured, signal.status
    return measured, 0


def is_whole_test(measured: Sequence[Measured], views: str, scene: Scene) -> bool:
    """Whether these are all held out views, or the nearest one, on which the authors test real scenes."""
    every = {view.name for view in scene.views("test")} <= {each.view for each in measured}
    return every or (views == "nearest" and scene.ndc)


def protocol_of_scene(files: SceneFiles, settings: RunSettings) -> str:
    """The paper's if the scene is whole and of its resolution: the training of released models is the paper's."""
    return settings.protocol if files.card(settings.data).whole else "reduced"


def what_is_evaluated(files: SceneFiles, scene: Scene, settings: RunSettings, checkpoint: Path) -> dict[str, Any]:
    """What was evaluated, and the paper's number with its source."""
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
            "dfa": table.paper["psnr"][row][NETWORK]["dfa"],
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


def measured_text(name: str, psnr: float, psnr_coarse: float, ssim: float | None, speed: float) -> str:
    likeness = "" if ssim is None else f", SSIM {ssim:.4f}"
    return f"{name:8}{psnr:7.2f} dB fine, {psnr_coarse:6.2f} coarse{likeness}, {speed:.0f} rays/s"


def write_evaluation(path: Path, values: dict[str, Any]) -> None:
    with atomic(path) as file:
        file.write(json.dumps(values, indent=2) + "\n")

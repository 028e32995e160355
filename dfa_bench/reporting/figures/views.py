"""`dfa-bench figure 1`: held-out views by BP, DFA, shallow training and the authors' own DFA models, side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from dfa_bench.errors import MissingData
from dfa_bench.experiments.plan import file_suffix
from dfa_bench.experiments.protocol import place
from dfa_bench.experiments.schema import load_experiment
from dfa_bench.reporting.consistency import consistency_grid
from dfa_bench.reporting.figures.drawing import publish, save
from dfa_bench.reporting.figures.trained_views import trained
from dfa_bench.reporting.figures.view_panels import ViewPanel, draw_views
from dfa_bench.reporting.grid import markdown
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.rules import rules
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import build_dataset
from dfa_bench.tasks.view_synthesis.checkpoints import load_released, released_checkpoint
from dfa_bench.tasks.view_synthesis.consistency import warp_psnr
from dfa_bench.tasks.view_synthesis.datasets import SceneFiles
from dfa_bench.tasks.view_synthesis.scenes import Scene, View
from dfa_bench.tasks.view_synthesis.views import Render, psnr, render_view
from dfa_bench.training.execute import Outcome, execute_to_end

SCENES = ("lego", "chair", "fern", "flower")


def draw_figure1(
    folder: Path, overrides: Sequence[str], scenes: Sequence[str] = SCENES, neighbours: bool = True
) -> None:
    """Draw the figure and write its numbers; trains the runs that it needs if they are not in the store.

    Args:
        folder: of results.
        overrides: of all runs.
        scenes: a line of panels each.
        neighbours: measure multi-view consistency too.

    Raises:
        ConfigError: there is no such scene.
        Diverged: a run has no trained weights.
    """
    drawn: dict[str, list[ViewPanel]] = {}
    evidence: list[dict[str, Any]] = []
    stand_in = changed = False
    rules_shown = load_experiment(resource_folder("experiments"), "table1").rules
    for name in scenes:
        own = ["task=view_synthesis", "model=nerf", f"dataset={name}"]
        placed = [place([*own, f"rule={rule}"], overrides) for rule in rules_shown]
        changed = changed or any(each.changed for each in placed)
        runs = [(each.settings, execute_to_end(each.settings)) for each in placed]
        stand_in = stand_in or any(outcome.result.stand_in for _, outcome in runs)
        panels, measured = _scene(runs, neighbours)
        drawn[name] = panels
        evidence += measured
    heading = "Figure 1: held-out views" + (" (STAND-IN DATA)" if stand_in else "")
    title = f"figure1{file_suffix(stand_in, changed)}"
    paths = save(draw_views(drawn, heading), folder, title, vector=False)
    texts = {".json": json.dumps(evidence, indent=2) + "\n"}
    if neighbours:
        texts[".md"] = markdown(consistency_grid(evidence))
    publish(paths, folder, title, texts)


def _scene(
    runs: Sequence[tuple[RunSettings, Outcome]], neighbours: bool
) -> tuple[list[ViewPanel], list[dict[str, Any]]]:
    """Panels and numbers of one scene: the photograph, each rule, the released model where it is here."""
    panels: list[ViewPanel] = []
    evidence = []
    for settings, outcome in runs:
        scene, model = trained(settings, outcome.folder)
        view = scene.views("test")[0]
        if not panels:
            panels.append(ViewPanel(f"{view.name}, photograph", view.load().numpy(), None))
        panel, numbers = _render(rules()[settings.rule.name].label, model, scene, view, neighbours)
        panels.append(panel)
        evidence.append({"scene": settings.dataset.name, **outcome.result.origin, **numbers})
    first, _ = runs[0]
    data, files = first.data, build_dataset(first)
    try:
        if isinstance(files, SceneFiles) and not data.stand_in:
            path = released_checkpoint(files, data)
            panel, numbers = _render("DFA, released", load_released(path, scene), scene, view, neighbours)
            panels.append(panel)
            evidence.append({"scene": files.name, "rule": "dfa", "checkpoint": path.name, "data": "real", **numbers})
    except MissingData as error:
        print(f"{error} The figure is drawn without it.", file=sys.stderr)
    return panels, evidence


def _render(
    title: str, model: nn.Module, scene: Scene, view: View, neighbours: bool
) -> tuple[ViewPanel, dict[str, Any]]:
    print(f"{scene.name}: {title}", file=sys.stderr, flush=True)
    seen, truth = render_view(model, scene, view.camera, view.pose, progress=title), view.load()
    value = psnr(seen.fine, truth)
    numbers: dict[str, Any] = {"view": view.name, "psnr": round(value, 3)}
    if neighbours:
        other = nearest_view(scene, view)
        beside = render_view(model, scene, other.camera, other.pose, progress=title)
        agree, share = consistency(scene, (view, other), (seen, beside))
        agreement = round(agree, 3) if share else None  # an empty scene has nothing that could be warped
        numbers |= {"neighbour": other.name, "warp_psnr": agreement, "warp_share": round(share, 3)}
    depth = ((seen.depth + (1 - seen.opacity) * scene.far - scene.near) / (scene.far - scene.near)).clamp(0, 1)
    return ViewPanel(f"{title}, {value:.1f} dB", seen.fine.numpy(), np.asarray(depth)), numbers


def nearest_view(scene: Scene, view: View) -> View:
    """The view of any split, but this one, whose camera is nearest."""
    others = [each for views in scene.splits.values() for each in views if each is not view]
    return min(others, key=lambda other: float((other.pose[:, 3] - view.pose[:, 3]).norm()))


def consistency(scene: Scene, views: tuple[View, View], renders: tuple[Render, Render]) -> tuple[float, float]:
    """PSNR of the first view, warped into the second, and the share of pixels that it is over."""
    first, second = renders
    return warp_psnr(
        scene,
        (views[0].camera, views[1].camera),
        (views[0].pose, views[1].pose),
        (first.fine, second.fine),
        (_surface_depth(first), _surface_depth(second)),
        (first.opacity, second.opacity),
    )


def _surface_depth(seen: Render) -> Tensor:
    """Expected depth of what a ray hits, if it hits anything: a fog that stops half of the ray is not half as far."""
    return seen.depth / seen.opacity.clamp(min=1e-6)

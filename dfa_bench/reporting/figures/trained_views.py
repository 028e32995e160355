"""A finished run of view synthesis, ready to render: its scene and its trained model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import nn

from dfa_bench.errors import ConfigError
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import build_dataset
from dfa_bench.tasks.view_synthesis.datasets import SceneDataset
from dfa_bench.tasks.view_synthesis.scenes import Scene
from dfa_bench.tasks.view_synthesis.task import build_nerf
from dfa_bench.training.finished import settings_of_record, with_trained_weights


def trained(settings: RunSettings, folder: Path) -> tuple[Scene, nn.Module]:
    """Scene and model, in evaluation mode, of a run that is done.

    Args:
        folder: of its record.
    """
    files = build_dataset(settings)
    assert isinstance(files, SceneDataset)
    scene = files.load(settings.data)
    return scene, with_trained_weights(build_nerf(settings.model, scene), folder)


def settings_of_views(folder: Path) -> RunSettings:
    """The settings of a finished run of view synthesis.

    Raises:
        ConfigError, RecordError: see `settings_of_record`; or the run is of another task.
    """
    settings = settings_of_record(folder)
    if settings.task.name != "view_synthesis":
        raise ConfigError(
            f"{folder} is a run of task={settings.task.name}; only runs of task=view_synthesis can be rendered."
        )
    return settings


def resized(scene: Scene, width: int) -> Scene:
    """The same camera with other pixels."""
    scale = width / scene.width
    camera = scene.camera.scaled(scale)
    return dataclasses.replace(scene, width=width, height=round(scene.height * scale), camera=camera)

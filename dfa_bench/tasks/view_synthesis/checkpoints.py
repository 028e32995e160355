"""Models that the paper's authors released: `SCENE_dfa.ckpt`, with the weights of two fields of 4 × 128."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dfa_bench.data.resolve import cache_folder, data_root
from dfa_bench.errors import CorruptData, MissingData
from dfa_bench.settings.schema import DataSettings
from dfa_bench.tasks.view_synthesis.datasets import SceneFiles
from dfa_bench.tasks.view_synthesis.models import NeRF
from dfa_bench.tasks.view_synthesis.scenes import Scene

FOLDER = "nerf_checkpoints"  # below data.root, with files as the authors name them
KINDS = {"blender": "synth", "llff": "real"}  # by layout of the scene
FIELDS = {"coarse": "model_coarse_state_dict", "fine": "model_fine_state_dict"}
# Their names -> ours; the trunk's first layer stands apart from the others in their code.
NAMES = {
    "layer1": "trunk.0.linear",
    "layers_xyz.0": "trunk.1.linear",
    "layers_xyz.1": "trunk.2.linear",
    "layers_xyz.2": "trunk.3.linear",
    "fc_alpha": "density",
    "fc_feat": "feature.linear",
    "layers_dir.0": "direction.linear",
    "fc_rgb": "colour",
}
SAMPLES = (64, 128)  # coarse and further fine ones, with which the authors evaluate
DENSITY_NOISE = 1.0  # of real scenes, in training mode


def released_checkpoint(files: SceneFiles, data: DataSettings) -> Path:
    """Where the authors' model of a scene lies.

    Raises:
        MissingData: nowhere.
    """
    name = f"{KINDS[files.layout]}_{files.name}_dfa.ckpt"
    places = [folder / FOLDER / name for folder in (data_root(data), cache_folder(data)) if folder]
    for place in places:
        if place.is_file():
            return place
    raise MissingData(
        f"The checkpoint {name} was not found. Looked for {' and '.join(map(str, places))}. Get it from "
        f"github.com/lightonai/dfa-scales-to-modern-deep-learning, or give a file with --checkpoint PATH."
    )


def load_released(path: Path, scene: Scene) -> NeRF:
    """A released model, ready to render. Its width is read from its weights; code in the file is never run.

    Raises:
        MissingData: there is no such file.
        CorruptData: it is no checkpoint of this kind, or holds anything but tensors and plain values.
    """
    weights = {field: _renamed(states, path) for field, states in _read(path).items()}
    width = weights["coarse"]["trunk.0.linear.weight"].shape[0]
    model = NeRF(
        depth=4,
        width=width,
        skip_at=None,
        feature_relu=True,
        coarse_samples=SAMPLES[0],
        fine_samples=SAMPLES[1],
        near=scene.near,
        far=scene.far,
        white_background=scene.white_background,
        density_noise=DENSITY_NOISE if scene.ndc else 0.0,
    )
    try:
        for field, values in weights.items():
            model.get_submodule(field).load_state_dict(values)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CorruptData(
            f"{path} does not have the released form, 4 layers of equal width ({reason[:300]})."
        ) from None
    return model.eval()


def _read(path: Path) -> dict[str, Mapping[str, Tensor]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise MissingData(f"The checkpoint {path} does not exist. Give one with --checkpoint PATH.") from None
    except pickle.UnpicklingError as error:
        raise CorruptData(
            f"{path} holds more than tensors and plain values, or is damaged; nothing in it was run "
            f"({str(error).splitlines()[0][:160]})."
        ) from None
    except Exception as error:  # the restricted unpickler has one of its own for each way in which a file is damaged
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CorruptData(f"{path} is truncated or not a checkpoint ({reason[:160]}).") from None
    return {field: _state(content, key, path) for field, key in FIELDS.items()}


def _state(content: Any, key: str, path: Path) -> Mapping[str, Tensor]:
    state = content.get(key) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CorruptData(f"{path} has no '{key}' of tensors, so it is not a checkpoint of the released NeRF.")
    return state


def _renamed(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        ours = NAMES.get(module)
        if ours is None:
            raise CorruptData(f"{path} has a layer '{module}'; a released NeRF has {', '.join(NAMES)} (4 layers).")
        renamed[f"{ours}.{kind}"] = value
    if "trunk.0.linear.weight" not in renamed:
        raise CorruptData(f"{path} has no 'layer1.weight', so it is not a checkpoint of the released NeRF.")
    return renamed

"""The sixteen scenes of Table 1 as choices of `dataset`, and the resolver with which configs/run.yaml knows their kind.

A kind of scene has a file, configs/dataset/KIND.yaml; a scene of the paper is that file with its name and source.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

EXAMPLES = "https://cseweb.ucsd.edu/~viscomp/projects/LF/papers/ECCV20/nerf/nerf_example_data.zip"  # lego and fern
# The folder with nerf_synthetic.zip and nerf_llff_data.zip that the authors' page, matthewtancik.com/nerf, links to.
ARCHIVES = "https://drive.google.com/drive/folders/1cK3UDIJqKAAm7zyrxRYVFJ0BRMgrwhh4"
SCENES = {
    **dict.fromkeys(("chair", "drums", "ficus", "hotdog", "lego", "materials", "mic", "ship"), "blender"),
    **dict.fromkeys(("fern", "flower", "fortress", "horns", "leaves", "orchids", "room", "trex"), "llff"),
}
DEPTHS: Mapping[str, Mapping[str, float]] = {"blender": {"near": 2.0, "far": 6.0}, "llff": {}}


def scene_settings(name: str) -> dict[str, Any]:
    """What a scene of the paper sets besides configs/dataset/KIND.yaml."""
    return {"name": name, "url": EXAMPLES if name in ("lego", "fern") else ARCHIVES, **DEPTHS[SCENES[name]]}


def scene_kind(dataset: str) -> str:
    """ "blender" or "llff" for a scene of the paper; any other choice of `dataset` is its own kind."""
    return SCENES.get(dataset, dataset)


def register() -> None:
    """Make the scenes and the resolver known to Hydra; again in each process, before anything is composed."""
    for name, kind in SCENES.items():
        node = {"defaults": [kind, "_self_"], **scene_settings(name)}
        ConfigStore.instance().store(group="dataset", name=name, node=node)
    OmegaConf.register_new_resolver("scene_kind", scene_kind, replace=True)

"""The feedback paths that have a name: the files of `configs/feedback/`."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from omegaconf import OmegaConf

from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.schema import PathSettings, RunSettings


def feedback_name(settings: RunSettings) -> str | None:
    """`macro` or `micro_logits`, for instance; None where a model has its own paths, or the user gave others."""
    return next((name for name, paths in _named().items() if paths == tuple(settings.feedback)), None)


@functools.cache
def _named() -> Mapping[str, tuple[PathSettings, ...]]:
    found = {}
    for path in sorted((resource_folder("configs") / "feedback").glob("*.yaml")):
        values = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(values, dict)
        found[path.stem] = tuple(PathSettings.model_validate(each) for each in values["feedback"])
    return found

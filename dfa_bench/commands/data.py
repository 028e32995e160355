"""`dfa-bench data`: which data sets are here, and where the others come from."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from omegaconf import OmegaConf

from dfa_bench.commands.arguments import take
from dfa_bench.errors import UserError
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.scenes import SCENES, scene_settings
from dfa_bench.settings.schema import DatasetSettings, DataSettings
from dfa_bench.tasks.base import Dataset, build


def main(arguments: Sequence[str]) -> int:
    known = known_datasets()
    root, arguments = take(arguments, "data.root", "")
    cache, names = take(arguments, "data.cache", "")
    get, names = (True, names[1:]) if names[:1] == ["get"] else (False, names)
    unknown = [name for name in names if name not in known]
    if unknown or (get and not names):
        what = f"There is no data set '{unknown[0]}'." if unknown else "Name the data sets to get."
        print(f"Error: {what} There are: {', '.join(known)}.", file=sys.stderr)
        return 2
    data = DataSettings(root=root or None, cache=cache or None, download=get, large=get)
    failed = False
    for name in names or known:
        dataset: Dataset = build(known[name], "dataset", name=known[name].name)
        try:
            print(f"{name}: {dataset.fetch(data)}")
        except UserError as error:
            failed = True
            print(f"{name}: {error}\n")
    return int(get and failed)


def known_datasets() -> dict[str, DatasetSettings]:
    """Data sets by the choice of `dataset`, but those that need a name of the user's."""
    folder = resource_folder("configs") / "dataset"
    files = {path.stem: OmegaConf.load(path) for path in sorted(folder.glob("*.yaml"))}
    scenes = {name: OmegaConf.merge(files[kind], scene_settings(name)) for name, kind in SCENES.items()}
    every = {name: OmegaConf.to_container(values) for name, values in sorted({**files, **scenes}.items())}
    return {
        name: DatasetSettings.model_validate(values)
        for name, values in every.items()
        if isinstance(values, dict) and "_target_" in values and values["name"] != "???"  # others are made of these
    }

"""`dfa-bench data`: list data sets, and download them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dfa_bench.commands.grammar import Command, split, words_argument
from dfa_bench.errors import ConfigError, UserError, did_you_mean

if TYPE_CHECKING:
    from dfa_bench.settings.schema import DatasetSettings


@click.command(
    cls=Command,
    epilog="""
    dfa-bench data
    dfa-bench data get cora pubmed
    dfa-bench data get lego fern data.cache=/big/disk
    """,
)
@words_argument("[get] [NAME]... [data.root=DIR] [data.cache=DIR]", lambda: ["get", *_known()])
def command(words: Sequence[str]) -> int:
    """List the data sets: where each is, or where to get it. With `get`, download some into the cache, large ones too.

    lego and fern come in one archive; the other scenes have to be downloaded with a browser. An interrupted download
    continues when the command is repeated.

    \b
    NAME            cora, pubmed, criteo, wikitext-103, lego, ... (default: all)
    data.root=DIR   a folder with data sets (default: the environment variable DFA_BENCH_DATA)
    data.cache=DIR  where downloads go (default: the user's cache)
    """
    from dfa_bench.data.resolve import OFF, SMOKE, reasons_once
    from dfa_bench.settings.schema import DataSettings
    from dfa_bench.tasks.base import Dataset, build

    known = _known()
    names, overrides = split(words)
    places = {key: value for key, _, value in (override.partition("=") for override in overrides)}
    if other := [key for key in places if key not in ("data.root", "data.cache")]:
        raise ConfigError(f"unknown option '{other[0]}'. Options: data.root=DIR and data.cache=DIR.")
    get, names = (True, names[1:]) if names[:1] == ["get"] else (False, names)
    unknown = [name for name in names if name not in known]
    if unknown or (get and not names):
        what = (
            f"unknown data set '{unknown[0]}'.{did_you_mean(unknown[0], known)}" if unknown else "Name the data sets."
        )
        raise ConfigError(f"{what} Data sets: {', '.join(known)}.")
    root, cache = places.get("data.root"), places.get("data.cache")
    data = DataSettings(root=root or None, cache=cache or None, download=get, large=get)
    missing = {}
    for name in names or known:
        dataset: Dataset = build(known[name], "dataset", name=known[name].name)
        try:
            print(f"{name}: {dataset.fetch(data)}")
        except UserError as error:
            reason = str(error).replace(f"{OFF} Get", f"`dfa-bench data get {name}` downloads it. Or get")
            missing[known[name].name] = reason.removesuffix(SMOKE).strip()
    for reason in reasons_once(missing):
        print(f"\n{reason}")
    if missing:
        print(f"\n{SMOKE}")
    return int(get and bool(missing))


def _known() -> dict[str, DatasetSettings]:
    """Data sets by the choice of `dataset`, but those that need a name of the user's."""
    from omegaconf import OmegaConf

    from dfa_bench.settings.resources import resource_folder
    from dfa_bench.settings.scenes import SCENES, scene_settings
    from dfa_bench.settings.schema import DatasetSettings

    folder = resource_folder("configs") / "dataset"
    files = {path.stem: OmegaConf.load(path) for path in sorted(folder.glob("*.yaml"))}
    scenes = {name: OmegaConf.merge(files[kind], scene_settings(name)) for name, kind in SCENES.items()}
    every = {name: OmegaConf.to_container(values) for name, values in sorted({**files, **scenes}.items())}
    return {
        name: DatasetSettings.model_validate(values)
        for name, values in every.items()
        if isinstance(values, dict) and "_target_" in values and values["name"] != "???"  # others are made of these
    }

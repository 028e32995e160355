"""A scene on disk: one of the paper's where its official archive puts it, one of the user's, or the stand-in."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from pydantic import validate_call

from dfa_bench.data.cached import remembered
from dfa_bench.data.resolve import SET_ROOT, SMOKE, DataCard, cache_folder, data_root
from dfa_bench.errors import MissingData
from dfa_bench.settings.schema import Count, DataSettings, Name, NotNegative
from dfa_bench.tasks.view_synthesis.spheres import VIEWS, made_of
from dfa_bench.tasks.view_synthesis.transforms import IMAGES, is_here, read_transforms

if TYPE_CHECKING:
    from dfa_bench.tasks.view_synthesis.scenes import Scene

BLENDER_VIEWS = {"train": 100, "test": 200}  # of the official scenes; no protocol looks at the 100 of validation
NEEDED = {"blender": "transforms.json or transforms_train.json", "llff": "poses_bounds.npy"}


@runtime_checkable
class SceneDataset(Protocol):
    """What the task asks of a data set."""

    def load(self, data: DataSettings) -> Scene: ...


class SceneFiles:
    """One scene, with transforms.json or in LLFF's layout.

    Args:
        name: of the scene.
        layout: "blender" (transforms_SPLIT.json or transforms.json) or "llff" (poses_bounds.npy, images_N).
        archive: folder of all scenes of its kind, below `data.root`.
        images: llff: folder of the views. A user's scene may have just `images`; they are then shrunk by the N of
            "images_N", or to `longest_side`.
        near, far: depths between which the scene lies; None (blender): from where the cameras stand and look. llff: in
            NDC, 0 and 1.
        longest_side: views are area-averaged to so many pixels; None: as they are. A ready-made copy in
            ARCHIVE_PIXELS/NAME is taken where there is one.
        url: where the official archive is: a zip that can be fetched, or a page to get it from in a browser; None: it
            is the user's own scene.
        folder: of the scene; None: ARCHIVE/NAME below `data.root`.
    """

    @validate_call
    def __init__(
        self,
        name: Name,
        layout: Literal["blender", "llff"],
        archive: str,
        images: str | None,
        near: NotNegative | None,
        far: NotNegative | None,
        longest_side: Count | None,
        url: str | None = None,
        folder: str | None = None,
    ) -> None:
        if near is not None and far is not None and near >= far:
            raise ValueError(f"near={near:g} must be below far={far:g}.")
        self.name, self.layout, self.archive, self.url = name, layout, archive, url
        self.images, self.near, self.far = images, near, far
        self.longest_side, self.folder = longest_side, folder

    def card(self, data: DataSettings) -> DataCard:
        """Raises MissingData or CorruptData, see `fetch`."""
        if data.stand_in:
            digest = hashlib.sha256(made_of().encode()).hexdigest()
            return DataCard("spheres over a checkerboard", "stand-in", sum(VIEWS.values()), digest)
        folder = self.fetch(data)
        files = sorted(self._files(folder))
        views = sum(path.suffix.lower() in IMAGES for path in files)
        whole = self.url is not None and self.folder is None
        if whole and self.layout == "blender":
            splits = read_transforms(folder, self.name).splits
            whole = all(len(splits.get(split, ())) == count for split, count in BLENDER_VIEWS.items())
        sha256 = remembered(cache_folder(data), "scene-checksums", files, lambda: _digest(folder, files))
        return DataCard(self.name, "real", views, sha256, whole)

    def fetch(self, data: DataSettings) -> Path:
        """The scene's folder, from its archive if that was asked for.

        Raises:
            MissingData: it is not here, and not to be downloaded. The archives are large: only with `data.large`.
            CorruptData: the archive is damaged.
        """
        if self.folder is not None:
            return self._given(Path(self.folder).expanduser())
        if folder := self._found(data):
            return folder
        root = data_root(data)
        looked_in = ([str(root)] if root else []) + [str(cache_folder(data))]
        with_files = f"{self.images} and poses_bounds.npy" if self.layout == "llff" else NEEDED["blender"]
        told = (
            f"The scene {self.name} was not found. Looked in {' and in '.join(looked_in)} for "
            f"{' and '.join(self._places())} with {with_files}."
        )
        if self.url is None:
            raise MissingData(f"{told} Put it there, or give its folder with dataset.folder=DIR. {SMOKE}")
        by_hand = f"Or download {self.url} yourself"
        if not self.url.endswith(".zip"):
            how = f"Its archive can only be downloaded in a browser: get {self.archive}.zip from {self.url}"
        elif not (data.download and data.large):
            how = f"`dfa-bench data get {self.name}` downloads its archive (over 100 MB). {by_hand}"
        else:
            from dfa_bench.data.archive import fetch_folder

            try:
                return fetch_folder(self.url, self._official(), cache_folder(data), self._read)
            except MissingData as error:
                how = f"{error} {by_hand}"
        raise MissingData(f"{told} {how}, unpack it so that DIR/{self._official()} is there, {SET_ROOT} {SMOKE}")

    def load(self, data: DataSettings) -> Scene:
        """Read the scene; images are read when they are asked for.

        Raises:
            MissingData: see `fetch`.
            CorruptData, ConfigError: see `load_blender` and `load_llff`.
        """
        if data.stand_in:
            from dfa_bench.tasks.view_synthesis.standin import stand_in_scene

            return stand_in_scene()
        return self._read(self.fetch(data))

    def _read(self, folder: Path) -> Scene:
        if self.layout == "llff":
            from dfa_bench.tasks.view_synthesis.llff import load_llff

            views, smaller = self._views(folder)
            near, far = self.near or 0.0, 1.0 if self.far is None else self.far
            return load_llff(folder, self.name, views, self.longest_side, smaller, near, far)
        from dfa_bench.tasks.view_synthesis.blender import load_blender

        return load_blender(folder, self.name, self.near, self.far, self.longest_side)

    def _views(self, folder: Path) -> tuple[Path, int]:
        """The folder of LLFF's views, and by what factor they are to be shrunk."""
        wanted, full = folder / str(self.images), folder / "images"
        smaller = re.fullmatch(r"images_(\d+)", wanted.name)
        if self.url is None and smaller and full.is_dir() and not wanted.is_dir():
            return full, 1 if self.longest_side else int(smaller[1])
        return wanted, 1

    def _files(self, folder: Path) -> Iterable[Path]:
        """All files that the scene is read from, without those that a system hides there."""
        if self.layout == "llff":
            views = self._views(folder)[0]
            kept: Iterable[Path] = [folder / "poses_bounds.npy", *views.glob("*")]
        elif self.url is None:
            of_splits = read_transforms(folder, self.name).splits.values()
            kept = [*folder.glob("transforms*.json"), *{frame.image for frames in of_splits for frame in frames}]
        else:
            kept = folder.rglob("*")
        for path in kept:
            if path.suffix.lower() in (*IMAGES, ".json", ".npy") and not path.name.startswith(".") and path.is_file():
                yield path

    def _official(self) -> str:
        return f"{self.archive}/{self.name}"

    def _places(self) -> list[str]:
        """Below `data.root`, the ready-made smaller copy first."""
        may_be_copy = self.layout == "blender" and self.longest_side is not None
        copy = [f"{self.archive}_{self.longest_side}/{self.name}"] if may_be_copy else []
        return [*copy, self._official()]

    def _found(self, data: DataSettings) -> Path | None:
        roots = [root for root in (data_root(data), cache_folder(data)) if root]
        return next((root / place for place in self._places() for root in roots if self._is_here(root / place)), None)

    def _is_here(self, folder: Path) -> bool:
        return self._views(folder)[0].is_dir() if self.layout == "llff" else is_here(folder)

    def _given(self, folder: Path) -> Path:
        """The folder that the user names, if it is of this layout."""
        told = f"dataset.folder={self.folder}"
        if not folder.is_dir():
            raise MissingData(f"{told}: there is no such folder.")
        is_llff = (folder / "poses_bounds.npy").is_file()
        if not (is_llff if self.layout == "llff" else is_here(folder)):
            other = "llff" if is_llff else "blender" if is_here(folder) else None
            hint = f" For these files, use dataset={other}." if other else " docs/own_data.md describes the format."
            raise MissingData(f"{told}: the folder has no {NEEDED[self.layout]}.{hint}")
        if not self._is_here(folder):
            there = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or "no folder"
            raise MissingData(
                f"{told}: its views are not in {self.images}. There is only {there}: set dataset.images=NAME."
            )
        return folder


def _digest(folder: Path, files: Iterable[Path]) -> str:
    """One checksum over names and contents of files."""
    lines = (
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {Path(os.path.relpath(path, folder)).as_posix()}\n"
        for path in files
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()

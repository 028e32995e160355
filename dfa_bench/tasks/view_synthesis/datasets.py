"""A scene on disk, where the official archive puts it, or its stand-in."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import validate_call

from dfa_bench.data.archive import fetch_folder
from dfa_bench.data.resolve import DataCard, cache_folder, data_root
from dfa_bench.errors import MissingData
from dfa_bench.settings.schema import Count, DataSettings, NotNegative
from dfa_bench.tasks.view_synthesis.blender import count_frames, load_blender
from dfa_bench.tasks.view_synthesis.llff import load_llff
from dfa_bench.tasks.view_synthesis.scenes import Scene
from dfa_bench.tasks.view_synthesis.standin import VIEWS, made_of, stand_in_scene

BLENDER_VIEWS = 400  # 100 to train, 100 to validate, 200 to test; a scene with fewer is a sample of the official one
IMAGES = (".png", ".jpg", ".jpeg")


class SceneFiles:
    """One scene of NeRF-Synthetic or of LLFF's real ones.

    Args:
        name: of the scene.
        layout: "blender" (transforms_SPLIT.json, RGBA) or "llff" (poses_bounds.npy, images_N).
        archive: folder of all scenes of its kind, below `data.root`.
        url: where the official archive is: a zip that can be fetched, or a page to get it from in a browser.
        images: llff: folder of the views.
        near, far: blender: depths between which the scene lies; llff: NDC, always 0 and 1.
        longest_side: views are area-averaged to so many pixels; None: as they are. A ready-made copy in
            ARCHIVE_PIXELS/NAME is taken where there is one.
        sha256: folder to checksum, for reduced sets that are known; what is here is hashed as it is.
    """

    @validate_call
    def __init__(
        self,
        name: str,
        layout: Literal["blender", "llff"],
        archive: str,
        url: str,
        images: str | None,
        near: NotNegative,
        far: NotNegative,
        longest_side: Count | None,
        sha256: Mapping[str, str],
    ) -> None:
        if near >= far:
            raise ValueError(f"near={near:g} must be below far={far:g}.")
        self.name, self.layout, self.archive, self.url = name, layout, archive, url
        self.images, self.near, self.far = images, near, far
        self.longest_side, self.sha256 = longest_side, sha256

    def card(self, data: DataSettings) -> DataCard:
        if data.stand_in:
            digest = hashlib.sha256(made_of().encode()).hexdigest()
            return DataCard("spheres over a checkerboard", "stand-in", sum(VIEWS.values()), digest)
        folder = self._found(data)
        if folder is None:
            known = [self.sha256[place] for place in self._places() if place in self.sha256]
            return DataCard(self.name, "real", 0, known[0] if known else "unknown")
        rows, digest = _digest(folder, self.images if self.layout == "llff" else None)
        whole = self.layout == "llff" or count_frames(folder) == BLENDER_VIEWS
        return DataCard(self.name, "real", rows, digest, whole)

    def fetch(self, data: DataSettings) -> Path:
        """The scene's folder, from its archive if that was asked for.

        Raises:
            MissingData: it is not here, and not to be downloaded. The archives are large: only with `data.large`.
            CorruptData: the archive is damaged.
        """
        if folder := self._found(data):
            return folder
        by_hand = f"Or get {self.url} by hand"
        if not self.url.endswith(".zip"):
            how = f"No program can fetch its archive: get {self.archive}.zip in a browser from {self.url}"
        elif not (data.download and data.large):
            how = f"`dfa-bench data get {self.name}` downloads its archive, of over 100 MB. {by_hand}"
        else:
            try:
                return fetch_folder(self.url, self._official(), cache_folder(data), self._read)
            except MissingData as error:
                how = f"{error} {by_hand}"
        root = data_root(data)
        looked_in = ([str(root)] if root else []) + [str(cache_folder(data))]
        wanted = f"{self.images} and poses_bounds.npy" if self.layout == "llff" else "transforms_train.json"
        raise MissingData(
            f"The scene {self.name} is not here. Looked in {' and in '.join(looked_in)} for "
            f"{' and '.join(self._places())} with {wanted}. {how}, unpack it so that DIR/{self._official()} is there, "
            f"and set data.root=DIR or the environment variable DFA_BENCH_DATA=DIR. With scale=smoke a run needs no "
            f"data: it uses a stand-in."
        )

    def load(self, data: DataSettings) -> Scene:
        """Read the scene; images are read when they are asked for.

        Raises:
            MissingData: see `fetch`.
            CorruptData: see `load_blender` and `load_llff`.
        """
        if data.stand_in:
            return stand_in_scene()
        return self._read(self.fetch(data))

    def _read(self, folder: Path) -> Scene:
        if self.layout == "llff":
            return load_llff(folder, self.name, self.images or "images", self.longest_side)
        return load_blender(folder, self.name, self.near, self.far, self.longest_side)

    def _official(self) -> str:
        return f"{self.archive}/{self.name}"

    def _places(self) -> list[str]:
        """Below `data.root`, the ready-made smaller copy first."""
        copy = [f"{self.archive}_{self.longest_side}/{self.name}"] if self._may_be_copy() else []
        return [*copy, self._official()]

    def _may_be_copy(self) -> bool:
        return self.layout == "blender" and self.longest_side is not None

    def _found(self, data: DataSettings) -> Path | None:
        roots = [root for root in (data_root(data), cache_folder(data)) if root]
        for place in self._places():
            for root in roots:
                folder = root / place
                if (folder / "transforms_train.json").is_file():
                    return folder
                if self.layout == "llff" and (folder / str(self.images)).is_dir():
                    return folder
        return None


def _digest(folder: Path, images: str | None) -> tuple[int, str]:
    """Number of images, and one checksum over names and contents of all files that a scene is read from."""
    kept = [folder / "poses_bounds.npy", *(folder / images).glob("*")] if images else folder.rglob("*")
    files = sorted(path for path in kept if path.suffix.lower() in (*IMAGES, ".json", ".npy") and path.is_file())
    stamps = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return sum(path.suffix.lower() in IMAGES for path in files), _checksum(folder, stamps)


@functools.lru_cache(maxsize=64)
def _checksum(folder: Path, stamps: tuple[tuple[Path, int, int], ...]) -> str:
    lines = (
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path, _, _ in stamps
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()

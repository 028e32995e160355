"""Find the files of a data set: in `data.root`, then in the cache, else by download."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from dfa_bench.data.cached import remembered
from dfa_bench.data.download import download
from dfa_bench.errors import CorruptData, MissingData
from dfa_bench.settings.schema import DataSettings

# What messages about missing and damaged data end with.
SET_ROOT = "and set data.root=DIR or the environment variable DFA_BENCH_DATA=DIR."
OFF = "Downloads are off (data.download=false)."
SMOKE = "With scale=smoke no data are needed: runs use synthetic data."
COPY_AGAIN = "Copy the file again from the official source, or delete the folder from the cache to download it again."


@dataclass(frozen=True)
class DataCard:
    """What a record says of its data."""

    name: str
    kind: Literal["real", "stand-in"]
    rows: int
    sha256: str  # of the data set as a whole
    whole: bool = True  # not a sample of it: else no run is of the paper's protocol


@dataclass(frozen=True)
class Files:
    """The official files of a data set.

    Args:
        name: of the data set, as shown to the user.
        folder: below `data.root` and the cache, as the official archive has it.
        sha256: file name to checksum.
        url: where the official files are; each file is `url/name`.
    """

    name: str
    folder: str
    sha256: Mapping[str, str]
    url: str

    @property
    def digest(self) -> str:
        """One checksum for all files, by name and content."""
        lines = "".join(f"{checksum}  {name}\n" for name, checksum in sorted(self.sha256.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


def cache_folder(data: DataSettings) -> Path:
    """Where processed and downloaded data go: `data.cache`, or the platform's user cache."""
    return Path(data.cache) if data.cache else Path(platformdirs.user_cache_dir("dfa-bench"))


def data_root(data: DataSettings) -> Path | None:
    """`data.root`, or the environment variable DFA_BENCH_DATA."""
    root = data.root or os.environ.get("DFA_BENCH_DATA")
    return Path(root) if root else None


def find(files: Files, data: DataSettings) -> Path:
    """The folder with all files of a data set, each checked against its checksum.

    Raises:
        MissingData: found nowhere, and not to be downloaded.
        CorruptData: a file is missing from a folder that has the others, or is not the official one.
    """
    cached = cache_folder(data) / files.folder
    root = data_root(data)
    looked_in = ([root / files.folder] if root else []) + [cached]
    for folder in looked_in:
        if any((folder / name).is_file() for name in files.sha256):
            complete = all((folder / name).is_file() for name in files.sha256)
            if folder == cached and data.download and not complete:
                break  # a download was interrupted: fetch what it has left
            _check(files, folder)
            return folder
    reason = OFF
    if data.download:
        try:
            download(files.url, files.sha256, cached, files.name)
        except MissingData as error:
            reason = str(error)
        else:
            _check(files, cached)
            return cached
    raise MissingData(
        f"{files.name} was not found. Looked in {' and in '.join(str(folder) for folder in looked_in)}. {reason} "
        f"Get its {len(files.sha256)} files from {files.url}, put them into DIR/{files.folder}, {SET_ROOT} {SMOKE}"
    )


def reasons_once(reasons: Mapping[str, str]) -> Iterator[str]:
    """Why data are not here, once for data sets of one source, whose reasons differ in their names only.

    Args:
        reasons: by the name of the data set, as it is in its reason; "" if the data are here.
    """
    alike: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        if reason:
            alike.setdefault(reason.replace(name, "NAME"), []).append(name)
    for first, *others in alike.values():
        more = f" The same holds for {', '.join(others)}." if others else ""
        yield f"{reasons[first]}{more}"


def _check(files: Files, folder: Path) -> None:
    for name, expected in files.sha256.items():
        path = folder / name
        if not path.is_file():
            raise CorruptData(
                f"{files.name}: {path} is missing, although other files of the data set are present. {COPY_AGAIN}"
            )
        stat = path.stat()
        actual = _sha256(path, stat.st_size, stat.st_mtime_ns)
        if actual != expected:
            raise CorruptData(
                f"{files.name}: {path} is not the official file, or is truncated: {stat.st_size} bytes with sha256 "
                f"{actual}, expected {expected}. {COPY_AGAIN}"
            )


@functools.lru_cache(maxsize=1024)
def _sha256(path: Path, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def find_first(name: str, folder: str, files: Sequence[str], data: DataSettings, how_to_get: str) -> Path:
    """The first of some files that is in `data.root` or in the cache: a set whose official checksum is not known.

    Args:
        name: of the data set.
        folder: below `data.root` and the cache.
        files: names, in the order in which they are looked for.
        how_to_get: two half sentences for the message: where it is, and which file goes into DIR.

    Raises:
        MissingData: none is here.
    """
    root = data_root(data)
    folders = ([root / folder] if root else []) + [cache_folder(data) / folder]
    for path in (place / file for place in folders for file in files):
        if path.is_file():
            return path
    raise MissingData(
        f"{name} was not found. Looked for {', '.join(files)} in {' and in '.join(map(str, folders))}. {how_to_get} "
        f"into DIR/{folder}, {SET_ROOT} {SMOKE}"
    )


def given_file(file: str, data: DataSettings) -> Path:
    """A file that the user names, from here or below `data.root`.

    Raises:
        MissingData: it is in neither place.
    """
    here, root = Path(file).expanduser(), data_root(data)
    for path in (here, *([root / file] if root else [])):
        if path.is_file():
            return path
    below = f", and not below {root}" if root else ""
    raise MissingData(f"dataset.file={file}: there is no such file in {Path.cwd()}{below}. Give its path.")


def file_sha256(path: Path, cache: Path) -> str:
    """Checksum of a large file, kept in the cache for as long as its size and time of change stay the same."""
    stat = path.stat()
    return str(remembered(cache, "file-checksums", [path], lambda: _sha256(path, stat.st_size, stat.st_mtime_ns)))

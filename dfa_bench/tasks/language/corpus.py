"""A corpus: text in three splits, as lines of words, from any form in which WikiText is distributed."""

from __future__ import annotations

import contextlib
import hashlib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from dfa_bench.data.cached import remembered
from dfa_bench.errors import CorruptData

CorpusSplit = Literal["train", "val", "test"]
SPLITS: tuple[CorpusSplit, ...] = ("train", "val", "test")
TEXT_FILES: Mapping[CorpusSplit, str] = {
    "train": "wiki.train.tokens",
    "val": "wiki.valid.tokens",
    "test": "wiki.test.tokens",
}
PARQUET_FILES: Mapping[CorpusSplit, str] = {"train": "train", "val": "validation", "test": "test"}
ROWS = 2**16  # of Parquet, at a time


@dataclass(frozen=True)
class SplitCounts:
    """Counts and checksum of one split."""

    lines: int
    words: int  # the end of a line is one, `<eos>`
    bytes: int  # of its lines with words, as the official text has them: " WORDS \n"
    sha256: str  # of its lines, whichever file they come from


@dataclass(frozen=True)
class Corpus:
    """Text in three splits.

    Args:
        name: for messages.
        count: by split.
        lines: those of a split, each of words separated by single spaces; read when they are asked for.
    """

    name: str
    count: Mapping[CorpusSplit, SplitCounts]
    lines: Callable[[CorpusSplit], Iterator[str]]

    @property
    def sha256(self) -> str:
        return hashlib.sha256("".join(self.count[split].sha256 for split in SPLITS).encode()).hexdigest()


def count_lines(name: str, split: str, lines: Iterable[str]) -> SplitCounts:
    """What is in a split.

    Raises:
        CorruptData: no word.
    """
    digest, number, words, size = hashlib.sha256(), 0, 0, 0
    for line in lines:
        number += 1
        words += len(line.split()) + 1
        ended = f"{line}\n".encode()
        size += len(ended) + 2 if line else 0
        digest.update(ended)
    if words == number:
        raise CorruptData(f"{name}: the {split} split is empty: {number} lines without a word. Copy it again.")
    return SplitCounts(number, words, size, digest.hexdigest())


def open_corpus(name: str, files: Mapping[CorpusSplit, Sequence[Path]], cache: Path) -> Corpus:
    """A corpus of official files.

    Args:
        name: for messages.
        files: by split; see `read_lines`.
        cache: where its counts are kept.

    Raises:
        CorruptData: a split is empty, or a file is damaged.
    """

    def read(split: CorpusSplit) -> Iterator[str]:
        for path in files[split]:
            yield from read_lines(path, split)

    def count() -> dict[str, dict[str, int | str]]:
        return {split: asdict(count_lines(name, split, read(split))) for split in SPLITS}

    every = sorted({path for paths in files.values() for path in paths})
    counts = remembered(cache, "line-counts", every, count)
    return Corpus(name, {split: SplitCounts(**counts[split]) for split in SPLITS}, read)


def read_lines(path: Path, split: CorpusSplit) -> Iterator[str]:
    """Lines of a file, each of words separated by single spaces; an empty line is an empty string.

    Args:
        path: text; the official zip, of which the split's file is read; or Parquet with a column `text`, a line a row.

    Raises:
        CorruptData: it is damaged, or not UTF-8; the message names the line.
    """
    if path.suffix == ".parquet":
        yield from _read_parquet(path)
        return
    try:
        with contextlib.ExitStack() as stack:
            if path.suffix == ".zip":
                archive = stack.enter_context(zipfile.ZipFile(path))
                member = _members(archive).get(split)
                if member is None:
                    raise CorruptData(f"{path} does not contain {TEXT_FILES[split]}: it is not the official archive.")
                source = stack.enter_context(archive.open(member))
            else:
                source = stack.enter_context(path.open("rb"))
            for number, line in enumerate(source, start=1):
                try:
                    yield " ".join(line.decode().split())
                except UnicodeDecodeError as error:
                    raise CorruptData(
                        f"{path}, line {number}: not UTF-8 ({error.reason} at byte {error.start}). Copy it again."
                    ) from error
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:  # RuntimeError: it is encrypted
        raise CorruptData(f"{path} is truncated or damaged: {error}. Copy it again.") from error


def _members(archive: zipfile.ZipFile) -> dict[CorpusSplit, str]:
    """The split's files in an archive, in whichever folder; not `._wiki.train.tokens`, which macOS puts beside them."""
    names = {PurePosixPath(name).name: name for name in archive.namelist()}
    return {split: names[file] for split, file in TEXT_FILES.items() if file in names}


def _read_parquet(path: Path) -> Iterator[str]:
    import polars as pl  # not before: text needs none

    try:
        source = pl.scan_parquet(path).select("text")
        rows = source.select(pl.len()).collect().item()
        for start in range(0, rows, ROWS):
            for line in source.slice(start, ROWS).collect()["text"].cast(pl.String):
                yield " ".join((line or "").split())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise CorruptData(f"{path} is not a Parquet file with a column `text`: {str(error).splitlines()[0]}") from error


def _is_official(path: Path) -> bool:
    """Whether an archive has all splits."""
    try:
        with zipfile.ZipFile(path) as archive:
            return len(_members(archive)) == len(SPLITS)
    except (OSError, zipfile.BadZipFile):
        return False


def _parts(folder: Path, name: str) -> list[Path]:
    """Parquet files of a split, "train-00000-of-00002.parquet", in their order."""
    found = sorted(folder.glob(f"{name}-*.parquet"))
    if found and (of := re.search(r"-of-(\d+)\.parquet$", found[0].name)) and int(of[1]) != len(found):
        raise CorruptData(
            f"{folder} has {len(found)} of the {int(of[1])} Parquet files of {name}. Copy the others too."
        )
    return found


def find_files(folder: Path) -> dict[CorpusSplit, list[Path]] | None:
    """The files of a corpus in a folder: text, the official zip, or Parquet; None if it has none of these.

    Raises:
        CorruptData: some of its splits are there and others not, or parts of one.
    """
    archives = sorted(folder.glob("*.zip"))
    kinds: list[dict[CorpusSplit, list[Path]]] = [
        {split: [path] if (path := folder / TEXT_FILES[split]).is_file() else [] for split in SPLITS},
        dict.fromkeys(SPLITS, [path for path in archives if _is_official(path)][:1]),
        {split: _parts(folder, PARQUET_FILES[split]) for split in SPLITS},
        dict.fromkeys(SPLITS, archives[:1]),
    ]
    begun = [files for files in kinds if any(files.values())]
    if begun and not any(all(files.values()) for files in begun):
        lacking = [split for split in SPLITS if not begun[0][split]]
        raise CorruptData(f"{folder} has no files of the splits {', '.join(lacking)}, although others are present.")
    return next((files for files in begun if all(files.values())), None)

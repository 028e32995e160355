"""The Criteo Display Advertising Challenge (Kaggle, 2014), and its stand-in."""

from __future__ import annotations

import gzip
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import polars as pl
from pydantic import Field, validate_call
from tqdm import tqdm

from dfa_bench.data.resolve import DataCard, cache_folder, file_sha256, find_first
from dfa_bench.errors import CorruptData
from dfa_bench.settings.schema import DataSettings
from dfa_bench.tasks.click_through.compact import FORMAT, MISSING, Chunk, Vocabulary, compact
from dfa_bench.tasks.click_through.interactions import Interactions
from dfa_bench.tasks.click_through.planted import planted_card, planted_interactions

FILES = ("train.txt", "train.txt.gz", "train.parquet")  # looked for in this order
ROWS = 45_840_617  # of the official file; another number of them is a sample
INTEGERS, CATEGORIES = 13, 26
COLUMNS = ["label", *(f"i{k}" for k in range(1, INTEGERS + 1)), *(f"c{k}" for k in range(1, CATEGORIES + 1))]
LAYOUT = "40 (a label, 13 counts, 26 categories)"
SCHEMA = {name: pl.String if name.startswith("c") else pl.Int64 for name in COLUMNS}
CHUNK_BYTES = 2**25  # of text that is parsed at a time, some 140,000 rows
CHUNK_ROWS = 2**17  # of Parquet


class Criteo:
    """Clicks on display advertisements: 13 counts and 26 hashed categories a row.

    Features as in the released code: a count x > 2 becomes ⌊ln²x⌋, another x − 2, and each value is a category;
    categories seen fewer than `min_count` times share one "rare" id per field; an empty value has an id of its own.

    The file (original layout: tab-separated, no header; plain, gzip or Parquet with the same columns in this order) is
    read a chunk at a time into a compact form in the cache, once for each checksum and choice of options.

    Args:
        name: of the data set.
        min_count: see above.
        vocabulary: "all", categories are counted over all rows, as in the released code; "training": over those of the
            training split, so that the others can hold unseen ones, which are rare.
        url: where to get it.
    """

    @validate_call
    def __init__(
        self, name: str, min_count: Annotated[int, Field(ge=1)] = 10, vocabulary: Vocabulary = "all", url: str = ""
    ) -> None:
        self.name, self.min_count, self.vocabulary, self.url = name, min_count, vocabulary, url

    def card(self, data: DataSettings) -> DataCard:
        if data.stand_in:
            return planted_card()
        file = self._find(data)
        rows, sha256 = len(self.load(data).labels), file_sha256(file, cache_folder(data))
        return DataCard(self.name, "real", rows, sha256, whole=rows == ROWS)

    def fetch(self, data: DataSettings) -> Path:
        return self._find(data).parent

    def load(self, data: DataSettings) -> Interactions:
        """The compact form, made if it is not in the cache.

        Raises:
            MissingData: the file is not here.
            CorruptData: it is not of the original layout; the message has the line and the reason.
        """
        if data.stand_in:
            return planted_interactions()
        file = self._find(data)
        options = f"{self.min_count}-{self.vocabulary}-v{FORMAT}"
        folder = cache_folder(data) / "criteo" / f"{file_sha256(file, cache_folder(data))[:16]}-{options}"
        return compact(folder, self.name, lambda: read_chunks(file), self.min_count, self.vocabulary)

    def _find(self, data: DataSettings) -> Path:
        how_to_get = (
            f"It is too large to be fetched unasked: get it from {self.url} (train.txt: 45,840,617 rows, 11 GB), put it"
        )
        return find_first(self.name, "criteo", FILES, data, how_to_get)


def read_chunks(path: Path) -> Iterator[Chunk]:
    """The rows of a file, a bounded number at a time, with a progress bar.

    Raises:
        CorruptData: naming the line (of Parquet the rows) and the reason.
    """
    return _read_parquet(path) if path.suffix == ".parquet" else _read_text(path)


def _read_text(path: Path) -> Iterator[Chunk]:
    line = 1  # first of the next chunk
    with path.open("rb") as raw, _progress(path) as bar:
        stream: IO[bytes] = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw  # type: ignore[assignment]
        rest = b""
        while True:
            try:
                block = stream.read(CHUNK_BYTES)
            except (EOFError, OSError, zlib.error) as error:
                lines = line + rest.count(b"\n")
                raise CorruptData(
                    f"{path}: truncated or damaged after line {lines}: {error}. Copy it again."
                ) from error
            end = block.rfind(b"\n") + 1
            text, rest = (rest + block[:end], block[end:]) if block else (rest, b"")
            if block and not end:
                text, rest = b"", rest + block
            if text:
                yield _parse(text, path, line)
                line += text.count(b"\n")
            if not block:
                return
            bar.update(raw.tell() - bar.n)


def _progress(path: Path) -> tqdm:
    hidden = not sys.stderr.isatty()
    size = path.stat().st_size
    return tqdm(total=size, desc=f"Reading {path.name}", unit="B", unit_scale=True, disable=hidden, leave=False)


def _parse(text: bytes, path: Path, first_line: int) -> Chunk:
    try:
        frame = pl.read_csv(text, separator="\t", has_header=False, schema=SCHEMA, quote_char=None)
        complete = text.count(b"\t") == (len(COLUMNS) - 1) * frame.height  # Polars fills short lines up
        chunk = _chunk(frame) if complete else None
    except pl.exceptions.PolarsError:
        chunk = None
    if chunk is None:
        raise CorruptData(f"{path}: {_first_mistake(text, first_line)}")
    return chunk


def _chunk(frame: pl.DataFrame) -> Chunk | None:
    """Keys of a parsed frame, or None if a label is not 0 or 1 or a category not hexadecimal."""
    keys = frame.select(
        *(_integer_key(pl.col(name)).alias(name) for name in COLUMNS[1 : 1 + INTEGERS]),
        *(_category_key(name, frame.schema[name]).alias(name) for name in COLUMNS[1 + INTEGERS :]),
    )
    nulls, keyless = frame.null_count().row(0)[1:], keys.null_count().row(0)
    if nulls != keyless or not frame["label"].is_in([0, 1]).all() or frame["label"].null_count():
        return None
    if any((keys[name].min() or 0) < 0 for name in COLUMNS[1 + INTEGERS :]):  # type: ignore[operator]
        return None
    arrays = [column.fill_null(int(MISSING)).to_numpy() for column in keys.get_columns()]
    return Chunk(frame["label"].cast(pl.UInt8).to_numpy(), arrays)


def _integer_key(value: pl.Expr) -> pl.Expr:
    """x > 2: ⌊ln²x⌋, else x − 2 (the released code's)."""
    return pl.when(value > 2).then((value.log() ** 2).floor().cast(pl.Int64)).otherwise(value - 2)


def _category_key(name: str, kind: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    return column.str.to_integer(base=16, strict=False) if kind == pl.String else column.cast(pl.Int64)


def _first_mistake(text: bytes, first_line: int) -> str:
    """What is wrong with the first bad line, looked for one by one."""
    for number, line in enumerate(text.removesuffix(b"\n").split(b"\n"), first_line):
        try:
            values = line.decode().split("\t")
        except UnicodeDecodeError as error:
            return f"line {number}: not UTF-8 ({error.reason} at byte {error.start})."
        if len(values) != len(COLUMNS):
            return f"line {number}: {len(values)} columns instead of {LAYOUT}."
        for name, value in zip(COLUMNS, values, strict=True):
            if name == "label" and value not in ("0", "1"):
                return f"line {number}: the label is {value!r} instead of 0 or 1."
            if name.startswith("i") and not re.fullmatch(r"-?\d{1,18}|", value):
                return f"line {number}, column {name}: {value!r} is not a whole number."
            if name.startswith("c") and not re.fullmatch(r"[0-9a-fA-F]{1,15}|", value):
                return f"line {number}, column {name}: {value!r} is not a hexadecimal category."
    return f"lines {first_line} to {number}: Polars cannot read them."


def _read_parquet(path: Path) -> Iterator[Chunk]:
    try:
        source = pl.scan_parquet(path)
        names = source.collect_schema().names()
        rows = source.select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise CorruptData(f"{path} is not a Parquet file, or is truncated: {str(error).splitlines()[0]}") from error
    if len(names) != len(COLUMNS):
        raise CorruptData(f"{path}: {len(names)} columns instead of {LAYOUT}.")
    numbers = [pl.col(name).cast(pl.Int64) for name in COLUMNS[: 1 + INTEGERS]]
    renamed = source.rename(dict(zip(names, COLUMNS, strict=True)))
    for start in range(0, rows, CHUNK_ROWS):
        try:
            frame = renamed.slice(start, CHUNK_ROWS).with_columns(numbers).collect()
            chunk = _chunk(frame)
        except pl.exceptions.PolarsError as error:
            raise CorruptData(f"{path}: rows from {start + 1} on: {str(error).splitlines()[0]}") from error
        if chunk is None:
            raise CorruptData(
                f"{path}: among rows {start + 1} to {start + frame.height} a label is not 0 or 1, or a category is not "
                f"hexadecimal."
            )
        yield chunk

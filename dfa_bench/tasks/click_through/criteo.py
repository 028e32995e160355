"""Reads the file of the Criteo Display Advertising Challenge (Kaggle, 2014)."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import polars as pl

from dfa_bench.data.progress import Bar
from dfa_bench.errors import CorruptData
from dfa_bench.tasks.click_through.compact import MISSING, Chunk

INTEGERS, CATEGORIES = 13, 26
COLUMNS = ["label", *(f"i{k}" for k in range(1, INTEGERS + 1)), *(f"c{k}" for k in range(1, CATEGORIES + 1))]
LAYOUT = "40 (a label, 13 counts, 26 categories)"
SCHEMA = {name: pl.String if name.startswith("c") else pl.Int64 for name in COLUMNS}
CHUNK_BYTES = 2**25  # of text that is parsed at a time, some 140,000 rows
CHUNK_ROWS = 2**17  # of Parquet


def read_chunks(path: Path) -> Iterator[Chunk]:
    """The rows of a file, a bounded number at a time, with a progress bar.

    Raises:
        CorruptData: naming the line (of Parquet the rows) and the reason.
    """
    return _read_parquet(path) if path.suffix == ".parquet" else _read_text(path)


def _read_text(path: Path) -> Iterator[Chunk]:
    line = 1  # first of the next chunk
    with path.open("rb") as raw, Bar(f"Reading {path.name}", "B", path.stat().st_size) as bar:
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
            bar.to(raw.tell())


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

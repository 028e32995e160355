"""A user's table of clicks, a chunk at a time: CSV, TSV or Parquet with named columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import polars as pl

from dfa_bench.errors import CorruptData
from dfa_bench.tasks.click_through.compact import MISSING, Chunk

ROWS = 2**17  # at a time
SEPARATORS = {".csv": ",", ".tsv": "\t"}
LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "False": 0, "True": 1}

Chunks: TypeAlias = Iterator[Chunk]
Table: TypeAlias = Mapping[str, np.ndarray]  # columns of text; empty where there is no value


class Columns(NamedTuple):
    """Which columns of a table are what; see `ClicksFile`."""

    label: str
    categories: Sequence[str] | None
    counts: Sequence[str]


def read_clicks(path: Path, columns: Columns) -> Chunks:
    """The rows of a table.

    A category's key is a hash of its text, so that it is the same in CSV and in Parquet.

    Raises:
        CorruptData: a column is missing, a label is not 0 or 1, a count is not a number, or the file is damaged.
    """
    start = 0
    for table in _read_parquet(path) if path.suffix == ".parquet" else _read_text(path):
        if not start:
            categories = _categories(path, table, columns)
        keys = [_category_keys(table[name]) for name in categories]
        keys += [_count_keys(table[name], f"{path}, column {name}", start) for name in columns.counts]
        yield Chunk(_labels(table[columns.label], f"{path}, column {columns.label}", start), keys)
        start += len(table[columns.label])


def _categories(path: Path, table: Table, columns: Columns) -> list[str]:
    """The columns of categories, after a look at the first rows."""
    given = [columns.label, *(columns.categories or []), *columns.counts]
    if unknown := [name for name in given if name not in table]:
        key = "label" if unknown[0] == columns.label else "categories or dataset.counts"
        raise CorruptData(f"{path} has no column '{unknown[0]}'. It has {', '.join(table)}: set dataset.{key}.")
    if twice := sorted({name for name in given if given.count(name) > 1}):
        raise CorruptData(f"{path}: the column '{twice[0]}' is named twice, as label, category or count.")
    if columns.categories is not None:
        return list(columns.categories)
    rest = [name for name in table if name not in given]
    for name in rest:
        if decimals := _decimals(table[name]):
            raise CorruptData(
                f"{path}: the column '{name}' has decimal numbers, such as {decimals}, each of which would be a "
                f"category of its own. Put them into bins with dataset.counts=[{name}], or name the columns of "
                f"categories with dataset.categories=[…]."
            )
    if not rest and not columns.counts:
        raise CorruptData(f"{path} has no column but the label '{columns.label}'.")
    return rest


def _decimals(values: np.ndarray) -> str | None:
    """One of the decimal numbers of a column that has numbers only."""
    numbers = pd.to_numeric(pd.Series(values[values != ""]), errors="coerce")
    broken = (numbers % 1 != 0).to_numpy()
    return None if numbers.isna().any() or not broken.any() else str(values[values != ""][broken][0])


def _labels(values: np.ndarray, where: str, start: int) -> np.ndarray:
    found = pd.Series(values).map(LABELS)
    _check(found.notna().to_numpy(), values, f"{where} (label)", start, "0 or 1")
    return found.to_numpy().astype(np.uint8)


def _category_keys(values: np.ndarray) -> np.ndarray:
    keys = pd.util.hash_array(values).view(np.int64)
    return np.where(values == "", MISSING, keys)


def _count_keys(values: np.ndarray, where: str, start: int) -> np.ndarray:
    """x > 2: ⌊ln²x⌋, else ⌊x⌋ − 2, as of Criteo's counts."""
    missing = values == ""
    numbers = pd.to_numeric(pd.Series(np.where(missing, "0", values)), errors="coerce").to_numpy(np.float64)
    _check(np.isfinite(numbers), values, where, start, "a number")
    keys = np.where(numbers > 2, np.floor(np.log(np.maximum(numbers, 1)) ** 2), np.floor(numbers) - 2)
    return np.where(missing, MISSING, keys.astype(np.int64))


def _check(fine: np.ndarray, values: np.ndarray, where: str, start: int, expected: str) -> None:
    if not fine.all():
        first = int(np.argmin(fine))
        raise CorruptData(f"{where}: {values[first]!r} in row {start + first + 1} is not {expected}.")


def _read_text(path: Path) -> Iterator[Table]:
    kind = path.suffixes[-2] if path.suffix == ".gz" and len(path.suffixes) > 1 else path.suffix
    if kind not in SEPARATORS:
        raise CorruptData(f"{path}: expected a file that ends in .csv, .tsv, .csv.gz, .tsv.gz or .parquet.")
    row = 0
    try:
        with pd.read_csv(path, sep=SEPARATORS[kind], dtype=str, keep_default_na=False, chunksize=ROWS) as chunks:
            for frame in chunks:
                row += len(frame)
                yield {str(name): frame[name].to_numpy(object) for name in frame.columns}
    except (ValueError, OSError, EOFError) as error:  # pandas' own, and UnicodeDecodeError, are ValueErrors
        raise CorruptData(f"{path} is damaged after row {row}: {str(error).strip().splitlines()[0]}") from error


def _read_parquet(path: Path) -> Iterator[Table]:
    try:
        source = pl.scan_parquet(path)
        rows = source.select(pl.len()).collect().item()
        for start in range(0, rows, ROWS):
            frame = source.slice(start, ROWS).select(pl.all().cast(pl.String).fill_null("")).collect()
            yield {name: frame[name].to_numpy().astype(object) for name in frame.columns}
    except (pl.exceptions.PolarsError, OSError) as error:
        raise CorruptData(f"{path} is not a Parquet file, or is truncated: {str(error).splitlines()[0]}") from error

"""From chunks of integer keys to the compact form on disk, in bounded memory.

One pass over the source codes each chunk by itself and writes the codes where the ids will be; the distinct keys are
then counted and numbered, and a pass over the written file replaces codes by ids. So the source is parsed once, and
only distinct keys are ever held, never rows.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfa_bench.data.cached import made_once
from dfa_bench.errors import CorruptData
from dfa_bench.tasks.click_through.interactions import Interactions, Vocabulary, split_rows

FORMAT = 1  # of the files below; raised when it or the numbering of ids changes
MISSING = np.iinfo(np.int64).min  # key of an empty value
TILE = 4096  # rows
RARE_ID, MISSING_ID, FIRST_ID = 0, 1, 2  # within the range of a field


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a source.

    Args:
        labels: (rows,) uint8.
        keys: one int64 array (rows,) per field, `MISSING` where a value is empty.
    """

    labels: np.ndarray
    keys: list[np.ndarray]


def compact(
    folder: Path, name: str, chunks: Callable[[], Iterable[Chunk]], min_count: int, vocabulary: Vocabulary
) -> Interactions:
    """The compact form in `folder`; made of `chunks()` if it is not there.

    Args:
        folder: named after the checksum of the source and the options.
        name: of the data set, for messages.
        chunks: reads the source.
        min_count: keys seen less often share their field's "rare" id.
        vocabulary: whether keys are counted over all rows or over those of the training split.

    Raises:
        CorruptData: the source has no rows, or what `chunks` raises.
        RecordError: the folder cannot be written (disk full, no permission).
    """
    made_once(folder, name, lambda unfinished: _make(unfinished, name, chunks(), min_count, vocabulary))
    return _open(folder, name)


def _open(folder: Path, name: str) -> Interactions:
    damaged = f"is damaged. Delete {folder}; it will be built again."
    try:
        meta = json.loads((folder / "meta.json").read_text())
    except (OSError, ValueError) as error:
        raise CorruptData(f"{name}: {folder / 'meta.json'} {damaged}") from error
    shape = (meta["rows"], meta["fields"])
    sizes = {"ids.bin": 4 * shape[0] * shape[1], "labels.bin": shape[0]}
    for file, size in sizes.items():
        if not (folder / file).is_file() or (folder / file).stat().st_size != size:
            raise CorruptData(f"{name}: {folder / file} {damaged}")
    ids = np.memmap(folder / "ids.bin", np.int32, "r", shape=shape)
    return Interactions(name, ids, np.memmap(folder / "labels.bin", np.uint8, "r", shape=shape[:1]), meta["vocabulary"])


def _make(folder: Path, name: str, chunks: Iterable[Chunk], min_count: int, vocabulary: Vocabulary) -> None:
    lengths, distinct = _write_codes(folder, chunks)
    rows = sum(lengths)
    if not rows:
        raise CorruptData(f"{name} has no rows.")
    fields = len(distinct[0])
    ids = np.memmap(folder / "ids.bin", np.int32, "r+", shape=(rows, fields))
    counted = np.ones(rows, bool)
    if vocabulary == "training":
        counted[:] = False
        counted[split_rows(rows)["train"]] = True
    starts = np.cumsum([0, *lengths])
    blocks = [slice(start, stop) for start, stop in itertools.pairwise(starts)]

    def count(index: int) -> list[np.ndarray]:
        """How often each code of a chunk is seen, by field."""
        codes = _transposed(ids[blocks[index]])[:, counted[blocks[index]]]
        return [np.bincount(own, minlength=len(keys)) for own, keys in zip(codes, distinct[index], strict=True)]

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy and pandas let go of the interpreter
        counts = list(pool.map(count, range(len(blocks))))

        def number(field: int) -> tuple[list[np.ndarray], int]:
            """Per chunk the table from codes to the field's ids, and how many ids the field has."""
            keys = [chunk[field] for chunk in distinct]
            table, size = _number_keys(
                np.concatenate(keys), np.concatenate([each[field] for each in counts]), min_count
            )
            return np.split(table, np.cumsum([len(own) for own in keys])[:-1]), size

        tables, sizes = zip(*pool.map(number, range(fields)), strict=True)
        offsets = np.cumsum([0, *sizes])

        def replace(index: int) -> None:
            block = _transposed(ids[blocks[index]])
            for field, codes in enumerate(block):
                block[field] = tables[field][index][codes] + offsets[field]
            ids[blocks[index]] = _transposed(block)

        list(pool.map(replace, range(len(blocks))))
    ids.flush()
    meta = {"rows": rows, "fields": fields, "vocabulary": int(offsets[-1])}
    (folder / "meta.json").write_text(json.dumps(meta))


def _write_codes(folder: Path, chunks: Iterable[Chunk]) -> tuple[list[int], list[list[np.ndarray]]]:
    """Write labels, and each chunk's codes; returns the chunks' lengths, and their distinct keys by field."""
    import pandas as pd  # not before: a form that is in the cache needs none

    lengths, distinct = [], []
    with (
        (folder / "ids.bin").open("wb") as ids,
        (folder / "labels.bin").open("wb") as labels,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for chunk in chunks:
            coded = list(pool.map(pd.factorize, chunk.keys))
            codes = np.stack([each[0].astype(np.int32) for each in coded])  # (fields, rows)
            ids.write(_transposed(codes).data)
            labels.write(chunk.labels.data)
            lengths.append(len(chunk.labels))
            distinct.append([each[1] for each in coded])
    return lengths, distinct


def _transposed(array: np.ndarray) -> np.ndarray:
    """A transposed copy, made in pieces that fit the processor's cache: 5 times as fast as all at once."""
    out = np.empty(array.shape[::-1], array.dtype)
    long = int(np.argmax(array.shape))
    for start in range(0, array.shape[long], TILE):
        part = slice(start, start + TILE)
        if long:
            out[part] = array[:, part].T
        else:
            out[:, part] = array[part].T
    return out


def _number_keys(keys: np.ndarray, counts: np.ndarray, min_count: int) -> tuple[np.ndarray, int]:
    """Ids within a field, in the order of the keys.

    Args:
        keys: of all chunks one after the other; a key that several chunks have stands there several times.
        counts: how often each is seen in its chunk.

    Returns:
        An int32 id for each entry of `keys`, and the number of ids.
    """
    merged, place = np.unique(keys, return_inverse=True)
    total = np.bincount(place, weights=counts, minlength=len(merged))
    frequent = (total >= min_count) & (merged != MISSING)
    ids = np.full(len(merged), RARE_ID, np.int32)
    ids[frequent] = np.arange(FIRST_ID, FIRST_ID + frequent.sum(), dtype=np.int32)
    ids[merged == MISSING] = MISSING_ID
    return ids[place], FIRST_ID + int(frequent.sum())

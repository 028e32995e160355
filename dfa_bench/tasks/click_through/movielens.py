"""Reads MovieLens-1M (Harper & Konstan 2015): whether a user rates a film above 3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from dfa_bench.errors import CorruptData
from dfa_bench.tasks.click_through.compact import Chunk

USED = ["user_id", "movie_id", "rating"]
DAT_COLUMNS = ["user_id", "1", "movie_id", "3", "rating", "5", "time"]
POSITIVE_ABOVE = 3  # stars, as in the released code


def read_ratings(path: Path) -> Iterator[Chunk]:
    """The million ratings in one chunk, from `user::movie::rating::time` or from csv with a header.

    Raises:
        CorruptData: it has other columns, or a value is not a whole number, or a rating not 1 to 5.
    """
    try:
        if path.suffix == ".dat":  # separated by two colons: every second column is empty
            frame = pl.read_csv(path, separator=":", has_header=False, new_columns=DAT_COLUMNS).select(USED)
        else:
            frame = pl.read_csv(path).select(USED)
        frame = frame.cast(pl.Int64)
    except (pl.exceptions.PolarsError, OSError, EOFError) as error:
        raise CorruptData(f"{path}: {str(error).splitlines()[0]}") from error
    if frame.null_count().row(0) != (0, 0, 0) or not frame["rating"].is_between(1, 5).all():
        raise CorruptData(f"{path}: a row has no user, film or rating, or a rating outside 1 to 5.")
    labels = (frame["rating"] > POSITIVE_ABOVE).to_numpy().astype(np.uint8)
    yield Chunk(labels, [frame["user_id"].to_numpy(), frame["movie_id"].to_numpy()])

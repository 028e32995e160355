"""MovieLens-1M (Harper & Konstan 2015): whether a user rates a film above 3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import validate_call

from dfa_bench.data.resolve import DataCard, cache_folder, file_sha256, find_first
from dfa_bench.errors import CorruptData
from dfa_bench.settings.schema import DataSettings
from dfa_bench.tasks.click_through.compact import FORMAT, Chunk, compact
from dfa_bench.tasks.click_through.interactions import Interactions
from dfa_bench.tasks.click_through.planted import planted_card, planted_interactions

FILES = ("ratings.dat", "ratings.csv.gz", "ratings.csv")
ROWS = 1_000_209
USED = ["user_id", "movie_id", "rating"]
DAT_COLUMNS = ["user_id", "1", "movie_id", "3", "rating", "5", "time"]
POSITIVE_ABOVE = 3  # stars, as in the released code


class MovieLens:
    """User and film, the only fields that the released code takes; a rating above 3 is positive.

    Args:
        name: of the data set.
        url: where to get the official archive.
    """

    @validate_call
    def __init__(self, name: str, url: str) -> None:
        self.name, self.url = name, url

    def card(self, data: DataSettings) -> DataCard:
        if data.stand_in:
            return planted_card()
        sha256 = file_sha256(self._find(data), cache_folder(data))
        rows = len(self.load(data).labels)
        return DataCard(self.name, "real", rows, sha256, whole=rows == ROWS)

    def fetch(self, data: DataSettings) -> Path:
        return self._find(data).parent

    def load(self, data: DataSettings) -> Interactions:
        """The compact form; raises MissingData or CorruptData."""
        if data.stand_in:
            return planted_interactions()
        file = self._find(data)
        folder = cache_folder(data) / "ml-1m" / f"{file_sha256(file, cache_folder(data))[:16]}-v{FORMAT}"
        return compact(folder, self.name, lambda: read_ratings(file), min_count=1, vocabulary="all")

    def _find(self, data: DataSettings) -> Path:
        how_to_get = f"Get it from {self.url}, put ratings.dat"
        return find_first(self.name, "ml-1m", FILES, data, how_to_get)


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

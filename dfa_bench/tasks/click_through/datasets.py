"""Click logs: Criteo, MovieLens, and a table of the user's own. Files are read by the modules beside this one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Protocol, runtime_checkable

from pydantic import Field, NonNegativeInt, validate_call

from dfa_bench.data.resolve import DataCard, cache_folder, file_sha256, find_first, given_file
from dfa_bench.settings.schema import Count, DataSettings, Name, NotNegative
from dfa_bench.tasks.click_through import compact
from dfa_bench.tasks.click_through.interactions import Interactions, Vocabulary
from dfa_bench.tasks.click_through.planted import (
    FEWEST_FIELDS,
    Teacher,
    checksum,
    draw_chunks,
    planted_card,
    planted_interactions,
)

CRITEO_FILES = ("train.txt", "train.txt.gz", "train.parquet")  # looked for in this order
CRITEO_ROWS = 45_840_617  # of the official file; another number of them is a sample
MOVIELENS_FILES = ("ratings.dat", "ratings.csv.gz", "ratings.csv")
MOVIELENS_ROWS = 1_000_209


@runtime_checkable
class ClickDataset(Protocol):
    """What the task asks of a data set."""

    def load(self, data: DataSettings) -> Interactions: ...


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
    def __init__(self, name: str, min_count: Count = 10, vocabulary: Vocabulary = "all", url: str = "") -> None:
        self.name, self.min_count, self.vocabulary, self.url = name, min_count, vocabulary, url

    def card(self, data: DataSettings) -> DataCard:
        if data.stand_in:
            return planted_card()
        file = self._find(data)
        rows, sha256 = len(self.load(data).labels), file_sha256(file, cache_folder(data))
        return DataCard(self.name, "real", rows, sha256, whole=rows == CRITEO_ROWS)

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
        from dfa_bench.tasks.click_through import criteo

        file = self._find(data)
        options = f"{self.min_count}-{self.vocabulary}-v{compact.FORMAT}"
        folder = cache_folder(data) / "criteo" / f"{file_sha256(file, cache_folder(data))[:16]}-{options}"
        return compact.compact(folder, self.name, lambda: criteo.read_chunks(file), self.min_count, self.vocabulary)

    def _find(self, data: DataSettings) -> Path:
        how_to_get = (
            f"It is too large to be downloaded automatically: get it from {self.url} (train.txt: 45,840,617 rows, "
            f"11 GB), put it"
        )
        return find_first(self.name, "criteo", CRITEO_FILES, data, how_to_get)


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
        return DataCard(self.name, "real", rows, sha256, whole=rows == MOVIELENS_ROWS)

    def fetch(self, data: DataSettings) -> Path:
        return self._find(data).parent

    def load(self, data: DataSettings) -> Interactions:
        """The compact form; raises MissingData or CorruptData."""
        if data.stand_in:
            return planted_interactions()
        from dfa_bench.tasks.click_through import movielens

        file = self._find(data)
        folder = cache_folder(data) / "ml-1m" / f"{file_sha256(file, cache_folder(data))[:16]}-v{compact.FORMAT}"
        return compact.compact(folder, self.name, lambda: movielens.read_ratings(file), min_count=1, vocabulary="all")

    def _find(self, data: DataSettings) -> Path:
        how_to_get = f"Get it from {self.url}, put ratings.dat"
        return find_first(self.name, "ml-1m", MOVIELENS_FILES, data, how_to_get)


class PlantedClicks:
    """Clicks drawn by a known teacher, as many as one wants: generated data, and labelled so in every record.

    Ids within a field are Zipf-distributed, so most of those that pass `min_count` are rare, as in Criteo.

    Args:
        name: of the data set.
        rows, fields, values, linear, pairs, triples, seed: see `planted.Teacher`, who needs three fields.
        min_count: values seen fewer times share their field's "rare" id.
    """

    @validate_call
    def __init__(
        self,
        name: str,
        rows: Count,
        fields: Annotated[int, Field(ge=FEWEST_FIELDS)],
        values: Count,
        linear: NotNegative,
        pairs: NotNegative,
        triples: NotNegative,
        seed: NonNegativeInt,
        min_count: Count,
    ) -> None:
        self.name, self.min_count = name, min_count
        self.teacher = Teacher(rows, fields, values, linear, pairs, triples, seed)

    def card(self, data: DataSettings) -> DataCard:
        if data.stand_in:
            return planted_card()
        return DataCard(self.name, "stand-in", self.teacher.rows, checksum(self.teacher), whole=False)

    def fetch(self, data: DataSettings) -> Path:
        """Where the rows lie once they have been drawn."""
        made_of = f"{checksum(self.teacher)[:16]}-{self.min_count}-v{compact.FORMAT}"
        return cache_folder(data) / "planted" / made_of

    def load(self, data: DataSettings) -> Interactions:
        """The compact form, made if it is not in the cache."""
        if data.stand_in:
            return planted_interactions()
        return compact.compact(self.fetch(data), self.name, lambda: draw_chunks(self.teacher), self.min_count, "all")


class ClicksFile:
    """A user's own table, CSV, TSV or Parquet with named columns; the split is 80/10/10 of the rows at random.

    Args:
        name: of the data set.
        file: path, from here or below `data.root`.
        label: column with 1 for a click and 0 for none.
        categories: columns whose values are categories; None: all that are neither the label nor in `counts`.
        counts: columns of numbers, put into bins as Criteo's.
        min_count: categories seen fewer times share their field's "rare" id.
        vocabulary: whether categories are counted over the rows of the training split or over all.
    """

    @validate_call
    def __init__(
        self,
        name: Name,
        file: str,
        label: str = "label",
        categories: list[str] | None = None,
        counts: list[str] | None = None,
        min_count: Count = 2,
        vocabulary: Vocabulary = "training",
    ) -> None:
        self.name, self.file, self.min_count, self.vocabulary = name, file, min_count, vocabulary
        self.label, self.categories, self.counts = label, categories, counts or []

    def card(self, data: DataSettings) -> DataCard:
        if data.stand_in:
            return planted_card()
        rows = len(self.load(data).labels)
        return DataCard(self.name, "real", rows, file_sha256(self.fetch(data), cache_folder(data)), whole=False)

    def fetch(self, data: DataSettings) -> Path:
        return given_file(self.file, data)

    def load(self, data: DataSettings) -> Interactions:
        """The compact form, made if it is not in the cache; raises MissingData or CorruptData."""
        if data.stand_in:
            return planted_interactions()
        from dfa_bench.tasks.click_through import clicks_file

        file = self.fetch(data)
        columns = clicks_file.Columns(self.label, self.categories, self.counts)
        made_by = json.dumps([*columns, self.min_count, self.vocabulary, compact.FORMAT])
        options = hashlib.sha256(made_by.encode()).hexdigest()[:8]
        folder = cache_folder(data) / "clicks" / f"{file_sha256(file, cache_folder(data))[:16]}-{options}"

        def read() -> clicks_file.Chunks:
            return clicks_file.read_clicks(file, columns)

        return compact.compact(folder, self.name, read, self.min_count, self.vocabulary)

"""Click logs: Criteo, MovieLens, and a table of the user's own. Files are read by the modules beside this one."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Protocol, runtime_checkable

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


class ClickLog(ABC):
    """A file that is read into the compact form in the cache, once for each checksum and choice of options.

    A subclass says where its file is, how it is read, and what its compact form depends on besides the file.
    """

    name: str
    min_count: int = 1
    vocabulary: Vocabulary = "all"
    official_rows: ClassVar[int | None] = None  # another number of them is a sample
    folder: ClassVar[str]  # of the compact forms, below the cache

    @abstractmethod
    def find(self, data: DataSettings) -> Path:
        """The file; raises MissingData."""

    @abstractmethod
    def read(self, file: Path) -> Iterator[compact.Chunk]:
        """Its rows; raises CorruptData."""

    @abstractmethod
    def options(self) -> str:
        """What the name of the compact form ends with."""

    def card(self, data: DataSettings) -> DataCard:
        if data.stand_in:
            return planted_card()
        file, rows = self.find(data), len(self.load(data).labels)
        sha256 = file_sha256(file, cache_folder(data))
        return DataCard(self.name, "real", rows, sha256, whole=rows == self.official_rows)

    def fetch(self, data: DataSettings) -> Path:
        return self.find(data).parent

    def load(self, data: DataSettings) -> Interactions:
        """The compact form, made if it is not in the cache.

        Raises:
            MissingData: the file is not here.
            CorruptData: it is not of its layout; the message has the place and the reason.
        """
        if data.stand_in:
            return planted_interactions()
        file = self.find(data)
        made_of = f"{file_sha256(file, cache_folder(data))[:16]}-{self.options()}"
        folder = cache_folder(data) / self.folder / made_of
        return compact.compact(folder, self.name, lambda: self.read(file), self.min_count, self.vocabulary)


class Criteo(ClickLog):
    """Clicks on display advertisements: 13 counts and 26 hashed categories a row.

    Features as in the released code: a count x > 2 becomes ⌊ln²x⌋, another x − 2, and each value is a category;
    categories seen fewer than `min_count` times share one "rare" id per field; an empty value has an id of its own.

    The file is of the original layout, tab-separated without a header, plain or gzip, or Parquet with the same columns
    in this order. It is read a chunk at a time.

    Args:
        name: of the data set.
        min_count: see above.
        vocabulary: "all", categories are counted over all rows, as in the released code; "training": over those of the
            training split, so that the others can hold unseen ones, which are rare.
        url: where to get it.
    """

    official_rows = CRITEO_ROWS
    folder = "criteo"

    @validate_call
    def __init__(self, name: str, min_count: Count = 10, vocabulary: Vocabulary = "all", url: str = "") -> None:
        self.name, self.min_count, self.vocabulary, self.url = name, min_count, vocabulary, url

    def find(self, data: DataSettings) -> Path:
        how_to_get = (
            f"It is too large to be downloaded automatically: get it from {self.url} (train.txt: 45,840,617 rows, "
            f"11 GB), put it"
        )
        return find_first(self.name, "criteo", CRITEO_FILES, data, how_to_get)

    def read(self, file: Path) -> Iterator[compact.Chunk]:
        from dfa_bench.tasks.click_through import criteo

        return criteo.read_chunks(file)

    def options(self) -> str:
        return f"{self.min_count}-{self.vocabulary}-v{compact.FORMAT}"


class MovieLens(ClickLog):
    """User and film, the only fields that the released code takes; a rating above 3 is positive.

    Args:
        name: of the data set.
        url: where to get the official archive.
    """

    official_rows = MOVIELENS_ROWS
    folder = "ml-1m"

    @validate_call
    def __init__(self, name: str, url: str) -> None:
        self.name, self.url = name, url

    def find(self, data: DataSettings) -> Path:
        how_to_get = f"Get it from {self.url}, put ratings.dat"
        return find_first(self.name, "ml-1m", MOVIELENS_FILES, data, how_to_get)

    def read(self, file: Path) -> Iterator[compact.Chunk]:
        from dfa_bench.tasks.click_through import movielens

        return movielens.read_ratings(file)

    def options(self) -> str:
        return f"v{compact.FORMAT}"


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


class ClicksFile(ClickLog):
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

    folder = "clicks"

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

    def find(self, data: DataSettings) -> Path:
        return given_file(self.file, data)

    def fetch(self, data: DataSettings) -> Path:
        return self.find(data)

    def read(self, file: Path) -> Iterator[compact.Chunk]:
        from dfa_bench.tasks.click_through import clicks_file

        return clicks_file.read_clicks(file, clicks_file.Columns(self.label, self.categories, self.counts))

    def options(self) -> str:
        made_by = [self.label, self.categories, self.counts, self.min_count, self.vocabulary, compact.FORMAT]
        return hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:8]

"""WikiText-2 and WikiText-103 (Merity et al. 2016), and their stand-in."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import validate_call

from dfa_bench.data.download import download
from dfa_bench.data.resolve import OFF, SET_ROOT, SMOKE, DataCard, cache_folder, data_root
from dfa_bench.errors import CorruptData, MissingData
from dfa_bench.settings.schema import DataSettings, Strict
from dfa_bench.tasks.language.corpus import SPLITS, Corpus, CorpusSplit, count_lines, find_files, open_corpus

STAND_IN = "topics of Python's help"


class Source(Strict):
    """Where the files of a corpus are."""

    folders: list[str]  # below `data.root`, in the order in which they are looked for; the first one is the cache's
    url: str  # of a folder with the files below
    parquet: list[str]
    fetch_unasked: bool  # small enough to be downloaded without being asked for


@runtime_checkable
class CorpusDataset(Protocol):
    """What the task asks of a data set."""

    name: str

    def card(self, data: DataSettings) -> DataCard: ...

    def load(self, data: DataSettings) -> Corpus: ...


class WikiText:
    """Articles of Wikipedia as words; rare ones are `<unk>`.

    Whichever form the files have, the checksum of a split is that of its lines with single spaces between words.

    Args:
        name: of the data set.
        words: of each split, with `<eos>` for the end of a line: another number is a sample.
        source: where its files are.
        lines, bytes, sha256: of the splits where they are known; see `SplitCounts`. A split with as many words as the
            official one, but another of these, is refused.
    """

    @validate_call
    def __init__(
        self,
        name: str,
        words: Mapping[CorpusSplit, int],
        source: Source,
        lines: Mapping[CorpusSplit, int] | None = None,
        bytes: Mapping[CorpusSplit, int] | None = None,
        sha256: Mapping[CorpusSplit, str] | None = None,
    ) -> None:
        self.name, self.words, self.source = name, words, source
        self.official = {"lines": lines or {}, "bytes": bytes or {}, "sha256": sha256 or {}}  # fields of `SplitCounts`

    def card(self, data: DataSettings) -> DataCard:
        corpus = self.load(data)
        words = {split: corpus.count[split].words for split in SPLITS}
        return DataCard(
            corpus.name,
            "stand-in" if data.stand_in else "real",
            sum(words.values()),
            corpus.sha256,
            whole=words == dict(self.words),
        )

    def fetch(self, data: DataSettings) -> Path:
        """The folder with its files, downloaded if they are not here; a large set only with `data.large`.

        Raises:
            MissingData: they are not here, and are not or cannot be downloaded.
            CorruptData: some splits are there and others not.
        """
        return self._found(data)[0]

    def load(self, data: DataSettings) -> Corpus:
        """The corpus, its words counted; its text is read when it is asked for.

        Raises:
            MissingData, CorruptData: see `fetch` and `open_corpus`; or a split is not the official one.
        """
        if data.stand_in:
            return help_topics()
        corpus = open_corpus(self.name, self._found(data)[1], cache_folder(data))
        for split in SPLITS:
            count = corpus.count[split]
            if count.words != self.words[split]:
                continue  # a sample
            for what, known in self.official.items():
                found = getattr(count, what)
                if split in known and found != known[split]:
                    raise CorruptData(
                        f"{self.name}: the {split} split has as many words as the official one, but different ones: "
                        f"{what} {str(found)[:16]}, expected {str(known[split])[:16]}. Copy it again from "
                        f"{self.source.url}."
                    )
        return corpus

    def _found(self, data: DataSettings) -> tuple[Path, dict[CorpusSplit, list[Path]]]:
        root, cached = data_root(data), cache_folder(data) / self.source.folders[0]
        looked_in = [root / folder for folder in self.source.folders] if root else []
        may_fetch = data.download and (data.large or self.source.fetch_unasked)
        for folder in (*looked_in, cached):
            try:
                files = find_files(folder)
            except CorruptData:
                if folder != cached or not may_fetch:
                    raise
                break  # a download broke off: fetch what it has left
            if files:
                return folder, files
        reason = "It is downloaded only on request, with `dfa-bench data get`."
        if may_fetch:
            try:
                download(self.source.url, dict.fromkeys(self.source.parquet), cached, self.name)
            except MissingData as error:
                reason = str(error)
            else:
                files = find_files(cached)
                assert files
                return cached, files
        elif not data.download:
            reason = OFF
        places = ", ".join(map(str, (*looked_in, cached)))
        raise MissingData(
            f"{self.name} was not found. Looked in {places} for text (wiki.train.tokens, wiki.valid.tokens, "
            f"wiki.test.tokens), the official zip, or Parquet. {reason} Get {', '.join(self.source.parquet)} from "
            f"{self.source.url}, put them into DIR/{self.source.folders[0]}, {SET_ROOT} {SMOKE}"
        )


@functools.cache
def help_topics() -> Corpus:
    """The stand-in: what `help()` of this Python says on its topics; every tenth topic validates, every tenth tests."""
    from pydoc_data.topics import topics  # half a megabyte that only the stand-in needs

    texts = [topics[name] for name in sorted(topics)]
    parts: dict[CorpusSplit, list[str]] = {
        "train": [text for number, text in enumerate(texts) if number % 10 < 8],
        "val": texts[8::10],
        "test": texts[9::10],
    }

    def read(split: CorpusSplit) -> Iterator[str]:
        for text in parts[split]:
            for line in text.splitlines():
                yield " ".join(line.split())

    return Corpus(STAND_IN, {split: count_lines(STAND_IN, split, read(split)) for split in SPLITS}, read)

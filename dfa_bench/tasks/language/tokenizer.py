"""Byte-pair encoding by Hugging Face `tokenizers`, and corpora as one array of tokens each."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from dfa_bench.data.cached import made_once
from dfa_bench.data.progress import tracked
from dfa_bench.data.resolve import cache_folder
from dfa_bench.errors import ConfigError, CorruptData
from dfa_bench.settings.schema import DataSettings
from dfa_bench.tasks.language.corpus import SPLITS, Corpus, CorpusSplit

FORMAT = 1  # of the files below; raised when they or the way from text to tokens change
END_OF_LINE = "<eos>"
UNKNOWN = "<unk>"  # stands in WikiText for rare words; one token, whatever is in front of it
SMALLEST = 256 + 2  # bytes and the two special tokens
LINES = 8192  # encoded at a time


@dataclass(frozen=True)
class Tokens:
    """A split of a corpus.

    Args:
        ids: (tokens,) memory-mapped unsigned integers.
        begins_word: (vocabulary,) whether a token is the first of a word; the end of a line counts as a word, `<eos>`,
            as in the published word counts of WikiText.
    """

    ids: np.ndarray
    begins_word: np.ndarray

    @property
    def words(self) -> int:
        return int(self.begins_word[self.ids].sum())


@dataclass(frozen=True)
class TokenisedCorpus:
    tokenizer: Tokenizer
    splits: dict[CorpusSplit, Tokens]

    @property
    def vocabulary(self) -> int:
        return int(self.tokenizer.get_vocab_size())


def train_tokenizer(lines: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte-level byte-pair encoding of lower-cased words; each word is encoded with the space in front of it.

    Args:
        lines: words separated by single spaces.
        vocabulary: number of tokens; a small corpus may have no use for so many.

    Raises:
        ConfigError: a vocabulary too small for all bytes.
    """
    if vocabulary < SMALLEST:
        raise ConfigError(
            f"task.vocabulary={vocabulary}: must be at least {SMALLEST} (256 bytes and 2 special tokens)."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(END_OF_LINE, special=True), AddedToken(UNKNOWN, special=True, lstrip=True)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=sys.stderr.isatty(),
    )
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, lines: Iterable[str]) -> Iterator[np.ndarray]:
    """The tokens of some thousand lines at a time, with `<eos>` behind each line."""
    end = tokenizer.token_to_id(END_OF_LINE)
    source = iter(lines)
    while block := list(itertools.islice(source, LINES)):
        encoded = tokenizer.encode_batch_fast(block, add_special_tokens=False)
        yield np.fromiter(itertools.chain.from_iterable([*each.ids, end] for each in encoded), np.int64)


def begins_word(tokenizer: Tokenizer) -> np.ndarray:
    """(vocabulary,) whether a token is the first of a word: it starts with a space, or is a special one."""
    first = np.zeros(tokenizer.get_vocab_size(), bool)
    for text, index in tokenizer.get_vocab().items():
        first[index] = text.startswith("Ġ") or text in (END_OF_LINE, UNKNOWN)
    return first


def tokenised(corpus: Corpus, source: Corpus, vocabulary: int, data: DataSettings) -> TokenisedCorpus:
    """A corpus as tokens, from the cache; made once for each (corpus, tokenizer).

    Args:
        corpus: whose splits are encoded.
        source: the corpus whose training split the tokenizer is trained on.
        vocabulary: number of tokens.

    Raises:
        ConfigError: see `train_tokenizer`.
        CorruptData: a split has no words, or the cache is damaged.
        RecordError: the cache cannot be written.
    """
    key = f"{corpus.sha256[:16]}-{source.sha256[:16]}-{vocabulary}-v{FORMAT}"
    folder = cache_folder(data) / "language" / key
    made_once(folder, corpus.name, lambda unfinished: _make(unfinished, corpus, source, vocabulary))
    return _open(folder, corpus.name)


def _make(folder: Path, corpus: Corpus, source: Corpus, vocabulary: int) -> None:
    tokenizer = train_tokenizer(source.lines("train"), vocabulary)
    tokenizer.save(str(folder / "tokenizer.json"))
    sizes = {}
    for split in SPLITS:
        lines = tracked(corpus.lines(split), f"Encoding {corpus.name}, {split}", "line", corpus.count[split].lines)
        with (folder / f"{split}.bin").open("wb") as file:
            for block in encode(tokenizer, lines):
                file.write(block.astype(_dtype(tokenizer)).data)
            sizes[split] = file.tell()
    (folder / "meta.json").write_text(json.dumps(sizes))


def _dtype(tokenizer: Tokenizer) -> type[np.unsignedinteger]:
    return np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32


def _open(folder: Path, name: str) -> TokenisedCorpus:
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        sizes = json.loads((folder / "meta.json").read_text())
        whole = all((folder / f"{split}.bin").stat().st_size == sizes[split] for split in SPLITS)
    except Exception as error:  # `tokenizers` raises plain Exceptions
        raise CorruptData(f"{name}: {folder} is damaged ({error}). Delete it; it will be built again.") from error
    if not whole:
        raise CorruptData(f"{name}: a file in {folder} is truncated. Delete the folder; it will be built again.")
    first = begins_word(tokenizer)
    ids = {split: np.memmap(folder / f"{split}.bin", _dtype(tokenizer), "r") for split in SPLITS}
    return TokenisedCorpus(tokenizer, {split: Tokens(ids[split], first) for split in SPLITS})

"""Byte-pair encoding by Hugging Face `tokenizers`, lower-cased token by token; corpora as one array of tokens each."""

from __future__ import annotations

import itertools
import json
import string
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from dfa_bench.data.cached import made_once
from dfa_bench.data.progress import tracked
from dfa_bench.data.resolve import cache_folder
from dfa_bench.errors import ConfigError, CorruptData
from dfa_bench.settings.schema import DataSettings
from dfa_bench.tasks.language.corpus import SPLITS, Corpus, CorpusSplit

FORMAT = 2  # of the files below; raised when they or the way from text to tokens change
END_OF_LINE = "<eos>"
UNKNOWN = "<unk>"  # stands in WikiText for rare words; one token, whatever is in front of it
SMALLEST = 256 + 2  # bytes and the two special tokens
LINES = 8192  # encoded at a time
ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


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


class LowerCasedTokenizer:
    """Cuts cased text into tokens, then lower-cases each; tokens that become equal are one. So does the released code.

    Capitals thus cost tokens: WikiText-2 has 1.028 of them a word, and 1.015 if it is lower-cased first (of 32,000).

    Args:
        pairs: byte-pair encoding of cased text, see `train_byte_pairs`.
    """

    def __init__(self, pairs: Tokenizer) -> None:
        cased = sorted(pairs.get_vocab().items(), key=lambda item: item[1])  # by id
        lowered = [lower_case(text) for text, _ in cased]
        self.pairs = pairs
        self.texts = [*dict.fromkeys(lowered)]  # of the tokens, a space as "Ġ"
        self.ids = {text: index for index, text in enumerate(self.texts)}
        self._of_pairs = np.array([self.ids[text] for text in lowered])  # from a cased token to its lower-cased one

    def encode(self, line: str) -> list[int]:
        return [int(self._of_pairs[index]) for index in self.pairs.encode(line, add_special_tokens=False).ids]

    def encode_lines(self, lines: Iterable[str]) -> Iterator[np.ndarray]:
        """The tokens of some thousand lines at a time, with `<eos>` behind each line."""
        end = self.pairs.token_to_id(END_OF_LINE)
        source = iter(lines)
        while block := list(itertools.islice(source, LINES)):
            encoded = self.pairs.encode_batch_fast(block, add_special_tokens=False)
            cased = np.fromiter(itertools.chain.from_iterable([*each.ids, end] for each in encoded), np.int64)
            yield self._of_pairs[cased]

    def decode(self, ids: Iterable[int]) -> str:
        text: str = decoders.ByteLevel().decode([self.texts[index] for index in ids])
        return text

    def begins_word(self) -> np.ndarray:
        """(vocabulary,) whether a token is the first of a word: it starts with a space, or is a special one."""
        return np.array([text.startswith("Ġ") or text in (END_OF_LINE, UNKNOWN) for text in self.texts])


def lower_case(token: str) -> str:
    """A token of byte-level encoding, lower-cased; of characters cut in two, only the ASCII ones beside them."""
    text = decoders.ByteLevel().decode([token])
    if "\N{REPLACEMENT CHARACTER}" in text:
        return token.translate(ASCII_LOWER)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text.lower())
    return "".join(part for part, _ in bytes_)


@dataclass(frozen=True)
class TokenisedCorpus:
    tokenizer: LowerCasedTokenizer
    splits: dict[CorpusSplit, Tokens]

    @property
    def vocabulary(self) -> int:
        return len(self.tokenizer.texts)


def train_byte_pairs(lines: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte-level byte-pair encoding of cased words: whatever stands between spaces, with the space in front of it.

    Args:
        lines: words separated by single spaces.
        vocabulary: number of cased tokens; a small corpus may have no use for so many.

    Raises:
        ConfigError: a vocabulary too small for all bytes.
    """
    if vocabulary < SMALLEST:
        raise ConfigError(
            f"task.vocabulary={vocabulary}: must be at least {SMALLEST} (256 bytes and 2 special tokens)."
        )
    tokenizer = Tokenizer(models.BPE())
    in_words, in_bytes = pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([in_words, in_bytes])
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


def tokenised(corpus: Corpus, source: Corpus, vocabulary: int, data: DataSettings) -> TokenisedCorpus:
    """A corpus as tokens, from the cache; made once for each (corpus, tokenizer).

    Args:
        corpus: whose splits are encoded.
        source: the corpus whose training split the tokenizer is trained on.
        vocabulary: number of cased tokens, of which fewer are left when they are lower-cased.

    Raises:
        ConfigError: see `train_byte_pairs`.
        CorruptData: a split has no words, or the cache is damaged.
        RecordError: the cache cannot be written.
    """
    key = f"{corpus.sha256[:16]}-{source.sha256[:16]}-{vocabulary}-v{FORMAT}"
    folder = cache_folder(data) / "language" / key
    made_once(folder, corpus.name, lambda unfinished: _make(unfinished, corpus, source, vocabulary))
    return _open(folder, corpus.name)


def _make(folder: Path, corpus: Corpus, source: Corpus, vocabulary: int) -> None:
    pairs = train_byte_pairs(source.lines("train"), vocabulary)
    pairs.save(str(folder / "tokenizer.json"))
    tokenizer = LowerCasedTokenizer(pairs)
    sizes = {}
    for split in SPLITS:
        lines = tracked(corpus.lines(split), f"Encoding {corpus.name}, {split}", "line", corpus.count[split].lines)
        with (folder / f"{split}.bin").open("wb") as file:
            for block in tokenizer.encode_lines(lines):
                file.write(block.astype(_dtype(tokenizer)).data)
            sizes[split] = file.tell()
    (folder / "meta.json").write_text(json.dumps(sizes))


def _dtype(tokenizer: LowerCasedTokenizer) -> type[np.unsignedinteger]:
    return np.uint16 if len(tokenizer.texts) <= 2**16 else np.uint32


def _open(folder: Path, name: str) -> TokenisedCorpus:
    try:
        tokenizer = LowerCasedTokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")))
        sizes = json.loads((folder / "meta.json").read_text())
        whole = all((folder / f"{split}.bin").stat().st_size == sizes[split] for split in SPLITS)
    except Exception as error:  # `tokenizers` raises plain Exceptions
        raise CorruptData(f"{name}: {folder} is damaged ({error}). Delete it; it will be built again.") from error
    if not whole:
        raise CorruptData(f"{name}: a file in {folder} is truncated. Delete the folder; it will be built again.")
    first = tokenizer.begins_word()
    ids = {split: np.memmap(folder / f"{split}.bin", _dtype(tokenizer), "r") for split in SPLITS}
    return TokenisedCorpus(tokenizer, {split: Tokens(ids[split], first) for split in SPLITS})

"""From lines to tokens: nothing is lost, words are counted, and the cache holds whole corpora only."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfa_bench.errors import ConfigError, CorruptData
from dfa_bench.tasks.language.corpus import Corpus, count_lines
from dfa_bench.tasks.language.tokenizer import LowerCasedTokenizer, Tokens, lower_case, tokenised, train_byte_pairs
from tests.language.conftest import LINES

TOKENIZER = LowerCasedTokenizer(train_byte_pairs(LINES["train"], 300))
# Words that WikiText has: no white space within, none of the special tokens but <unk>.
words = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1).filter(lambda word: "<" not in word)
texts = st.lists(st.lists(words | st.just("<unk>")).map(" ".join))


def corpus(lines: dict[str, list[str]] = LINES) -> Corpus:
    counts = {split: count_lines("Toy", split, own) for split, own in lines.items()}
    return Corpus("Toy", counts, lambda split: iter(lines[split]))


def number_of_words(tokens: Tokens) -> int:
    return int(tokens.begins_word[tokens.ids].sum())


@given(texts)
def test_words_with_eos_are_counted_from_the_tokens(lines):
    ids = np.concatenate([np.zeros(0, np.int64), *TOKENIZER.encode_lines(lines)])
    assert number_of_words(Tokens(ids, TOKENIZER.begins_word())) == sum(len(line.split()) + 1 for line in lines)


@given(st.lists(words, min_size=1).map(" ".join))
def test_tokens_spell_the_text_in_lower_case(line):
    (ids,) = TOKENIZER.encode_lines([line])
    spelt = TOKENIZER.decode(ids[:-1]).removeprefix(" ")
    assert spelt.casefold() == line.casefold()  # lower-casing looks at one token: not whether a sigma ends the word
    if line.isascii():
        assert spelt == line.lower()


def test_capitals_are_cut_as_they_stand_and_equal_tokens_become_one():
    """As the released code does: lower-cased first, both words would be the same tokens."""
    pairs = train_byte_pairs(["castle The"] * 50, 280)
    tokenizer = LowerCasedTokenizer(pairs)
    texts = [[tokenizer.texts[index] for index in tokenizer.encode(line)] for line in ("castle", "CASTLE", "The")]
    assert texts == [["Ġcastle"], ["Ġ", *"castle"], ["Ġthe"]]
    assert len(tokenizer.texts) < pairs.get_vocab_size()
    assert len({*tokenizer.texts}) == len(tokenizer.texts)


def test_a_token_with_half_a_character_keeps_it():
    half, whole = "Ã", "Ãľ"  # the first byte of an umlaut, and both of U
    assert lower_case(f"A{half}") == f"a{half}"
    assert lower_case(f"Ġ{whole}B") == "ĠÃ¼b"


def test_unknown_words_are_one_token():
    (ids,) = TOKENIZER.encode_lines(["by <unk> in"])
    assert [TOKENIZER.texts[token] for token in ids].count("<unk>") == 1
    (alone,) = TOKENIZER.encode_lines(["<unk>"])
    assert len(alone) == 2  # and <eos>


def test_the_same_text_gives_the_same_tokenizer():
    assert train_byte_pairs(LINES["train"], 300).to_str() == TOKENIZER.pairs.to_str()
    assert TOKENIZER.pairs.get_vocab_size() == 300


def test_a_vocabulary_without_room_for_all_bytes_is_refused():
    with pytest.raises(ConfigError, match="task.vocabulary=100: must be at least 258"):
        train_byte_pairs(LINES["train"], 100)


def test_a_corpus_is_tokenised_once_and_then_read_from_the_cache(data):
    first = tokenised(corpus(), corpus(), 280, data)
    unread = Corpus("Toy", corpus().count, lambda split: pytest.fail("read again"))
    again = tokenised(unread, unread, 280, data)
    for split in LINES:
        np.testing.assert_array_equal(first.splits[split].ids, again.splits[split].ids)
        assert number_of_words(again.splits[split]) == corpus().count[split].words
    assert isinstance(again.splits["train"].ids, np.memmap)
    assert again.vocabulary == len(again.tokenizer.texts) < 280


def test_another_corpus_may_be_the_tokenizers(data):
    other = corpus(LINES | {"train": ["zebra zebra zebra"] * 50})
    assert "Ġzebra" in tokenised(corpus(), other, 280, data).tokenizer.texts
    assert "Ġzebra" not in tokenised(corpus(), corpus(), 280, data).tokenizer.texts


def test_an_interrupted_tokenisation_leaves_nothing_behind(data):
    def stops(split: str):
        yield from LINES[split][:20]
        if split == "val":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenised(Corpus("Toy", corpus().count, stops), corpus(), 280, data)
    assert not [path for path in Path(data.cache).rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert number_of_words(tokenised(corpus(), corpus(), 280, data).splits["val"]) == corpus().count["val"].words


def test_what_a_killed_tokenisation_left_is_not_used(data):
    whole = tokenised(corpus(), corpus(), 280, data)
    (folder,) = (Path(data.cache) / "language").glob("*-v*[0-9]")
    ids = np.array(whole.splits["train"].ids)
    folder.rename(folder.with_name(folder.name + ".unfinished"))
    np.testing.assert_array_equal(tokenised(corpus(), corpus(), 280, data).splits["train"].ids, ids)
    assert not list(folder.parent.glob("*.unfinished"))


@pytest.mark.parametrize("file, content", [("train.bin", b"12"), ("tokenizer.json", b"{"), ("meta.json", b"[")])
def test_a_damaged_cache_is_made_again(data, file, content):
    whole = np.array(tokenised(corpus(), corpus(), 280, data).splits["train"].ids)
    (folder,) = (Path(data.cache) / "language").glob("*-v*[0-9]")
    (folder / file).write_bytes(content)
    np.testing.assert_array_equal(tokenised(corpus(), corpus(), 280, data).splits["train"].ids, whole)


def test_a_damaged_cache_of_a_version_without_checksums_is_named(data):
    tokenised(corpus(), corpus(), 280, data)
    (folder,) = (Path(data.cache) / "language").glob("*-v*[0-9]")
    (folder / "crc32.json").unlink()
    (folder / "train.bin").write_bytes(b"12")
    with pytest.raises(CorruptData, match=rf"{folder.name}.*it will be built again|{folder.name}.*Delete"):
        tokenised(corpus(), corpus(), 280, data)

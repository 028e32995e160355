"""WikiText in each of its forms, and what is wrong with a bad one."""

import zipfile
from pathlib import Path

import polars as pl
import pytest

from dfa_bench.errors import CorruptData, MissingData
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.settings.schema import DataSettings
from dfa_bench.tasks.base import build_dataset
from dfa_bench.tasks.language.corpus import SPLITS, count_lines, find_files, open_corpus
from dfa_bench.tasks.language.datasets import Source, WikiText
from tests.data.server import served
from tests.language.conftest import LINES, write_text

PARQUET = [f"{name}-00000-of-00001.parquet" for name in ("train", "validation", "test")]
WORDS = {split: sum(len(line.split()) + 1 for line in lines) for split, lines in LINES.items()}


def small(url: str = "https://example.invalid", unasked: bool = True, **known: dict[str, str]) -> WikiText:
    source = Source(folders=["toy", "toy-v1"], url=url, parquet=PARQUET, fetch_unasked=unasked)
    return WikiText(name="Toy", words=WORDS, source=source, **known)


def write_zip(folder: Path, tmp_path: Path, name: str = "toy") -> None:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / f"{name}-v1.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(write_text(tmp_path / "loose").iterdir()):
            archive.write(path, f"{name}/{path.name}")


def write_parquet(folder: Path, names: list[str] = PARQUET) -> None:
    """Each split in as many files as there are names of it."""
    folder.mkdir(parents=True)
    for split, (wanted, _) in zip(SPLITS, (name.split("-", 1) for name in PARQUET), strict=True):
        parts = [name for name in names if name.startswith(wanted)]
        text = [f" {line} \n" if line else "" for line in LINES[split]]
        share = -(-len(text) // len(parts))
        for number, name in enumerate(parts):
            pl.DataFrame({"text": text[number * share : (number + 1) * share]}).write_parquet(folder / name)


def test_text_zip_and_parquet_are_the_same_corpus(data, tmp_path):
    root = Path(data.root)
    found = []
    for form, write in {
        "text": lambda folder: write_text(folder),
        "zip": lambda folder: write_zip(folder, tmp_path),
        "parquet": write_parquet,
    }.items():
        write(root / form / "toy-v1")
        found.append(small().load(data.model_copy(update={"root": str(root / form)})))
    assert len({corpus.sha256 for corpus in found}) == 1
    for corpus in found:
        assert {split: list(corpus.lines(split)) for split in SPLITS} == LINES
        assert {split: corpus.count[split].words for split in SPLITS} == WORDS


def test_wikitext_2_has_its_published_number_of_words(real_data):
    settings = run_settings(["task=language", "dataset=wikitext-2", "model=transformer"])
    card = build_dataset(settings).card(settings.data)
    assert (card.kind, card.rows, card.whole) == ("real", 2_088_628 + 217_646 + 245_569, True)


def test_another_number_of_words_is_a_sample(data):
    write_text(Path(data.root) / "toy", LINES | {"test": LINES["test"][:10]})
    assert not small().card(data).whole


def test_the_same_number_of_other_words_is_not_the_official_corpus(data):
    write_text(Path(data.root) / "toy")
    official = {split: small().load(data).count[split].sha256 for split in SPLITS}
    assert small(sha256=official).card(data).whole
    write_text(
        Path(data.root) / "toy", LINES | {"train": ["= The Castles =" if "=" in x else x for x in LINES["train"]]}
    )
    with pytest.raises(CorruptData, match="train split has as many words as the official one, but different ones"):
        small(sha256=official).load(data)


LINE_COUNTS = {split: len(lines) for split, lines in LINES.items()}
BYTES = sum(len(f" {line} \n".encode()) for line in LINES["val"] if line)
OFFICIAL_103 = [
    "train-00000-of-00002.parquet",
    "train-00001-of-00002.parquet",
    "validation-00000-of-00001.parquet",
    "test-00000-of-00001.parquet",
]


def wikitext_103(**known: dict[str, int]) -> WikiText:
    """The data set as configured, expecting the small corpus's counts."""
    overrides = [f"++dataset.{what}.{split}={number}" for what, each in known.items() for split, number in each.items()]
    settings = run_settings(["task=language", "dataset=wikitext-103", "model=transformer", *overrides])
    return build_dataset(settings)


@pytest.mark.parametrize("form", ["zip", "text", "parquet"])
@pytest.mark.parametrize("folder", ["wikitext-103", "wikitext-103-v1"])
def test_an_official_folder_of_wikitext_103_is_accepted(data, tmp_path, form, folder):
    where = Path(data.root) / folder
    if form == "zip":
        write_zip(where, tmp_path, "wikitext-103")
    elif form == "text":
        write_text(where)
    else:
        write_parquet(where, OFFICIAL_103)
    dataset = wikitext_103(words=WORDS, lines=LINE_COUNTS, bytes={"val": BYTES})
    assert not dataset.official["sha256"]
    card = dataset.card(data)
    assert (card.name, card.kind, card.rows, card.whole) == ("WikiText-103", "real", sum(WORDS.values()), True)
    assert not wikitext_103().card(data).whole  # its real counts


@pytest.mark.parametrize("what, off", [("bytes", {"val": 1}), ("lines", {"test": 7})])
def test_wikitext_103_with_the_words_of_another_text_is_refused(data, what, off):
    write_text(Path(data.root) / "wikitext-103")
    known = {"lines": LINE_COUNTS, "bytes": {"val": BYTES}}
    with pytest.raises(
        CorruptData, match=rf"as many words as the official one, but different ones: {what} \d+, expected"
    ):
        wikitext_103(words=WORDS, **known | {what: known[what] | off}).load(data)


def test_wikitext_2_counts_the_bytes_of_its_data_card(real_data):
    """The card's num_bytes are those of the text and 4 for each of the lines."""
    settings = run_settings(["task=language", "dataset=wikitext-2", "model=transformer"])
    count = build_dataset(settings).load(settings.data).count
    card = {"train": 10_918_118, "val": 1_134_123, "test": 1_270_947}  # of huggingface.co/datasets/Salesforce/wikitext
    assert {split: count[split].bytes + 4 * count[split].lines for split in SPLITS} == card


def test_a_line_that_is_not_utf8_is_named(data, tmp_path):
    folder = write_text(Path(data.root) / "toy")
    lines = (folder / "wiki.valid.tokens").read_bytes().splitlines(keepends=True)
    (folder / "wiki.valid.tokens").write_bytes(b"".join([*lines[:4], b" caf\xe9 \n", *lines[4:]]))
    with pytest.raises(CorruptData, match=r"wiki.valid.tokens, line 5: not UTF-8"):
        small().load(data)


@pytest.mark.parametrize("split", SPLITS)
def test_an_empty_split_is_refused(data, split):
    write_text(Path(data.root) / "toy", LINES | {split: [""] * 3})
    with pytest.raises(CorruptData, match=f"the {split} split is empty: 3 lines without a word"):
        small().load(data)


def test_a_missing_split_is_named(data):
    folder = write_text(Path(data.root) / "toy")
    (folder / "wiki.test.tokens").unlink()
    with pytest.raises(CorruptData, match="has no files of the splits test"):
        small().load(data)


@pytest.mark.parametrize("form", ["toy-v1.zip", *PARQUET[:1]])
def test_a_damaged_file_is_named(data, tmp_path, form):
    folder = Path(data.root) / "toy"
    write_zip(folder, tmp_path) if form.endswith("zip") else write_parquet(folder)
    content = (folder / form).read_bytes()
    (folder / form).write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptData, match=form):
        small().load(data)


def test_an_archive_of_something_else_is_refused(data):
    folder = Path(data.root) / "toy"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "toy.zip", "w") as archive:
        archive.writestr("cats.txt", "meow")
    with pytest.raises(CorruptData, match="does not contain wiki.train.tokens"):
        small().load(data)


def test_strangers_beside_the_official_files_change_nothing(data, tmp_path):
    folder = Path(data.root) / "toy"
    write_zip(folder, tmp_path)
    expected = small().load(data).sha256
    with zipfile.ZipFile(folder / "toy-v1.zip", "a") as archive:
        archive.writestr("__MACOSX/toy/._wiki.train.tokens", "no text")
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("cats.txt", "meow")
    assert small().load(data).sha256 == expected
    (folder / "toy-v1.zip").unlink()
    for path in sorted((tmp_path / "loose").iterdir()):
        path.rename(folder / path.name)
    assert small().load(data).sha256 == expected


@pytest.mark.parametrize("text", [pl.Series([b"\xff"]), pl.Series([["a", "list"]])])
def test_parquet_without_text_is_refused(data, text):
    folder = Path(data.root) / "toy"
    write_parquet(folder)
    pl.DataFrame({"text": text}).write_parquet(folder / PARQUET[0])
    with pytest.raises(CorruptData, match="is not a Parquet file with a column `text`"):
        small().load(data)


def test_one_of_several_parquet_files_is_no_split(data):
    folder = Path(data.root) / "toy"
    write_parquet(folder)
    (folder / PARQUET[0]).rename(folder / "train-00000-of-00002.parquet")
    with pytest.raises(CorruptData, match="1 of the 2 Parquet files of train"):
        small().load(data)


def test_a_download_that_broke_off_goes_on(data, tmp_path, monkeypatch):
    write_parquet(tmp_path / "official")
    cached = Path(data.cache) / "toy"
    cached.mkdir(parents=True)
    (cached / PARQUET[0]).write_bytes((tmp_path / "official" / PARQUET[0]).read_bytes())
    with pytest.raises(CorruptData, match="has no files of the splits val, test"):
        small().load(data)
    with served(tmp_path / "official", monkeypatch) as url:
        assert small(url).card(data.model_copy(update={"download": True})).whole


def test_a_corpus_that_is_nowhere_says_where_to_get_it(data):
    with pytest.raises(
        MissingData, match=r"Toy was not found.*data.download=false.*https://example.invalid.*data.root"
    ):
        small().load(data)


def test_a_large_corpus_is_downloaded_only_when_asked_for(data, tmp_path, monkeypatch):
    write_parquet(tmp_path / "official")
    online = data.model_copy(update={"download": True})
    with served(tmp_path / "official", monkeypatch) as url:
        large = small(url, unasked=False)
        for ask in (large.load, large.fetch):
            with pytest.raises(MissingData, match="dfa-bench data get"):
                ask(online)
        folder = large.fetch(online.model_copy(update={"large": True}))
    assert folder == Path(data.cache) / "toy"
    assert large.card(data).whole


def test_counts_are_kept_for_as_long_as_the_files_stay_the_same(data, tmp_path):
    folder = write_text(Path(data.root) / "toy")
    files = find_files(folder)
    first = open_corpus("Toy", files, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").rglob("*.json")
    write_text(folder, LINES | {"test": LINES["test"][:4]})
    again = open_corpus("Toy", files, tmp_path / "cache")
    assert again.count["test"] == count_lines("Toy", "test", LINES["test"][:4])
    assert again.count["train"] == first.count["train"]
    assert kept.is_file()


def test_the_stand_in_is_labelled():
    card = small().card(DataSettings(stand_in=True))
    assert card.kind == "stand-in"
    assert card.name != "Toy"

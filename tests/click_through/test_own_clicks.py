"""A user's own table of clicks."""

import gzip
import hashlib
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dfa_bench.errors import ConfigError, CorruptData, MissingData
from dfa_bench.settings.schema import DataSettings
from dfa_bench.tasks.base import build_dataset
from dfa_bench.tasks.click_through import clicks_file
from dfa_bench.tasks.click_through.datasets import ClicksFile
from dfa_bench.training.execute import execute


def table(rows: int = 200) -> pl.DataFrame:
    random = np.random.default_rng(0)
    user, item = random.integers(0, 9, rows), random.integers(0, 5, rows)
    seen = [None if random.random() < 0.2 else int(value) for value in random.integers(-1, 60, rows)]
    city = [["Paris", "Oslo", ""][value] or None for value in random.integers(0, 3, rows)]
    label = (random.random(rows) < 0.2 + 0.1 * (user % 5)).astype(int)
    return pl.DataFrame({"user": user, "city": city, "item": item, "label": label, "seen": seen})


def write(path: Path, frame: pl.DataFrame) -> Path:
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        text = frame.write_csv(separator="\t" if ".tsv" in path.name else ",").encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.fixture
def load(tmp_path):
    data = DataSettings(root=str(tmp_path), cache=str(tmp_path / "cache"))
    return lambda file, **columns: ClicksFile("mine", str(file), **columns).load(data)


def same_groups(ids: np.ndarray, values: list) -> bool:
    """Whether rows have the same id where and only where they have the same value."""
    return len(set(zip(ids.tolist(), values, strict=True))) == len(set(ids.tolist())) == len(set(values))


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "parquet"])
@pytest.mark.parametrize("rows", [7, 2**17])
def test_columns_become_fields_whatever_the_form_and_the_size_of_a_chunk(load, tmp_path, monkeypatch, ending, rows):
    monkeypatch.setattr(clicks_file, "ROWS", rows)
    frame = table()
    found = load(write(tmp_path / f"clicks.{ending}", frame), counts=["seen"], min_count=1, vocabulary="all")
    reference = load(write(tmp_path / "reference.csv", frame), counts=["seen"], min_count=1, vocabulary="all")
    np.testing.assert_array_equal(found.ids, reference.ids)
    assert found.labels.tolist() == frame["label"].to_list()
    assert found.fields == 4
    bins = [x if x is None else math.floor(math.log(x) ** 2) if x > 2 else x - 2 for x in frame["seen"]]
    for field, values in enumerate((frame["user"].to_list(), frame["city"].to_list(), frame["item"].to_list(), bins)):
        assert same_groups(found.ids[:, field], values), field


def test_columns_are_chosen_by_name(load, tmp_path):
    path = write(tmp_path / "clicks.csv", table().rename({"label": "bought"}))
    assert load(path, label="bought", categories=["item", "city"]).fields == 2
    assert load(path, label="bought", categories=["item"], counts=["seen"]).fields == 2


def test_categories_that_training_does_not_have_are_rare(load, tmp_path):
    frame = table().with_columns(user=pl.int_range(pl.len()))  # each once
    found = load(write(tmp_path / "clicks.csv", frame), categories=["user"])
    assert np.unique(found.ids[:, 0]).tolist() == [0]


@pytest.mark.parametrize("model", ["fm", "deepfm", "dcn", "autoint", "afn"])
def test_a_run_on_it_is_never_the_papers(smoke, tmp_path, model):
    path = write(tmp_path / "clicks.csv", table(400))
    own = "dataset=clicks_file", "dataset.name=mine", f"dataset.file={path}", "data.stand_in=false", "scale=cpu"
    where = f"data.cache={tmp_path / 'cache'}", "trainer.max_epochs=1", "task.batch=100", "dataset.counts=[seen]"
    rule = "bp" if model == "fm" else "dfa"  # a factorisation machine has no points
    result = execute(smoke("task=clicks", f"model={model}", f"rule={rule}", *own, *where)).result
    card = result.card
    assert (result.dataset, result.protocol) == ("mine", "reduced")
    assert (card.kind, card.rows) == ("real", 400)
    assert card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "test/auc" in result.metrics


@pytest.mark.parametrize(
    "columns, told",
    [
        ({"label": "click"}, "has no column 'click'. It has user, city, item, label, seen: set dataset.label"),
        ({"counts": ["price"]}, "has no column 'price'.*set dataset.categories or dataset.counts"),
        ({"categories": ["user", "label"]}, "the column 'label' is named twice"),
        ({"categories": ["user"], "counts": ["user"]}, "the column 'user' is named twice"),
        ({"counts": ["city"]}, r"column city: '(Paris|Oslo)' in row \d+ is not a number"),
        ({"label": "item"}, r"column item \(label\): '[2-4]' in row \d+ is not 0 or 1"),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_columns_that_do_not_fit_are_told(load, tmp_path, columns, told, ending):
    with pytest.raises(CorruptData, match=told):
        load(write(tmp_path / f"clicks.{ending}", table()), **columns)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_decimal_numbers_are_no_categories_unless_they_are_named(load, tmp_path, ending):
    path = write(tmp_path / f"clicks.{ending}", table().with_columns(price=pl.col("user") * 0.5 + 0.25))
    with pytest.raises(CorruptData, match=r"'price' has decimal numbers, such as \d.\d+.*dataset.counts=\[price\]"):
        load(path)
    assert load(path, counts=["price"]).fields == 5
    assert load(path, categories=["price"]).fields == 1


@pytest.mark.parametrize(
    "text, told",
    [
        ("user,label\na,1\nb\n", "column label .label.: '' in row 2 is not 0 or 1"),
        ("user,label\na,1\nb,0,3\nc,1\n", "is damaged after row 0"),
        ("label\n1\n0\n", "no column but the label"),
        ("user,label\n", "has no rows"),
        ("", "is damaged after row 0"),
    ],
)
def test_a_bad_table_is_told(load, tmp_path, text, told):
    (tmp_path / "clicks.csv").write_text(text)
    with pytest.raises(CorruptData, match=told):
        load(tmp_path / "clicks.csv")


def test_a_file_of_another_kind_is_told(load, tmp_path):
    for name, content in (
        ("clicks.parquet", b"PAR1"),
        ("clicks.csv.gz", b"no gzip"),
        ("clicks.csv", b"a,label\n\xff,1\n"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorruptData, match=r"is damaged|is not a Parquet file"):
            load(tmp_path / name)
    (tmp_path / "clicks.xlsx").write_bytes(b"")
    with pytest.raises(CorruptData, match=r"expected a file that ends in \.csv"):
        load(tmp_path / "clicks.xlsx")


def test_what_is_not_there_or_not_given_is_told(smoke):
    settings = smoke("task=clicks", "dataset=clicks_file", "dataset.name=mine", "dataset.file=no.csv")
    with pytest.raises(MissingData, match="dataset.file=no.csv: there is no such file"):
        build_dataset(settings).card(DataSettings())
    for missing in ("name", "file"):
        given = {"name": "mine", "file": "clicks.csv"}
        del given[missing]
        with pytest.raises(ConfigError, match=f"The setting 'dataset.{missing}' is missing"):
            smoke("task=clicks", "dataset=clicks_file", *(f"dataset.{key}={value}" for key, value in given.items()))

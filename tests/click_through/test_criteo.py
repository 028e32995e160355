"""The Criteo reader: features by independent code, bounded memory, and every kind of bad file."""

import gzip
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dfa_bench.errors import CorruptData, MissingData, RecordError
from dfa_bench.settings.schema import DataSettings
from dfa_bench.tasks.click_through import compact as compact_form
from dfa_bench.tasks.click_through import criteo
from dfa_bench.tasks.click_through.datasets import Criteo
from dfa_bench.tasks.click_through.interactions import Interactions, split_rows


def write_rows(path: Path, rows: list[list[str]]) -> None:
    text = "".join("\t".join(row) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def some_rows(count: int, seed: int = 0) -> list[list[str]]:
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        counts = ["" if random.random() < 0.2 else str(random.integers(-2, 40)) for _ in range(13)]
        hashed = ["" if random.random() < 0.2 else f"{random.zipf(1.5) % 2**32:08x}" for _ in range(26)]
        rows.append([str(random.integers(0, 2)), *counts, *hashed])
    return rows


@pytest.fixture
def data(tmp_path: Path) -> DataSettings:
    return DataSettings(root=str(tmp_path / "data"), cache=str(tmp_path / "cache"), download=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "criteo" / "train.txt"


def by_hand(rows: list[list[str]], min_count: int) -> np.ndarray:
    """Ids of the released code's features, written out row by row."""

    def value(column: int, text: str) -> object:
        if text == "":
            return None
        if column <= 13:
            x = int(text)
            return math.floor(math.log(x) ** 2) if x > 2 else x - 2
        return int(text, 16)

    columns, offset = [], 0
    for column in range(1, 40):
        values = [value(column, row[column]) for row in rows]
        counts = Counter(values)
        frequent = sorted(key for key, count in counts.items() if key is not None and count >= min_count)
        number = {key: 2 + index for index, key in enumerate(frequent)} | {None: 1}
        columns.append([offset + number.get(each, 0) for each in values])
        offset += 2 + len(frequent)
    return np.array(columns).T


@pytest.mark.parametrize("ending", ["txt", "txt.gz", "parquet"])
@pytest.mark.parametrize("chunk", [500, 2**25])
def test_features_are_the_released_codes(file, data, monkeypatch, ending, chunk):
    monkeypatch.setattr(criteo, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(criteo, "CHUNK_ROWS", max(3, chunk // 200))
    rows = some_rows(200)
    path = file.with_name(f"train.{ending}")
    if ending == "parquet":
        path.parent.mkdir(parents=True)
        frame = pl.DataFrame([[each or None for each in row] for row in rows], schema=criteo.COLUMNS, orient="row")
        frame.with_columns(pl.col(criteo.COLUMNS[:14]).cast(pl.Int32)).write_parquet(path)
    else:
        write_rows(path, rows)
    loaded = Criteo("Criteo", min_count=3).load(data)
    np.testing.assert_array_equal(loaded.ids, by_hand(rows, 3))
    np.testing.assert_array_equal(loaded.labels, [int(row[0]) for row in rows])
    assert loaded.vocabulary >= loaded.ids.max() + 1


def test_a_value_that_only_held_out_rows_have_is_rare_with_the_training_vocabulary(file, data):
    rows = some_rows(100)
    held_out = split_rows(100)["test"][0]
    rows[held_out][14] = "ffffffff"
    write_rows(file, rows)
    loaded = Criteo("Criteo", min_count=1, vocabulary="training").load(data)
    empty = next(number for number, row in enumerate(rows) if row[14] == "")
    rare = loaded.ids[empty, 13] - compact_form.MISSING_ID + compact_form.RARE_ID
    assert loaded.ids[held_out, 13] == rare
    with_all = Criteo("Criteo", min_count=1, vocabulary="all").load(data)
    assert with_all.ids[held_out, 13] > loaded.ids[held_out, 13]


def test_a_field_with_one_value_has_one_id(file, data):
    rows = some_rows(50)
    for row in rows:
        row[20] = "0000000a"
    write_rows(file, rows)
    assert len(np.unique(Criteo("Criteo", min_count=2).load(data).ids[:, 19])) == 1


def test_the_file_is_read_once_per_checksum_and_options(file, data, monkeypatch):
    write_rows(file, some_rows(50))
    Criteo("Criteo").load(data)
    monkeypatch.setattr(criteo, "read_chunks", lambda path: pytest.fail("read again"))
    Criteo("Criteo").load(data)
    with pytest.raises(pytest.fail.Exception, match="read again"):
        Criteo("Criteo", min_count=5).load(data)
    assert sorted(path.name for path in file.parent.iterdir()) == ["train.txt"]  # nothing below data.root


def _changed(column: int, value: str) -> list[list[str]]:
    rows = some_rows(20)
    rows[6][column] = value
    return rows


@pytest.mark.parametrize(
    "rows, told",
    [
        (_changed(39, "0000000a\t0000000b"), "line 7: 41 columns instead of 40"),
        ([*some_rows(6), ["0", "1"], *some_rows(3)], "line 7: 2 columns instead of 40"),
        (_changed(3, "1.5"), "line 7, column i3: '1.5' is not a whole number"),
        (_changed(3, "many"), "line 7, column i3: 'many' is not a whole number"),
        (_changed(0, "2"), "line 7: the label is '2' instead of 0 or 1"),
        (_changed(0, ""), "line 7: the label is '' instead of 0 or 1"),
        (_changed(20, "xyz"), "line 7, column c7: 'xyz' is not a hexadecimal category"),
        (_changed(20, "-5"), "line 7, column c7: '-5' is not a hexadecimal category"),
        ([*some_rows(6), [""], *some_rows(3)], "line 7: 1 columns instead of 40"),
        ([], "has no rows"),
    ],
)
def test_a_bad_file_is_told_with_its_line(file, data, monkeypatch, rows, told):
    monkeypatch.setattr(criteo, "CHUNK_BYTES", 700)
    write_rows(file, rows)
    with pytest.raises(CorruptData) as error:
        Criteo("Criteo").load(data)
    assert told in str(error.value)


def test_bytes_that_are_not_utf8_are_told_with_their_line(file, data):
    write_rows(file, some_rows(5))
    file.write_bytes(file.read_bytes() + b"\xff\xfe" * 20 + b"\n")
    with pytest.raises(CorruptData, match="line 6: not UTF-8"):
        Criteo("Criteo").load(data)


def test_a_truncated_gz_is_told(file, data):
    path = file.with_name("train.txt.gz")
    write_rows(path, some_rows(500))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CorruptData, match="truncated or damaged"):
        Criteo("Criteo").load(data)


def test_a_truncated_parquet_is_told(file, data):
    file.parent.mkdir(parents=True)
    file.with_name("train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CorruptData, match="not a Parquet file"):
        Criteo("Criteo").load(data)


def test_a_missing_file_is_told_with_where_to_get_it(data):
    with pytest.raises(MissingData, match=r"train\.txt, train\.txt\.gz, train\.parquet in .*data\.root=DIR"):
        Criteo("Criteo", url="https://example.org").load(data)


def test_labels_that_are_all_equal_have_no_auc():
    data = Interactions("Criteo", np.zeros((50, 3), np.int32), np.ones(50, np.uint8), 1)
    with pytest.raises(CorruptData, match="40 clicks, so that its AUC is undefined"):
        data.split()


KILLED = """
import sys, os, signal
from dfa_bench.settings.schema import DataSettings
from dfa_bench.tasks.click_through import compact, datasets
compact._number_keys = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
datasets.Criteo("Criteo").load(DataSettings(root=sys.argv[1], cache=sys.argv[2]))
"""


def test_a_killed_preprocessing_is_repaired_by_the_next_start(file, data):
    rows = some_rows(60)
    write_rows(file, rows)
    assert subprocess.run([sys.executable, "-c", KILLED, data.root, data.cache], check=False).returncode == -9
    assert list(Path(data.cache).glob("criteo/*.unfinished"))
    np.testing.assert_array_equal(Criteo("Criteo").load(data).ids, by_hand(rows, 10))
    assert not list(Path(data.cache).glob("criteo/*.unfinished"))


def test_a_damaged_cache_is_made_again(file, data):
    write_rows(file, some_rows(60))
    whole = np.array(Criteo("Criteo").load(data).ids)
    (ids,) = Path(data.cache).glob("criteo/*/ids.bin")
    ids.write_bytes(ids.read_bytes()[:-4])
    np.testing.assert_array_equal(Criteo("Criteo").load(data).ids, whole)


def test_a_full_disk_is_told_and_leaves_nothing_half_written(file, data, monkeypatch):
    write_rows(file, some_rows(60))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compact_form, "_write_codes", full)
    with pytest.raises(RecordError, match="No space left on device"):
        Criteo("Criteo").load(data)
    assert [path.suffix for path in Path(data.cache, "criteo").iterdir()] == [".lock"]


def test_a_form_of_another_version_is_made_anew(file, data, monkeypatch):
    write_rows(file, some_rows(60))
    monkeypatch.setattr(compact_form, "FORMAT", 0)
    Criteo("Criteo").load(data)
    monkeypatch.undo()
    Criteo("Criteo").load(data)
    assert len(list(Path(data.cache).glob("criteo/*/meta.json"))) == 2


def test_the_real_sample_has_its_rows_and_click_rate(real_data, tmp_path):
    loaded = Criteo("Criteo").load(DataSettings(root=str(real_data), cache=str(tmp_path)))
    assert loaded.ids.shape == (137139, 39)
    assert round(float(loaded.labels.mean()), 4) == 0.2568

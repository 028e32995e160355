"""results/runs.csv."""

import math
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

import dfa_bench
from dfa_bench.errors import RecordError
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.summary import COLUMNS
from tests.runs.summaries import summary, unsealed

COMMITTED = Path(dfa_bench.__file__).parents[1] / "results" / "runs.csv"


def test_the_committed_rows_are_written_as_they_are_read(tmp_path):
    read = Ledger(COMMITTED)
    assert read.runs
    written = Ledger(tmp_path / "runs.csv")
    written.add(read.runs.values())
    assert unsealed(written.path) == unsealed(COMMITTED)


@given(st.data())
def test_a_character_that_was_changed_in_a_row_is_told_with_the_row(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("ledger") / "runs.csv"
    Ledger(path).add([summary("run-1", metrics={"test/accuracy": 0.8125}), summary("run-2", seed=1)])
    text = path.read_text()
    row = text.index("run-1") + len("run-1")
    place = data.draw(st.sampled_from([at for at in range(row, text.index("run-2")) if text[at] not in ',"\n']))
    changed = data.draw(st.sampled_from("0123456789abz").filter(lambda each: each != text[place]))
    path.write_text(text[:place] + changed + text[place + 1 :])
    with pytest.raises(RecordError, match="the row of the run run-1 .*was changed"):
        Ledger(path)


def test_a_row_that_lost_its_checksum_is_named(tmp_path):
    path = tmp_path / "runs.csv"
    Ledger(path).add([summary("run-1"), summary("run-2", seed=1)])
    head, first, second = path.read_text().splitlines()
    path.write_text("\n".join([head, first, second.rpartition(",")[0] + ","]) + "\n")
    with pytest.raises(RecordError, match="the row of the run run-2 .*was changed: it has no checksum"):
        Ledger(path)


def test_a_run_is_one_row_and_its_last_one(tmp_path):
    ledger = Ledger(tmp_path / "results" / "runs.csv")
    ledger.add([summary("a", metrics={"test/accuracy": 0.123456789})])
    ledger.add([summary("a", metrics={"test/accuracy": 0.2}), summary("b", seed=1, metrics={"val/auc": math.nan})])
    assert Ledger(ledger.path).runs.keys() == ledger.runs.keys() == {"a", "b"}
    assert Ledger(ledger.path).runs["a"] == ledger.runs["a"]
    head, *rows = ledger.path.read_text().splitlines()
    assert head.split(",")[-3:] == ["test/accuracy", "val/auc", "crc32"]
    assert [row.split(",")[-3:-1] for row in rows] == [["0.2", ""], ["", "nan"]]


def test_runs_that_another_process_added_stay(tmp_path):
    mine, theirs = Ledger(tmp_path / "runs.csv"), Ledger(tmp_path / "runs.csv")
    theirs.add([summary("a")])
    mine.add([summary("b")])
    assert mine.runs.keys() == Ledger(mine.path).runs.keys() == {"a", "b"}


def test_numerics_are_a_column_once_a_run_has_them(tmp_path):
    ledger = Ledger(tmp_path / "runs.csv")
    ledger.add([summary("a")])
    assert "numerics" not in ledger.path.read_text()
    ledger.add([summary("b", numerics="32-true, cpu")])
    assert [run.numerics for run in Ledger(ledger.path).runs.values()] == ["", "32-true, cpu"]


def test_hostile_texts_stay_in_their_cells(tmp_path):
    odd = "a, \"b\"=c;'d' <script>"
    Ledger(tmp_path / "runs.csv").add([summary("a", device=odd)])
    assert Ledger(tmp_path / "runs.csv").runs["a"].device == odd


@pytest.mark.parametrize("character", ["\n", "\x1b", "\u2028"])
def test_a_text_that_would_leave_its_line_is_refused(tmp_path, character):
    write(tmp_path / "runs.csv", summary("a").to_row() | {"device": f"a{character}[31mcpu"})
    with pytest.raises(RecordError, match="a row has device='a") as error:
        Ledger(tmp_path / "runs.csv")
    assert character not in str(error.value)


def test_the_card_of_a_data_set_is_that_trained_on_last(tmp_path):
    ledger = Ledger(tmp_path / "runs.csv")
    older, newer = (summary(day, finished=f"2026-01-{day}", data_sha256=day) for day in ("01", "02"))
    ledger.add([newer, older])
    assert ledger.cards()["Cora"].sha256 == "02"


def write(path: Path, *rows: dict[str, str]) -> Path:
    columns = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
    lines = [",".join(columns), *(",".join(f'"{row.get(name, "")}"' for name in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_two_rows_that_differ_for_one_run_are_refused(tmp_path):
    row = summary("a", metrics={"m": math.nan}).to_row()
    assert len(Ledger(write(tmp_path / "same.csv", row, row)).runs) == 1
    with pytest.raises(RecordError, match="two rows that differ for the run a"):
        Ledger(write(tmp_path / "runs.csv", row, row | {"seed": "1"}))


def test_an_impossible_row_is_refused_with_the_file_and_what_to_do(tmp_path):
    path = write(tmp_path / "runs.csv", summary("a").to_row() | {"seed": "x"})
    with pytest.raises(RecordError, match=r"runs\.csv: a row has seed=x: .*Restore it with git"):
        Ledger(path)


@pytest.mark.parametrize(
    "content, told",
    [
        (b"identity,seed\nabc,0\n", "has no columns status, task"),
        (b"", "has no columns identity"),
        (b"identity,seed\nabc\n", "cannot be read"),
        (b'identity,seed\n"abc,0\n', "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_what_is_no_ledger_is_refused(tmp_path, content, told):
    (tmp_path / "runs.csv").write_bytes(content)
    with pytest.raises(RecordError, match=told):
        Ledger(tmp_path / "runs.csv")

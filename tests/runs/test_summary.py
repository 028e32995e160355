"""A run as a record and as a row."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfa_bench.data.writing import CHECKSUM
from dfa_bench.errors import RecordError
from dfa_bench.runs.record import RECORD_VERSION, Record
from dfa_bench.runs.summary import COLUMNS, FIELDS, RunSummary
from tests.runs.summaries import PLAIN, summary

OLD = Path(__file__).parent / "record-version-1.json"

text = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12)
number = st.floats(allow_nan=True, allow_infinity=True)
positive = st.floats(0, 1e9)
count = st.integers(0, 2**53)
runs = st.builds(
    RunSummary,
    identity=text,
    status=st.sampled_from(["finished", "diverged"]),
    task=text,
    dataset=text,
    model=text,
    rule=text,
    variant=text,
    scale=text,
    protocol=st.sampled_from(["paper", "reduced"]),
    seed=count,
    epochs=count,
    best_epoch=st.none() | count,
    wall_seconds=positive,
    step_seconds=positive,
    steps=count,
    peak_memory_mib=st.none() | positive,
    finished=st.datetimes().map(lambda time: time.isoformat()),
    commit=st.none() | text,
    device=text,
    threads=count,
    data_name=text,
    data_kind=st.sampled_from(["real", "stand-in"]),
    data_rows=count,
    data_sha256=text,
    versions=text,
    numerics=st.just("") | text,
    metrics=st.dictionaries(text.filter(lambda name: name not in FIELDS), number, max_size=4),
    message=st.none() | text,
)


@given(runs)
def test_a_record_gives_the_run_back(run):
    assert repr(RunSummary.from_record(json.loads(json.dumps(run.to_record())))) == repr(run)  # NaN equals nothing


@given(runs)
def test_a_row_gives_the_run_back_to_its_digits(run):
    row = run.to_row()
    read = RunSummary.from_row(row)
    assert read.to_row() == row
    for name in set(FIELDS) - {"wall_seconds", "step_seconds", "peak_memory_mib", "metrics", "message"}:
        assert getattr(read, name) == getattr(run, name)
    assert read.wall_seconds == pytest.approx(run.wall_seconds, abs=0.0051)
    assert read.step_seconds == pytest.approx(run.step_seconds, abs=5.1e-7)
    assert read.peak_memory_mib == pytest.approx(run.peak_memory_mib, abs=0.51)
    assert read.metrics == pytest.approx(run.metrics, rel=1e-5, nan_ok=True)


@given(runs)
def test_an_empty_cell_and_an_absent_column_are_the_same(run):
    row = run.to_row()
    assert repr(RunSummary.from_row(dict.fromkeys(COLUMNS, "") | row)) == repr(RunSummary.from_row(row))


@pytest.mark.parametrize(
    "changed, mistake",
    [
        ({"seed": "x"}, "has seed=x"),
        ({"finished": "2026-11"}, "has finished=2026-11"),
        ({"status": "running"}, "has status=running"),
        ({"m": "high"}, "has m=high"),
        ({"data_kind": ""}, "lacks data_kind"),
        ({"device": "", "threads": ""}, "lacks device, threads"),
    ],
)
def test_an_impossible_row_is_refused(changed, mistake):
    with pytest.raises(RecordError, match=mistake):
        RunSummary.from_row(summary("a", metrics={"m": 0.5}).to_row() | changed)


@pytest.mark.parametrize("value, read", [(0.5, 0.5), (math.nan, None), (math.inf, None)])
def test_only_a_finite_number_is_a_value(value, read):
    assert summary("a", metrics={"m": value}).value("m") == read
    assert summary("a").value("m") is None


def test_a_record_of_version_1_is_read(tmp_path):
    shutil.copy(OLD, tmp_path / "result.json")
    run = Record(tmp_path).read_result()
    assert (run.identity, run.status, run.seed, run.best_epoch) == ("8990dda549eb394b", "diverged", 3, None)
    assert (run.wall_seconds, run.step_seconds, run.steps, run.peak_memory_mib) == (26.0234, 0.0462281, 540, 811.6)
    assert (run.device, run.threads, run.commit) == ("cpu, AMD EPYC", 1, None)
    assert (run.data_name, run.data_kind, run.data_rows, run.data_sha256[:4]) == ("Criteo", "real", 137139, "e086")
    assert run.versions == "python=3.11.7 torch=2.13.0+cpu"
    assert (run.numerics, run.message) == ("", "The loss is infinite.")
    assert run.metrics == pytest.approx(
        {"test/auc": 0.7515218, "test/perplexity": math.inf, "val/auc": math.nan}, nan_ok=True
    )


def test_a_record_is_written_flat_and_read_back(tmp_path):
    run = summary("a", metrics={"m": math.inf}, numerics="32-true, cpu")
    Record(tmp_path).write_result(run)
    written = json.loads((tmp_path / "result.json").read_text())
    assert written.keys() == {"record_version", "files", *FIELDS, CHECKSUM}
    assert written["record_version"] == RECORD_VERSION
    assert Record(tmp_path).read_result() == run


@pytest.mark.parametrize("changed", [(": Infinity", ": 1.0"), ('"seed": ', '"seed": 1'), (CHECKSUM, "crc33")])
def test_a_value_that_was_changed_on_the_disk_is_told(tmp_path, changed):
    Record(tmp_path).write_result(summary("a", metrics={"m": math.inf}))
    path = tmp_path / "result.json"
    path.write_text(path.read_text().replace(*changed))
    with pytest.raises(RecordError, match="checksum differs"):
        Record(tmp_path).read_result()


@pytest.mark.parametrize(
    "content, told",
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"record_version": 0}', "version 0; this dfa-bench reads versions 1 to 4"),
        ('{"record_version": 1, "identity": "a"}', "is damaged"),
        (json.dumps({"record_version": 2, "identity": "a", **PLAIN}), "it lacks metrics"),
        (json.dumps({"record_version": 2, "identity": "a", "metrics": {}, **PLAIN, "seed": "x"}), "it has seed=x"),
    ],
)
def test_a_damaged_record_is_told(tmp_path, content, told):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(RecordError, match=told) as error:
        Record(tmp_path).read_result()
    assert "force=true" in str(error.value)


def test_runs_are_read_without_pytorch_or_pandas():
    code = "import sys, dfa_bench.runs.listing, dfa_bench.runs.provenance; print({'torch', 'pandas'} & {*sys.modules})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"

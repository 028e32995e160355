"""`dfa-bench runs`, over a ledger and a store with all that can be wrong with them."""

import math
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import click
import pytest

from dfa_bench.commands.runs import age_text, command, value_text
from dfa_bench.errors import ConfigError
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.listing import Group, read_store
from dfa_bench.training.execute import execute
from tests.runs.summaries import summary


@pytest.fixture
def listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """What `dfa-bench runs` prints about these rows."""
    runs = [
        summary("a", 0, {"test/accuracy": 0.8}),
        summary("b", 1, {"test/accuracy": 0.9}),
        summary("c", 0, {"test/accuracy": 0.7, "val/accuracy": 0.6}, rule="dfa"),
        summary("d", 0, {"test/accuracy": math.nan}, rule="dfa"),
        summary("e", 0, {"test/auc": 0.5}, model="[bold]<b>&|$(x)"),
    ]
    Ledger(tmp_path / "runs.csv").add(runs)

    def list_runs(*arguments: str) -> tuple[str, str]:
        given = [f"results={tmp_path}", f"store.root={tmp_path / 'runs'}", *arguments]
        assert command.main(given, standalone_mode=False, help_option_names=["-h", "--help"]) == 0
        said = capsys.readouterr()
        return said.out, said.err

    return list_runs


def test_seeds_stand_in_one_line_and_settings_are_not_averaged(listed):
    out, _ = listed()
    assert "0.85 ± 0.071" in out
    assert "0.7 to 0.7, 1 run of 2 settings, 1 without" in out
    assert "[bold]<b>&|$(x)" in out
    assert "5 of 5 runs." in out


@pytest.mark.parametrize(
    "filters, kept",
    [
        (["model=gcn"], 4),
        (["model=GC*", "rule=dfa"], 2),
        (["seeds=2"], 2),
        (["test/accuracy>0.75"], 2),
        (["test/accuracy<=0.8"], 2),
        (["seed=1,2"], 1),
        (["age=1d"], 0),
        (["age=9999w"], 5),
        (["rule=shallow"], 0),
    ],
)
def test_filters_keep_what_they_say(listed, filters, kept):
    assert f"{kept} of 5 runs." in listed(*filters)[0]


def test_each_shows_identities_and_metric_chooses_what_is_shown(listed):
    out, _ = listed("each", "rule=dfa", "metric=val/accuracy")
    lines = [line for line in out.splitlines() if "│ c " in line or "│ d " in line]
    assert ["0.6" in line for line in lines] == [True], "d has no such metric"
    assert "1 of 5 runs." in out


@pytest.mark.parametrize(
    "argument, told",
    [
        ("modle=gcn", "unknown filter 'modle=gcn'. Did you mean 'model'?"),
        ("model", "unknown filter 'model'"),
        ("age=soon", "--age soon: give a number and a unit"),
        ("seeds=many", "'many' is not a whole number above 0"),
        ("test/accuracy>1e", "1e is not a number"),
        ("metric=test/acuracy", "unknown metric 'test/acuracy'. Did you mean 'test/accuracy'?"),
    ],
)
def test_an_unknown_filter_is_refused(listed, argument, told):
    with pytest.raises((ConfigError, click.UsageError)) as refused:
        listed(argument)
    assert told in str(refused.value)


def test_damaged_old_doubled_and_unfinished_records_are_told(smoke, tmp_path, listed):
    done = [execute(smoke("trainer.max_epochs=2", "rule=bp", f"seed={seed}")).folder for seed in range(4)]
    (done[0] / "result.json").write_text('{"record_version": 0}')
    (done[1] / "result.json").write_text('{"record_version": 1, "ident')
    (done[2] / "result.json").unlink()
    shutil.copytree(done[3], done[3].parent / "a copy")  # before the record itself by name
    store = read_store(tmp_path / "runs")
    assert (len(store.runs), store.unfinished) == (1, [done[2]])
    out, err = listed("scale=smoke")
    assert "1 of 6 runs; not done: 1 begun." in out
    assert "(stand-in)" in out
    for said in ("version 0", "is damaged", "a copy is a second record of the run"):
        assert said in err
    (done[2] / "failed.json").write_text('{"reason": "no memory"}')
    out, _ = listed("status=failed")
    assert f"{done[2]}: failed, no memory" in out
    assert "0 of 6 runs; not done: 1 failed." in out
    assert "no memory" not in listed("status=lost")[0]


def test_ages_and_single_values_are_short():
    assert [age_text(timedelta(**each)) for each in ({"seconds": 90}, {"hours": 3}, {"days": 2}, {"days": 15})] == [
        "1 m",
        "3 h",
        "2 d",
        "2 w",
    ]
    assert value_text(Group([summary("a", 0, {"m": 0.123456})]), "m") == "0.1235"
    assert value_text(Group([summary("a")]), "m") == "none of 1"

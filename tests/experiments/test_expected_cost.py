"""What missing runs are expected to cost, and how `reproduce --dry-run` lists them."""

from pathlib import Path

import pytest

from dfa_bench.experiments.expected_cost import expected_seconds, time_text
from dfa_bench.experiments.plan import PlannedRun, plan
from dfa_bench.experiments.progress import Watched
from dfa_bench.experiments.schema import load_experiment
from dfa_bench.runs.ledger import Ledger
from dfa_bench.settings.resources import resource_folder
from tests.runs.summaries import summary


@pytest.fixture
def planned(tmp_path: Path) -> list[PlannedRun]:
    """Three seeds of each cell of Table 4."""
    table = load_experiment(resource_folder("experiments"), "table4")
    return plan(table, range(3), ["scale=smoke", f"store.root={tmp_path}/runs", f"data.cache={tmp_path}/cache"])


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "runs.csv")


def record(ledger: Ledger, run: PlannedRun, seconds: float) -> None:
    ledger.runs[run.identity] = summary(run.identity, wall_seconds=seconds)


def test_a_run_costs_what_the_other_seeds_of_its_cell_did(planned, ledger):
    of_cell = [run for run in planned if run.cell == planned[0].cell]
    record(ledger, of_cell[0], 10)
    record(ledger, of_cell[1], 20)
    [cost] = expected_seconds(planned, of_cell[2:], ledger.seconds())
    assert (cost.seconds, str(cost)) == (15, "about 15 s, as recorded for 2 other seeds")


def test_a_cell_without_recorded_runs_costs_its_part_of_the_others(planned, ledger):
    by_cell = {run.cell: run for run in planned}
    first, *_, other = by_cell.values()
    record(ledger, first, 6 * first.cell.cost)
    [cost] = expected_seconds(planned, [other], ledger.seconds())
    assert cost.seconds == pytest.approx(6 * other.cell.cost)
    assert "relative cost" in cost.source


def test_nothing_is_made_up_where_nothing_is_recorded(planned, ledger):
    [cost] = expected_seconds(planned, planned[:1], ledger.seconds())
    assert cost.seconds is None
    assert str(cost).startswith("no recorded time to go by")


def test_progress_goes_by_times_of_another_folder_and_counts_what_it_cannot_tell(planned):
    first, second, third = planned[:3]  # three seeds of a cell
    other = next(run for run in planned if run.cell != first.cell)
    wanted = {first.identity, second.identity, other.identity}
    told = str(Watched([[first, second, third]], {first.identity, second.identity}, {}, {first.identity: 30.0}).look())
    assert told == "0 of 2 runs done, 2 waiting, about 60 s left"
    told = str(Watched([planned[:2], [other]], wanted, {first.identity: 20.0}, {second.identity: 40.0}).look())
    assert told == "1 of 3 runs done, 2 waiting, about 30 s and 1 run of unknown time left"
    assert str(Watched([[other]], {other.identity}, {}).look()) == "0 of 1 run done, 1 waiting"
    assert str(Watched([[other]], {other.identity}, {other.identity: 5.0}).look()) == "1 of 1 run done"


def test_what_runs_took_is_known_from_the_usual_folder_too(planned, say, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    usual = Ledger(Path("results/runs.csv"))
    usual.add([summary(planned[0].identity, wall_seconds=90)])
    words = ["reproduce", "table4", "scale=smoke", f"store.root={tmp_path}/runs", f"data.cache={tmp_path}/cache"]
    _, said, _ = say(*words, "--dry-run", "--seeds=2", "--results=other")
    assert f"{planned[0].cell.rule}, seed 1: about 2 min, as recorded for 1 other seed" in said
    assert "seed 0: about 2 min" in said, "it stands in the usual folder, so it is still to do here"


def test_times_are_short():
    assert [time_text(each) for each in (0.4, 89, 90, 5399, 5400, 36000)] == [
        "0 s",
        "89 s",
        "2 min",
        "90 min",
        "1.5 h",
        "10.0 h",
    ]


def test_a_dry_run_lists_the_missing_runs_with_their_commands_and_does_none(say, tmp_path):
    where = "scale=smoke", f"store.root={tmp_path}/runs", f"results={tmp_path}/results"
    code, out, _ = say("reproduce", "table4", "--dry-run", "skip=PubMed/*", "seeds=2", *where)
    assert code == 0
    commands = [line.strip() for line in out.splitlines() if line.startswith("    dfa-bench run ")]
    assert len(set(commands)) == 12  # two data sets, three rules, two seeds
    assert all("pubmed" not in each and "scale=smoke" in each for each in commands)
    assert "table4: 12 runs are missing (12 of unknown cost)." in out
    assert "Total: 12 runs." in out
    assert list(tmp_path.iterdir()) == []
    assert say(*commands[0].split()[1:])[0] == 0
    assert (
        "table4: 11 runs are missing" in say("reproduce", "table4", "--dry-run", "skip=PubMed/*", "seeds=2", *where)[1]
    )

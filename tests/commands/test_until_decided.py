"""`dfa-bench reproduce --until-decided`, with a table that takes a second."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dfa_bench.experiments import request
from dfa_bench.experiments.plan import PlannedRun
from dfa_bench.experiments.schema import Cell, load_experiment
from dfa_bench.reporting.reproduction import Work
from dfa_bench.reporting.until_decided import Undecided
from dfa_bench.runs.ledger import Ledger
from dfa_bench.settings.resources import resource_folder
from tests.runs.summaries import summary

TABLE = """
kind: study
title: "Study: tiny, test accuracy (%)"
overrides: [task=nodes, model=gcn, dataset=graph, dataset.name=mine, dataset.file={file}, trainer.max_epochs=2]
metrics:
  accuracy: {{key: test/accuracy, factor: 100, digits: 1}}
rules: [bp, dfa]
rows: {{first: {{}}}}
columns: {{here: {{}}}}
claims:
  - {{id: sure, says: "DFA is not far below BP.", metric: accuracy, higher: dfa, lower: bp, by: -200}}
  - {{id: wrong, says: "DFA is far above BP.", metric: accuracy, higher: dfa, lower: bp, by: 200}}
  - {{id: same, says: "BP is above itself.", metric: accuracy, higher: bp, lower: bp}}
"""


@pytest.fixture
def tiny(say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """`dfa-bench reproduce tiny` with a store and results of its own."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    edges = np.stack([np.arange(60), (np.arange(60) + 3) % 60])
    np.savez(tmp_path / "mine.npz", edge_index=edges, features=random.random((60, 12)), labels=labels)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "tiny.yaml").write_text(TABLE.format(file=tmp_path / "mine.npz"))
    monkeypatch.setattr(request, "resource_folder", lambda name: tmp_path / name)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    where = f"results={tmp_path}/results", f"store.root={tmp_path}/runs", f"data.cache={tmp_path}/cache"
    return lambda *words: say("reproduce", "tiny", *words, *where)


def test_seeds_are_added_until_nothing_is_left_that_they_could_decide(tiny, tmp_path):
    code, out, _ = tiny("--until-decided", "1", "--dry-run")
    assert code == 0
    first, *_ = out.splitlines()
    assert first == (
        "1. sure at first/here: 6 runs of unknown cost, for 3 seeds in all, to decide the claim; "
        "would decide wrong, same too"
    )
    assert "     first, here, DFA, seeds 0 to 2: each no recorded time to go by (relative cost 1)" in out
    assert "Total: 1 step, 6 runs" in out
    assert not (tmp_path / "runs").exists()

    code, out, _ = tiny("--until-decided", "1e-9", "--jobs", "1")  # is used up by the first run
    assert code == 0
    assert "sure stays not tested" in out
    assert "Not decided: sure (" in out
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 1

    code, out, _ = tiny("until-decided=1", "--jobs", "1")
    assert code == 0
    assert "1. sure at first/here: 5 runs, about " in out  # one is done, and its time known
    assert "sure is supported now." in out
    assert "wrong is contradicted at reduced scale now." in out
    assert "same is undecided now." in out
    assert "Not decided: same (first/here: the same in all seeds)." in out
    ledger = Ledger(tmp_path / "results" / "runs.csv")
    assert sorted((run.rule, run.seed) for run in ledger.runs.values()) == [
        (rule, seed) for rule in ("bp", "dfa") for seed in range(3)
    ]
    assert "**supported**" in (tmp_path / "results" / "tiny-claims.md").read_text()


def test_what_is_skipped_stays_open(tiny):
    code, out, _ = tiny("--until-decided", "1", "--dry-run", "--skip", "*/here")
    assert code == 0
    assert "Not decided: sure (first/here: skipped, as you asked)." in out
    assert "Total: 0 steps" in out


def test_a_run_that_two_tables_share_costs_what_its_own_table_says(smoke, tmp_path):
    """Of a cell's other seeds there, not by its relative cost in the other table."""
    first, second = (Cell("row", name, "dfa", "released", (), 1.0) for name in ("first", "second"))
    other = Cell("row", "other", "bp", "released", (), 1.0)
    settings = smoke()
    runs = {
        cell: [PlannedRun(cell, (), settings, f"{seed}", changed=False) for seed in range(2)]
        for cell in (first, second)
    }
    ledger = Ledger(tmp_path / "runs.csv")
    ledger.runs = {key: summary(key, wall_seconds=seconds) for key, seconds in (("0", 20.0), ("slow", 500.0))}
    table4 = load_experiment(resource_folder("experiments"), "table4")
    beside = [PlannedRun(other, (), settings, "slow", changed=False)]
    works = [Work(table4, planned, planned, []) for planned in (runs[first], [*runs[second][1:], *beside])]
    search = Undecided(request.build_request(["table4"], until_decided=1.0), ledger, works)
    (cost,) = search.costs(runs[first][1:]).values()
    assert str(cost) == "about 20 s, as recorded for 1 other seed"


@pytest.mark.parametrize(
    "words, message",
    [
        (("--until-decided", "1", "--seeds", "5"), "--until-decided chooses the seeds itself"),
        (("--until-decided", "0"), "--until-decided"),
        (("--until-decided", "soon"), "'soon' is not a valid float"),
    ],
)
def test_hours_that_cannot_be_are_refused(tiny, words, message):
    code, _, err = tiny(*words)
    assert code == 2
    assert message in err

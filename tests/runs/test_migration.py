"""Runs recorded before identities left out class names count as done."""

import csv
import shutil
from pathlib import Path

import pytest

import dfa_bench
from dfa_bench.experiments.plan import plan
from dfa_bench.experiments.schema import load_experiment
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.migration import TABLES, migrate_ledger, migrate_store, present_identities
from dfa_bench.settings.resources import resource_folder
from dfa_bench.tasks.graphs.nodes import NodeClassification
from dfa_bench.training.execute import execute, run_identity
from tests.runs.summaries import unsealed

RUNS = Path(dfa_bench.__file__).parents[1] / "results" / "runs.csv"
OLD_STORE = Path(__file__).with_name("old_store")  # of a smoke run by version 0.1, without its weights
OLD_RUN = ["task=nodes", "model=gcn", "dataset=cora", "rule=dfa", "trainer.max_epochs=2"]


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return Ledger(RUNS)


def test_no_two_runs_became_one():
    for table in TABLES:
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len({row["old"] for row in rows}) == len({row["new"] for row in rows}) > 100
    found = present_identities()
    assert len(found) > 2000
    assert not found.keys() & set(found.values())


def test_every_committed_run_has_its_present_identity(ledger):
    assert ledger.runs.keys() & {*present_identities().values()}
    assert not ledger.runs.keys() & present_identities().keys()


@pytest.mark.parametrize("name, cells, seeds", [("table4", 9, 10), ("table1", 12, 3)])
def test_the_runs_of_a_committed_table_count_as_done(ledger, name, cells, seeds, tmp_path):
    experiment = load_experiment(resource_folder("experiments"), name)
    planned = plan(experiment, range(seeds), [f"store.root={tmp_path}", f"data.cache={tmp_path}"], ledger.cards())
    runs = [run for run in planned if run.has_data]
    assert len(runs) == cells * seeds
    assert all(run.identity in ledger for run in runs)


def test_a_ledger_of_old_identities_is_renamed_once(tmp_path):
    path = tmp_path / "runs.csv"
    former = {new: old for old, new in present_identities().items()}
    rows = unsealed(RUNS)
    old = [{**row, "identity": former.get(row["identity"], row["identity"])} for row in rows]  # some are younger
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, [*rows[0]])
        writer.writeheader()
        writer.writerows(old)
    assert unsealed(path) == old != rows
    assert migrate_ledger(Ledger(path)) == sum(row["identity"] in former for row in rows)
    assert unsealed(path) == rows
    assert migrate_ledger(Ledger(path)) == 0


def test_a_record_of_earlier_numerics_does_not_count_as_done(smoke, tmp_path, monkeypatch):
    shutil.copytree(OLD_STORE, tmp_path / "runs")
    monkeypatch.setattr(NodeClassification, "version", 2)
    assert len(list(migrate_store(tmp_path / "runs"))) == 1
    assert not execute(smoke(*OLD_RUN)).reused


def test_a_record_of_an_old_store_is_renamed_and_counts_as_done(smoke, tmp_path):
    shutil.copytree(OLD_STORE, tmp_path / "runs")
    settings = smoke(*OLD_RUN)
    ((old, new),) = migrate_store(tmp_path / "runs")
    assert not old.exists()
    assert new.name.endswith(run_identity(settings)[0])
    outcome = execute(settings)
    assert outcome.reused
    assert outcome.folder == new
    assert list(migrate_store(tmp_path / "runs")) == []


def test_an_old_run_is_what_the_code_of_today_computes(smoke, tmp_path):
    shutil.copytree(OLD_STORE, tmp_path / "old")
    ((_, new),) = migrate_store(tmp_path / "old")
    before = execute(smoke(*OLD_RUN, f"store.root={new.parent}")).result
    assert execute(smoke(*OLD_RUN)).result.metrics == before.metrics

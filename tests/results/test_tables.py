"""README, docs, results/ and results/runs.csv say the same."""

from pathlib import Path

import pandas as pd
import pytest

import dfa_bench
from dfa_bench.experiments.plan import plan
from dfa_bench.experiments.schema import load_experiments
from dfa_bench.reporting.claims import claims_grid
from dfa_bench.reporting.embed import documents, embed
from dfa_bench.reporting.existing import build_table
from dfa_bench.reporting.grid import markdown
from dfa_bench.reporting.readings import NOTE, check_readings, load_readings
from dfa_bench.reporting.results import files_of
from dfa_bench.runs.ledger import Ledger
from dfa_bench.settings.resources import resource_folder

ROOT = Path(dfa_bench.__file__).parents[1]
EXPERIMENTS = load_experiments(resource_folder("experiments"))


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return Ledger(ROOT / "results" / "runs.csv")


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if not name.startswith("first/")])  # stay with the user
def test_a_committed_table_is_what_the_committed_runs_give(name, ledger, tmp_path):
    written = ROOT / "results" / f"{name}.md"
    assert written.exists(), f"`dfa-bench reproduce {name}` has not been run"
    seeds = range(1 + max(run.seed for run in ledger.runs.values()))
    table = build_table(
        EXPERIMENTS[name], plan(EXPERIMENTS[name], seeds, [f"store.root={tmp_path}"], ledger.cards()), ledger
    )
    for ending, text in files_of(table).items():
        assert written.with_name(written.stem + ending).read_text() == text


def test_the_committed_readings_of_figures_are_what_their_numbers_give():
    readings = load_readings(resource_folder("experiments"))
    assert len(readings) > 5
    expected = markdown(claims_grid(check_readings(readings, ROOT / "results"), notes=[NOTE]))
    assert (ROOT / "results" / "figures-claims.md").read_text() == expected, "`make results` renews it"


def test_committed_runs_are_of_real_data_and_of_committed_code(ledger):
    assert ledger.runs
    assert ledger.path.read_text().partition("\n")[0].endswith(",crc32")  # rows are checked
    for run in ledger.runs.values():
        assert (run.data_kind == "real") != (run.dataset == "planted")  # of a study, never beside the paper's numbers
        assert run.scale != "smoke"
        assert "dirty" not in run.commit


def test_the_committed_bootstrap_is_of_the_runs_of_the_table(ledger, tmp_path):
    experiment = EXPERIMENTS["table2"]
    table = build_table(experiment, plan(experiment, range(3), [f"store.root={tmp_path}"], ledger.cards()), ledger)
    means = {
        (f"{cell.row} {experiment.column_text(cell.column, cell.variant)}", cell.rule): entry.mean
        for (cell, metric), entry in table.entries.items()
        if metric == "auc"
    }
    drawn = pd.read_csv(ROOT / "results" / "table2-bootstrap.csv")
    assert len(drawn) == 8  # all pairs of DFA and BP, clean and released
    for cell, difference in zip(drawn["cell"], drawn["difference"], strict=True):
        assert difference == pytest.approx(means[cell, "dfa"] - means[cell, "bp"], abs=2e-6), f"{cell}: draw it again"


def test_rates_that_are_tuned_for_one_scale_are_no_columns_of_another():
    at = {scale: plan(EXPERIMENTS["table5"], range(1), [f"scale={scale}"]) for scale in ("cpu", "paper")}
    assert {run.settings.protocol for run in at["paper"]} == {"paper"}
    assert {run.cell.column for run in at["cpu"]} - {run.cell.column for run in at["paper"]} == {
        name for name in EXPERIMENTS["table5"].columns if name.endswith(", tuned")
    }


def test_documents_quote_the_committed_results():
    found = list(documents(ROOT))
    assert {ROOT / "README.md", ROOT / "docs" / "results.md"} <= set(found)
    for path in found:
        assert embed(path.read_text(), ROOT) == path.read_text(), f"{path}: `make results` renews it"


def test_a_table_shows_runs_of_other_machines_where_its_data_are_not_here(ledger, tmp_path):
    nowhere = [f"data.root={tmp_path}", f"data.cache={tmp_path}", "data.download=false", f"store.root={tmp_path}"]
    experiment = EXPERIMENTS["table2"]
    table = build_table(experiment, plan(experiment, range(3), nowhere, ledger.cards()), ledger)
    assert files_of(table)[".csv"] == (ROOT / "results" / "table2.csv").read_text()
    assert not build_table(experiment, plan(experiment, range(3), nowhere), ledger).entries

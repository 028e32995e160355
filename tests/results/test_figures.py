"""The committed figures, and the tables beside them, are what their numbers and runs give."""

import json
from pathlib import Path

import dfa_bench
from dfa_bench.experiments.plan import CardsHere
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.reporting.bootstrap import bootstrap_grid, read_bootstrap
from dfa_bench.reporting.consistency import consistency_grid
from dfa_bench.reporting.figures.alignment import load_subjects
from dfa_bench.reporting.grid import as_csv, markdown
from dfa_bench.runs.identity import identity
from dfa_bench.runs.ledger import Ledger
from dfa_bench.tasks.base import task_class

RESULTS = Path(dfa_bench.__file__).parents[1] / "results"


def test_the_committed_figure_of_alignment_is_of_real_runs_of_committed_code():
    ledger = Ledger(RESULTS / "runs.csv")
    here, panels = CardsHere(ledger.cards()), json.loads((RESULTS / "alignment.json").read_text())
    assert {panel["panel"] for panel in panels} <= {subject.title for subject in load_subjects().values()}
    for panel in panels:
        assert (panel["rule"], panel["data"]) == ("dfa", "real")
        subject = next(each for each in load_subjects().values() if each.title == panel["panel"])
        settings = run_settings([*subject.run, "rule=dfa", f"seed={panel['seed']}"])
        drawn = identity(settings, here.of(settings), task_class(settings).version)
        assert panel["identity"] == drawn, f"{subject.title}: draw it again"
        assert "dirty" not in panel["commit"]


def test_the_committed_bootstrap_is_the_table_of_its_values():
    values = read_bootstrap(RESULTS / "table2-bootstrap.csv")
    assert values is not None
    assert (RESULTS / "table2-bootstrap.csv").read_text() == as_csv(values)
    assert (RESULTS / "table2-bootstrap.md").read_text() == markdown(bootstrap_grid(values))


def test_the_committed_consistency_is_that_of_the_committed_figure():
    evidence = json.loads((RESULTS / "figure1.json").read_text())
    assert (RESULTS / "figure1.md").read_text() == markdown(consistency_grid(evidence))
    assert {(each["scene"], each["rule"]) for each in evidence} == {
        (scene, rule) for scene in ("lego", "chair", "fern", "flower") for rule in ("bp", "dfa", "shallow")
    }

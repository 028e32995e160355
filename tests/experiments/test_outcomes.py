"""What the cells of a table come to, and when that is composed anew."""

import os
import sys
from pathlib import Path

from dfa_bench.experiments.outcomes import planned_cells
from dfa_bench.experiments.schema import Experiment

MINE = "mine_of_this_test"
NET = """
from dfa_bench.tasks.graphs.models import GCN

class Net(GCN):
    version = {version}
"""


def test_a_new_version_of_a_users_class_makes_other_runs_in_spite_of_the_cache(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DFA_BENCH_TRUST", MINE)
    code = tmp_path / MINE / "__init__.py"
    code.parent.mkdir()
    found = []
    for changed, version in enumerate([1, 1, 2], 1):
        code.write_text(NET.format(version=version))
        os.utime(code, (version, version))
        monkeypatch.delitem(sys.modules, MINE, raising=False)
        found.append(outcomes(tmp_path / "cache"))
        assert len([*(tmp_path / "cache" / "plans").iterdir()]) == (1 if changed < 3 else 2)
    assert found[0] == found[1] != found[2]


def test_a_trusted_package_that_is_not_there_stops_no_plan(tmp_path, monkeypatch):
    monkeypatch.setenv("DFA_BENCH_TRUST", f"{MINE},{MINE}.models")
    assert outcomes(tmp_path / "cache", "dfa_bench.tasks.graphs.models.GCN")


def outcomes(cache: Path, target: str = f"{MINE}.Net") -> list[str]:
    experiment = Experiment.model_validate(
        {
            "name": "mine",
            "kind": "study",
            "title": "Mine",
            "overrides": ["task=nodes", "model=gcn", f"model._target_={target}"],
            "metrics": {"accuracy": {"key": "test/accuracy", "digits": 1}},
            "rules": ["dfa"],
            "rows": {"Cora": {"overrides": ["dataset=cora"]}},
            "columns": {"mine": {}},
        }
    )
    return [outcome for cell in planned_cells(experiment, ["scale=smoke"], 1, cache) for outcome in cell.outcomes]

"""Which settings can change a run's outcome: what its identity is a hash of."""

import pytest
from torch import nn

from dfa_bench.runs.outcome import outcome_settings
from dfa_bench.settings.components import outcome_of, registered
from dfa_bench.settings.compose import compose_settings
from dfa_bench.settings.schema import Component, ModelSettings

GCN = ["task=nodes", "model=gcn", "dataset=cora"]


class Moved(nn.Module):
    """A class that lies elsewhere, and has learnt an argument since."""

    def __init__(self, hidden: int = 16, dropout: float = 0.5, late: bool = False) -> None:
        super().__init__()


def outcome(*overrides: str) -> dict:
    return outcome_settings(compose_settings([*GCN, *overrides]))


def component(**arguments: object) -> ModelSettings:
    target = registered("model")["gcn"]
    return ModelSettings(**{"_target_": target, "name": "gcn", "tasks": ["nodes"], **arguments})


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFA_BENCH_TRUST", "tests,collections")


def test_where_a_class_lies_is_left_out(monkeypatch):
    before = outcome_of(component(hidden=16), "model")
    monkeypatch.setitem(registered("model"), "gcn", f"{__name__}.Moved")
    assert outcome_of(component(hidden=16, _target_=f"{__name__}.Moved"), "model") == before
    assert "dfa_bench" not in str(before)


def test_an_argument_with_the_constructors_default_is_left_out(monkeypatch):
    monkeypatch.setitem(registered("model"), "gcn", f"{__name__}.Moved")
    moved = {"_target_": f"{__name__}.Moved", "hidden": 16}
    assert outcome_of(component(**moved), "model") == outcome_of(component(**moved, dropout=0.5, late=False), "model")
    assert outcome_of(component(**moved), "model") != outcome_of(component(**moved, late=True), "model")


def test_a_models_version_is_left_out_while_it_is_the_first(monkeypatch):
    monkeypatch.setitem(registered("model"), "gcn", f"{__name__}.Moved")
    moved = component(_target_=f"{__name__}.Moved", hidden=32)
    before = outcome_of(moved, "model")
    monkeypatch.setattr(Moved, "version", 1, raising=False)
    assert outcome_of(moved, "model") == before
    monkeypatch.setattr(Moved, "version", 2)
    assert outcome_of(moved, "model") == before | {"version": 2}


def test_another_class_under_a_registered_name_is_another_outcome():
    assert outcome("model._target_=dfa_bench.tasks.graphs.models.GAT", "+model.heads=8") != outcome()
    assert outcome(f"model._target_={__name__}.Moved")["model"]["class"] == f"{__name__}.Moved"


def test_an_unknown_class_is_told_by_its_path():
    found = outcome_of(Component(**{"_target_": "collections.OrderedDict", "name": "mine"}), "model")
    assert found == {"name": "mine", "class": "collections.OrderedDict"}


@pytest.mark.parametrize("rule", ["bp", "shallow"])
def test_a_rule_states_what_matters_to_it(rule):
    assert outcome(f"rule={rule}") == outcome(f"rule={rule}", "feedback.0.error_at=conv1")
    assert outcome("rule=dfa") != outcome("rule=dfa", "feedback.0.error_at=conv1")
    assert outcome("rule=dfa") != outcome("rule=dfa", "rule.seed=5")


def test_what_only_moves_digits_is_no_other_outcome():
    assert outcome("trainer.precision=bf16-mixed", "trainer.compile=true") == outcome()


def test_a_number_is_the_same_however_it_is_written():
    assert outcome("model.dropout=0") == outcome("model.dropout=0.0") != outcome("model.dropout=0.1")


def test_where_data_are_found_is_left_out_and_how_they_are_read_is_not():
    clicks = ["task=clicks", "model=fm", "dataset=criteo"]
    plain, elsewhere, rarer = (
        outcome_settings(compose_settings([*clicks, *more]))
        for more in ([], ["dataset.url=https://example.org"], ["dataset.min_count=5"])
    )
    assert plain == elsewhere != rarer

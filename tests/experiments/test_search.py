"""Searches of hyperparameters: equal budgets, resumed where they stopped."""

from collections.abc import Sequence

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from dfa_bench.errors import ConfigError
from dfa_bench.experiments.dispatch import Failure
from dfa_bench.experiments.plan import PlannedRun
from dfa_bench.experiments.search import build_search, parse_space, search
from dfa_bench.reporting.searches import search_grid
from dfa_bench.training.execute import execute


def test_ranges_are_told_from_other_overrides():
    given = ["model=gcn", "recipe.lr=log(1e-4, 1e-1)", "model.hidden=whole(4,8)", "model.dropout=choice(0,0.5)"]
    space, fixed = parse_space(given)
    assert fixed == ["model=gcn"]
    assert space == {
        "recipe.lr": FloatDistribution(1e-4, 1e-1, log=True),
        "model.hidden": IntDistribution(4, 8),
        "model.dropout": CategoricalDistribution(("0", "0.5")),
    }
    for wrong in ("recipe.lr=log(1)", "recipe.lr=log(a,b)", "recipe.lr=interval(2,1)"):
        with pytest.raises(ConfigError, match="recipe.lr="):
            parse_space([wrong])
    with pytest.raises(ConfigError, match="there is no range 'lg'. Give interval"):
        parse_space(["recipe.lr=lg(1e-4,1e-1)"])


def test_a_search_that_was_interrupted_does_each_trial_once_and_has_equal_budgets(tmp_path):
    given = ["scale=smoke", "trainer.max_epochs=2", "trainer.accelerator=cpu", f"store.root={tmp_path}"]
    space, fixed = parse_space([*given, "recipe.lr=log(1e-4,1e-1)"])
    done: list[str] = []

    def do(runs: Sequence[PlannedRun]) -> list[Failure]:
        for run in runs:
            if len(done) == 3:
                raise KeyboardInterrupt
            execute(run.settings)
            done.append(run.identity)
        return []

    with pytest.raises(KeyboardInterrupt):
        search([build_search(rule, fixed, space) for rule in ("bp", "dfa")], 4, 4, do)
    begun = [build_search(rule, fixed, space).study.get_trials() for rule in ("bp", "dfa")]
    assert [len(trials) for trials in begun] == [2, 2]
    interrupted, done[:] = [*done], []
    again = [build_search(rule, fixed, space) for rule in ("bp", "dfa")]

    def do_rest(runs: Sequence[PlannedRun]) -> list[Failure]:
        done.extend(execute(run.settings).result.identity for run in runs)
        return []

    assert search(again, 4, 4, do_rest) == []
    for one, trials in zip(again, begun, strict=True):
        ended = one.study.get_trials()
        assert [trial.state for trial in ended] == [TrialState.COMPLETE] * 4
        assert [trial.params for trial in ended[:2]] == [trial.params for trial in trials], "what was begun is done"
        values = [one.value(one.planned(trial.params)) for trial in ended]
        assert values == [trial.value for trial in ended]
        assert one.study.best_trial.value == max(values)
    best = again[0].study.best_trial
    shown = [cell.text for cell in search_grid(again).rows[0]]
    assert shown == ["bp", "4", f"{best.value:.5g}", f"recipe.lr={best.params['recipe.lr']}"]
    assert not {*interrupted} & {*done}
    assert len({*interrupted, *done}) == 8


def test_a_trial_that_diverges_counts_and_has_no_value(tmp_path):
    given = ["scale=smoke", "trainer.max_epochs=20", "trainer.accelerator=cpu", f"store.root={tmp_path}"]
    space, fixed = parse_space([*given, "recipe.lr=choice(1e30)"])
    one = build_search("bp", fixed, space)

    def do(runs: Sequence[PlannedRun]) -> list[Failure]:
        return [Failure(run.command, execute(run.settings).result.message or "") for run in runs]

    (failure,) = search([one], 1, 1, do)
    assert "recipe.lr" in failure.reason
    assert [trial.state for trial in one.trials] == [TrialState.FAIL]
    assert [cell.text for cell in search_grid([one]).rows[0]] == ["bp", "1, 1 without a value", "", ""]

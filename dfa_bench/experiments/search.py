"""Searches of hyperparameters: Optuna proposes, engines do the runs, every rule has the same budget.

Trials are kept in a file below the store, so that a search that was interrupted goes on, with the trials that it had
begun: their runs have records and checkpoints as all runs do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from dfa_bench.errors import ConfigError
from dfa_bench.experiments.dispatch import Failure
from dfa_bench.experiments.plan import PlannedRun, readable_result
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.experiments.schema import Cell
from dfa_bench.settings.overrides import key_of, whereabouts
from dfa_bench.tasks.base import Watch, task_class
from dfa_bench.training.execute import run_identity

FOLDER = ".searches"  # below the store
KINDS = ("interval", "log", "whole", "choice")
RANGE = re.compile(r"(?P<kind>\w+)\((?P<values>[^()]+)\)")


@dataclass(frozen=True)
class Search:
    """What is searched, for one rule.

    Args:
        rule: the learning rule.
        overrides: of every trial.
        space: what is searched, by setting.
        watch: the validation metric that counts.
        study: Optuna's.
    """

    rule: str
    overrides: Sequence[str]
    space: Mapping[str, BaseDistribution]
    watch: Watch
    study: optuna.Study

    @property
    def trials(self) -> list[FrozenTrial]:
        """Those that have ended."""
        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))

    def planned(self, parameters: Mapping[str, Any]) -> PlannedRun:
        """The run of a trial."""
        chosen = (*self.overrides, *(f"{name}={value}" for name, value in parameters.items()))
        settings = run_settings(chosen)
        text = ", ".join(f"{name}={value}" for name, value in parameters.items())
        cell = Cell(self.rule, text, self.rule, settings.variant, chosen, 1.0)
        return PlannedRun(cell, chosen, settings, run_identity(settings)[0], changed=True)

    def value(self, run: PlannedRun) -> float | None:
        """The best validation of a run; None if it diverged or was not done."""
        result = readable_result(run)
        return result.value(f"val/{self.watch.metric}") if result and not result.diverged else None


def build_search(rule: str, overrides: Sequence[str], space: Mapping[str, BaseDistribution]) -> Search:
    """A search, or the one that was begun with the same settings and space in the same store.

    Raises:
        ConfigError: an override is unknown, or impossible.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    chosen = (f"rule={rule}", *overrides)
    settings = run_settings(chosen)
    watch = task_class(settings).watch
    named = sorted([*(each for each in chosen if not key_of(each).startswith(("store.", "data.", "logger")))])
    name = hashlib.sha256(repr([named, sorted(map(repr, space.items()))]).encode()).hexdigest()[:16]
    path = Path(whereabouts(overrides)[0].root) / FOLDER / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        study_name=name,
        direction="maximize" if watch.better == "higher" else "minimize",
        load_if_exists=True,
    )
    # A search that goes on would draw its first proposals again; those of the rules are the same at first.
    drawn = 2**16 * settings.seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=drawn, constant_liar=True)
    return Search(rule, chosen, space, watch, study)


def search(
    searches: Sequence[Search], trials: int, at_a_time: int, do_all: Callable[[Sequence[PlannedRun]], list[Failure]]
) -> list[Failure]:
    """Do trials until every search has as many; in rounds, in which all rules have their share.

    Args:
        searches: one for each rule.
        trials: of each, with those that were done before and those that failed.
        at_a_time: runs of a round.
        do_all: does runs, and returns those that failed.
    """
    failures: list[Failure] = []
    each = max(1, at_a_time // len(searches))
    while any(len(one.trials) < trials for one in searches):
        asked = [(one, trial) for one in searches for trial in _asked(one, min(each, trials - len(one.trials)))]
        runs = [one.planned(trial.params) for one, trial in asked]
        missing = {run.identity: run for run in runs if readable_result(run) is None}
        failures += do_all([*missing.values()])
        for (one, trial), run in zip(asked, runs, strict=True):
            value = one.value(run)
            state = TrialState.COMPLETE if value is not None else TrialState.FAIL
            one.study.tell(trial.number, value, state=state)
    return failures


def _asked(one: Search, number: int) -> list[FrozenTrial | Trial]:
    """Trials that an interrupted search had begun, then further ones."""
    begun = one.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))[:number]
    return [*begun, *(one.study.ask(dict(one.space)) for _ in range(number - len(begun)))]


def parse_space(overrides: Sequence[str]) -> tuple[dict[str, BaseDistribution], list[str]]:
    """What is searched, and the other overrides: `recipe.lr=log(1e-5,1e-2)`.

    Raises:
        ConfigError: a range cannot be parsed.
    """
    space: dict[str, BaseDistribution] = {}
    fixed = []
    for override in overrides:
        key, _, text = override.partition("=")
        if not (found := RANGE.fullmatch(text)):
            fixed.append(override)
            continue
        values = [each.strip() for each in found["values"].split(",")]
        try:
            space[key] = _distribution(found["kind"], values)
        except ValueError as error:
            said = str(error).rstrip(".?")
            raise ConfigError(
                f"{override}: {said}. Give interval(0.1,0.9), log(1e-5,1e-2), whole(1,8) or choice(a,b,c)."
            ) from None
    return space, fixed


def _distribution(kind: str, values: Sequence[str]) -> BaseDistribution:
    if kind not in KINDS:
        raise ValueError(f"there is no range '{kind}'")
    if kind == "choice":
        return CategoricalDistribution(values)
    if len(values) != 2:
        raise ValueError(f"{len(values)} bounds instead of two")
    if kind == "whole":
        return IntDistribution(int(values[0]), int(values[1]))
    return FloatDistribution(float(values[0]), float(values[1]), log=kind == "log")

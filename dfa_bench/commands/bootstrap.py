"""`dfa-bench bootstrap`: bootstrap intervals for the AUC differences of click models."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dfa_bench.commands.grammar import table_command
from dfa_bench.data.writing import atomic
from dfa_bench.errors import ConfigError
from dfa_bench.experiments.plan import PlannedRun, file_suffix, marked, stored
from dfa_bench.experiments.request import Request
from dfa_bench.experiments.schema import Experiment
from dfa_bench.reporting.bootstrap import DRAWS, bootstrap_grid, bootstrap_values
from dfa_bench.reporting.grid import as_csv, markdown
from dfa_bench.runs.store import record_of
from dfa_bench.runs.summary import RunSummary
from dfa_bench.settings.rules import compared_pairs, rules
from dfa_bench.tasks.base import build_task

if TYPE_CHECKING:
    from dfa_bench.tasks.click_through.bootstrap import Difference
    from dfa_bench.tasks.click_through.task import ClickPrediction


@table_command(
    examples="""
    dfa-bench bootstrap table2
    dfa-bench bootstrap table2 --seeds 3 store.root=runs
    """,
)
def command(request: Request) -> int:
    """Bootstrap intervals for the AUC differences between DFA and BP, written to DIR/TABLE-bootstrap.{md,csv}.

    Resamples the test rows of the click models in the run store, the same rows for both rules, and tells how many test
    rows would decide about a difference of 0.001.

    \b
    TABLE     table2, studies/movielens, first/table2, search/table2
    OVERRIDE  a Hydra override for all runs: scale=paper, store.root=DIR, data.root=DIR, ...
    """
    for experiment in request.experiments:
        runs = trained_runs(experiment, request)
        write(experiment, compare_rules(experiment, runs), runs, request)
    return 0


def trained_runs(experiment: Experiment, request: Request) -> list[tuple[PlannedRun, RunSummary]]:
    """The runs of an experiment whose weights are in the store, with their results."""
    every = stored(experiment, request.seeds, request.overrides)
    return [(run, result) for run, result, record in every if record.model.exists()]


def compare_rules(experiment: Experiment, runs: Sequence[tuple[PlannedRun, RunSummary]]) -> dict[str, Difference]:
    """Per cell, a rule's AUC minus that of the one it is compared with, over the seeds that both have in the store.

    Raises:
        ConfigError: there are none.
    """
    from dfa_bench.tasks.click_through.bootstrap import paired_bootstrap

    found = {}
    pairs = compared_pairs(experiment.rules)
    for (cell, by_rule), pair in itertools.product(_models(experiment, runs).items(), pairs):
        seeds = sorted(set.intersection(*(set(by_rule.get(rule, {})) for rule in pair)))
        if not seeds:
            continue
        place = cell if len(pairs) == 1 else f"{cell}, {_difference(pair)}"
        task = _task(by_rule[pair[0]][seeds[0]])
        rows = task.rows["test"]
        ours, theirs = ([_scores(by_rule[rule][seed], task, rows) for seed in seeds] for rule in pair)
        print(f"{place}: {DRAWS} resamplings of {len(rows)} rows, {len(seeds)} seeds", file=sys.stderr, flush=True)
        found[place] = paired_bootstrap(np.asarray(task.data.labels[rows]), ours, theirs, DRAWS, seed=0)
    if not found:
        wanted = ", ".join(map(_difference, pairs)) or "rules that are compared"
        raise ConfigError(
            f"No pair of runs for {wanted} of {experiment.name} is in the run store. Do the runs with `dfa-bench "
            f"reproduce {experiment.name}`."
        )
    return found


def _difference(pair: tuple[str, str]) -> str:
    return " − ".join(rules()[rule].label for rule in pair)


def _models(
    experiment: Experiment, runs: Sequence[tuple[PlannedRun, RunSummary]]
) -> dict[str, dict[str, dict[int, PlannedRun]]]:
    """Runs by cell, rule and seed."""
    found: dict[str, dict[str, dict[int, PlannedRun]]] = {}
    for run, result in runs:
        cell = run.cell
        place = f"{marked(cell.row, result.stand_in)} {experiment.column_text(cell.column, cell.variant)}"
        found.setdefault(place, {}).setdefault(cell.rule, {})[run.settings.seed] = run
    return found


def _task(run: PlannedRun) -> ClickPrediction:
    from dfa_bench.tasks.click_through.task import ClickPrediction

    task = build_task(run.settings)
    if not isinstance(task, ClickPrediction):
        raise ConfigError(f"{run.cell.column} is not a click model. Try `dfa-bench bootstrap table2`.")
    return task


def _scores(run: PlannedRun, task: ClickPrediction, rows: np.ndarray) -> np.ndarray:
    from dfa_bench.tasks.click_through.task import predict
    from dfa_bench.training.finished import with_trained_weights

    folder = record_of(run.settings, run.identity).folder
    return predict(with_trained_weights(_task(run).build_model(), folder), task.data, rows).numpy()


def write(
    experiment: Experiment,
    found: dict[str, Difference],
    runs: Sequence[tuple[PlannedRun, RunSummary]],
    request: Request,
) -> None:
    """Write the table of differences and their values, apart where all runs are stand-ins."""
    stand_in, changed = all(result.stand_in for _, result in runs), any(run.changed for run, _ in runs)
    values = bootstrap_values(experiment.name, found)
    text = markdown(bootstrap_grid(values, ["STAND-IN DATA."] if stand_in else []))
    path = request.results / f"{experiment.name}-bootstrap{file_suffix(stand_in, changed)}"
    for ending, content in ((".md", text), (".csv", as_csv(values))):
        with atomic(path.with_name(path.name + ending)) as file:
            file.write(content)
    print(text, end="")

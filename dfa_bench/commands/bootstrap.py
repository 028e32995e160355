"""`dfa-bench bootstrap table2`: how sure Table 2's differences are, given so many test rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from dfa_bench.errors import ConfigError
from dfa_bench.experiments.plan import PlannedRun, apart, plan, stored
from dfa_bench.experiments.request import Request, parse_request
from dfa_bench.experiments.schema import Experiment
from dfa_bench.reporting.bootstrap import DRAWS, bootstrap_grid, bootstrap_values
from dfa_bench.reporting.grid import as_csv, markdown
from dfa_bench.runs.record import atomic
from dfa_bench.runs.store import record_of
from dfa_bench.tasks.base import build_task
from dfa_bench.tasks.click_through.bootstrap import Difference, paired_bootstrap
from dfa_bench.tasks.click_through.task import ClickPrediction, predict
from dfa_bench.training.finished import with_trained_weights


def main(arguments: Sequence[str]) -> int:
    """Resample the test rows of each column's models; write results/TABLE-bootstrap.{md,csv}.

    Raises:
        ConfigError: the table is not of click models, or none of its models is in the run store.
    """
    request = parse_request(arguments, seeds=0)
    for experiment in request.experiments:
        write(experiment, compare_rules(experiment, request), request)
    return 0


def compare_rules(experiment: Experiment, request: Request) -> dict[str, Difference]:
    """Per cell, DFA's AUC minus BP's over the seeds that both have in the store.

    Raises:
        ConfigError: there are none.
    """
    found = {}
    for place, by_rule in _models(experiment, request).items():
        seeds = sorted(set(by_rule.get("bp", {})) & set(by_rule.get("dfa", {})))
        if not seeds:
            continue
        task = _task(by_rule["bp"][seeds[0]])
        rows = task.rows["test"]
        dfa, bp = ([_scores(by_rule[rule][seed], task, rows) for seed in seeds] for rule in ("dfa", "bp"))
        print(f"{place}: {DRAWS} resamplings of {len(rows)} rows, {len(seeds)} seeds", file=sys.stderr, flush=True)
        found[place] = paired_bootstrap(np.asarray(task.data.labels[rows]), dfa, bp, DRAWS, seed=0)
    if not found:
        raise ConfigError(
            f"No pair of BP and DFA of {experiment.name} is in the run store. `dfa-bench reproduce {experiment.name}` "
            f"does the runs."
        )
    return found


def _models(experiment: Experiment, request: Request) -> dict[str, dict[str, dict[int, PlannedRun]]]:
    """The runs whose weights are here, by cell, rule and seed."""
    found: dict[str, dict[str, dict[int, PlannedRun]]] = {}
    for run, _, record in stored(experiment, request.seeds, request.overrides):
        if record.model.exists():
            cell = run.cell
            place = f"{cell.row} {experiment.column_text(cell.column, cell.variant)}"
            found.setdefault(place, {}).setdefault(cell.rule, {})[run.settings.seed] = run
    return found


def _task(run: PlannedRun) -> ClickPrediction:
    task = build_task(run.settings)
    if not isinstance(task, ClickPrediction):
        raise ConfigError(f"{run.cell.column} is no click model: `dfa-bench bootstrap table2`.")
    return task


def _scores(run: PlannedRun, task: ClickPrediction, rows: np.ndarray) -> np.ndarray:
    folder = record_of(run.settings, run.identity).folder
    return predict(with_trained_weights(_task(run).build_model(), folder), task.data, rows)


def write(experiment: Experiment, found: dict[str, Difference], request: Request) -> None:
    runs = plan(experiment, range(1), request.overrides)
    stand_in = any(run.settings.data.stand_in for run in runs)
    changed = any(run.changed for run in runs)
    values = bootstrap_values(experiment.name, found)
    text = markdown(bootstrap_grid(values, ["STAND-IN DATA."] if stand_in else []))
    path = request.results / f"{experiment.name}-bootstrap{apart(stand_in, changed)}"
    for ending, content in ((".md", text), (".csv", as_csv(values))):
        with atomic(path.with_name(path.name + ending)) as file:
            file.write(content)
    print(text, end="")

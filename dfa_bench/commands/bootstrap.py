"""`dfa-bench bootstrap table2`: how sure Table 2's differences are, given so many test rows."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd

from dfa_bench.errors import ConfigError
from dfa_bench.experiments.plan import PlannedRun, plan, stored
from dfa_bench.experiments.protocol import apart
from dfa_bench.experiments.request import Request, parse_request
from dfa_bench.experiments.schema import Experiment
from dfa_bench.runs.record import atomic
from dfa_bench.runs.store import record_of
from dfa_bench.settings.rules import compared_pairs, rules
from dfa_bench.tasks.base import build_task
from dfa_bench.tasks.click_through.bootstrap import Difference, paired_bootstrap
from dfa_bench.tasks.click_through.task import ClickPrediction, predict
from dfa_bench.training.finished import with_trained_weights

DRAWS = 500
MARGIN = 0.001  # of AUC, the paper's bold


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
    """Per cell, a rule's AUC minus that of the one it is compared with, over the seeds that both have in the store.

    Raises:
        ConfigError: there are none.
    """
    found = {}
    pairs = compared_pairs(experiment.rules)
    for (cell, by_rule), pair in itertools.product(_models(experiment, request).items(), pairs):
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
            f"No pair of {wanted} of {experiment.name} is in the run store. `dfa-bench reproduce {experiment.name}` "
            f"does the runs."
        )
    return found


def _difference(pair: tuple[str, str]) -> str:
    return " − ".join(rules()[rule].label for rule in pair)


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
    differences = " and ".join(map(_difference, compared_pairs(experiment.rules)))
    lines = [
        f"| | {differences}, AUC | 95% interval over test rows | standard error | test rows | "
        "test rows that would decide |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows = []
    for place, each in found.items():
        needed = each.rows_to_decide(MARGIN)
        interval = f"[{each.low:+.4f}, {each.high:+.4f}]"
        lines.append(f"| {place} | {each.mean:+.4f} | {interval} | {each.error:.4f} | {each.rows} | {needed} |")
        rows.append([experiment.name, place, each.mean, each.low, each.high, each.error, each.rows, needed])
    about = f"{DRAWS} paired resamplings of the test rows, mean over seeds. Decide: an interval of ± {MARGIN} AUC."
    stand_in = any(run.settings.data.stand_in for run in plan(experiment, range(1), request.overrides))
    about += " STAND-IN DATA." if stand_in else ""
    text = "\n".join([*lines, "", about]) + "\n"
    columns = ["table", "cell", "difference", "low", "high", "error", "rows", "rows_to_decide"]
    csv = pd.DataFrame(rows, columns=columns).round(6).to_csv(index=False, lineterminator="\n")
    path = request.results / f"{experiment.name}-bootstrap{apart(stand_in, request.overrides)}"
    for ending, content in ((".md", text), (".csv", csv)):
        with atomic(path.with_name(path.name + ending)) as file:
            file.write(content)
    print(text, end="")

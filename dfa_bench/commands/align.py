"""`dfa-bench align`: how well the gradients of a rule agree with BP's at the weights of a finished run."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from dfa_bench.commands.arguments import Arguments
from dfa_bench.errors import ConfigError, RecordError
from dfa_bench.feedback import Alignment, alignment
from dfa_bench.reporting.alignment_table import output_table, weight_table
from dfa_bench.runs.record import Record, Result, atomic
from dfa_bench.runs.store import run_name
from dfa_bench.settings.rules import rules
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import Shard, build_task
from dfa_bench.training.checkpoint import seed_epoch
from dfa_bench.training.finished import settings_of_record, trained_parts
from dfa_bench.training.trainer import build_learner


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and write on request.

    Raises:
        ConfigError: the folder is no finished run of a rule that has an alignment.
        RecordError: the record is damaged.
        MissingData: the data set of the run is not here.
    """
    parser = Arguments("align")
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(list(arguments))
    settings, result = finished_run(chosen.run)
    measured, points = measure(settings, chosen.run)
    label = settings.rule.entry.label
    console = Console(width=None if sys.stdout.isatty() else 120)
    title = f"{run_name(settings)}: gradients at outputs, {label} against BP"
    console.print(output_table(measured.paper, points, title))
    console.print(weight_table(measured.weights, label))
    if chosen.json:
        with atomic(chosen.json) as file:
            file.write(json.dumps(_evidence(result, measured), indent=2) + "\n")
    return 0


def finished_run(folder: Path) -> tuple[RunSettings, Result]:
    """Settings and result of a run whose alignment is defined.

    Raises:
        ConfigError, RecordError: see `main`.
    """
    settings = settings_of_record(folder)
    result = Record(folder).read_result()
    if result is None or result.status != "finished":
        state = "not finished" if result is None else result.status
        raise ConfigError(f"The run of {folder} is {state}: it has no trained weights. Run it again first.")
    if settings.rule.entry.compared_with is None:
        known = " or ".join(f"rule={name}" for name, entry in rules().items() if entry.compared_with is not None)
        raise ConfigError(f"{folder} is a run of rule={result.rule}, which has no alignment. Give a run of {known}.")
    return settings, result


def measure(settings: RunSettings, folder: Path) -> tuple[Alignment, Sequence[str]]:
    """Alignment at the tested weights, on the first training batch, in training mode; and the names of the points."""
    task = build_task(settings)
    model, attachment = build_learner(settings, task)
    parts = trained_parts(folder)
    try:
        model.load_state_dict(parts["model"])
        attachment.load_state_dict(parts["attachment"])
    except (RuntimeError, TypeError, AttributeError) as error:
        raise RecordError(f"{folder}/model.pt does not fit the model of today's code: {error}") from error
    model.train()
    seed_epoch(settings.seed, 1, 0)
    batch = next(iter(task.batches(1, Shard())))
    return alignment(attachment, lambda: task.loss(model, batch).backward()), attachment.point_names


def _evidence(result: Result, measured: Alignment) -> dict[str, Any]:
    return {"task": result.task, "dataset": result.dataset, "model": result.model, **result.origin, **asdict(measured)}

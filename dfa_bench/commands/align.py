"""`dfa-bench align`: how well the gradients of DFA agree with BP's at the weights of a finished run."""

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
from dfa_bench.reporting.alignment_table import output_grid, weight_grid
from dfa_bench.reporting.grid import terminal
from dfa_bench.runs.record import Record, atomic
from dfa_bench.runs.store import run_name
from dfa_bench.runs.summary import RunSummary
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import Shard, build_task
from dfa_bench.training.checkpoint import seed_epoch
from dfa_bench.training.finished import settings_of_record, trained_parts
from dfa_bench.training.trainer import build_learner


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and write on request.

    Raises:
        ConfigError: the folder is no finished run of rule=dfa.
        RecordError: the record is damaged.
        MissingData: the data set of the run is not here.
    """
    parser = Arguments("align")
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(list(arguments))
    settings, result = finished_dfa_run(chosen.run)
    measured, points = measure(settings, chosen.run)
    console = Console(width=None if sys.stdout.isatty() else 120)
    title = f"{run_name(settings)}: gradients at outputs, DFA against BP"
    console.print(terminal(output_grid(measured.paper, points, title)))
    console.print(terminal(weight_grid(measured.weights, "Gradients of parameters, DFA against BP")))
    if chosen.json:
        with atomic(chosen.json) as file:
            file.write(json.dumps(_evidence(result, measured), indent=2) + "\n")
    return 0


def finished_dfa_run(folder: Path) -> tuple[RunSettings, RunSummary]:
    """Settings and result of a run whose alignment is defined.

    Raises:
        ConfigError, RecordError: see `main`.
    """
    settings = settings_of_record(folder)
    result = Record(folder).read_result()
    if result is None or result.status != "finished":
        state = "not finished" if result is None else result.status
        raise ConfigError(f"The run of {folder} is {state}: it has no trained weights. Run it again first.")
    if result.rule != "dfa":
        why = "BP's alignment with itself is 1" if result.rule == "bp" else "shallow training sends no gradient back"
        raise ConfigError(f"{folder} is a run of rule={result.rule}: {why}. Give a run of rule=dfa.")
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


def _evidence(result: RunSummary, measured: Alignment) -> dict[str, Any]:
    return {"task": result.task, "dataset": result.dataset, "model": result.model, **result.origin, **asdict(measured)}

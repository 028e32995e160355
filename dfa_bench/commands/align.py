"""`dfa-bench align`: compare the gradients of a trained model's rule with backpropagation's."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfa_bench.commands.grammar import FILE, RUN, Command
from dfa_bench.errors import ConfigError, RecordError

if TYPE_CHECKING:
    from torch import nn

    from dfa_bench.feedback import Alignment
    from dfa_bench.runs.summary import RunSummary
    from dfa_bench.settings.schema import RunSettings


@click.command(
    cls=Command,
    no_args_is_help=True,
    epilog="""
    dfa-bench align runs/nodes-cora-gcn-dfa-s0-0123456789abcdef
    dfa-bench align RUN --json alignment.json
    """,
)
@RUN
@click.option("--json", "out", type=FILE, help="Write the numbers to this file too.")
def command(run: Path, out: Path | None) -> int:
    """Compare a rule's gradients with backpropagation's at the weights of a finished run (rule=dfa, rule=fa, ...).

    RUN is the folder of its record, the last line that `dfa-bench run` prints. Both gradients are taken on its first
    training batch, with the same dropout masks. Two tables: cosines at the outputs of modules, row by row (per sample,
    node, token or point of a ray), and beside them those of the untrained weights; cosine and ratio of norms of each
    parameter's gradient. A cosine of 1 is the direction of backpropagation, 0 has nothing in common with it.

    To measure along training, into metrics.jsonl: dfa-bench run rule=dfa trainer.alignment_every=10
    """
    from rich.console import Console

    from dfa_bench.data.writing import atomic
    from dfa_bench.reporting.alignment_table import output_grid, weight_grid
    from dfa_bench.reporting.grid import terminal
    from dfa_bench.runs.store import run_name

    settings, result = finished_run(run)
    untrained, measured, points = measure_alignment(settings, run)
    console = Console(width=None if sys.stdout.isatty() else 120)
    label = settings.rule.entry.label
    title = f"{run_name(settings)}: gradients at outputs, {label} against BP"
    console.print(terminal(output_grid(measured.paper, untrained.paper, points, title)))
    console.print(terminal(weight_grid(measured.weights, label)))
    if out:
        with atomic(out) as file:
            file.write(json.dumps(_evidence(result, untrained, measured), indent=2) + "\n")
    return 0


def finished_run(folder: Path) -> tuple[RunSettings, RunSummary]:
    """Settings and result of a run whose alignment is defined.

    Raises:
        ConfigError: the folder is not a finished run of a rule that has an alignment.
        RecordError: the record is damaged.
    """
    from dfa_bench.runs.record import Record
    from dfa_bench.settings.rules import rules
    from dfa_bench.training.finished import settings_of_record

    settings = settings_of_record(folder)
    result = Record(folder).read_result()
    if result is None or result.status != "finished":
        state = "not finished" if result is None else result.status
        raise ConfigError(f"The run of {folder} is {state}: it has no trained weights. Run it again first.")
    if settings.rule.entry.compared_with is None:
        known = " or ".join(f"rule={name}" for name, entry in rules().items() if entry.compared_with is not None)
        raise ConfigError(f"{folder} is a run of rule={result.rule}, which has no alignment. Give a run of {known}.")
    return settings, result


def measure_alignment(settings: RunSettings, folder: Path) -> tuple[Alignment, Alignment, Sequence[str]]:
    """Alignment at the initial and at the tested weights, and the names of the points.

    On the first training batch, in training mode, with the feedback matrices of the run.
    """
    from dfa_bench.feedback import alignment
    from dfa_bench.tasks.base import Shard, build_task
    from dfa_bench.training.checkpoint import seed_epoch
    from dfa_bench.training.finished import trained_parts
    from dfa_bench.training.trainer import build_learner

    task = build_task(settings)
    model, attachment = build_learner(settings, task)
    model.train()
    batch = next(iter(task.batches(1, Shard())))

    def measured() -> Alignment:
        seed_epoch(settings.seed, 1, 0)
        return alignment(attachment, lambda: task.loss(model, batch).backward())

    def load(module: nn.Module, part: str) -> None:
        try:
            module.load_state_dict(parts[part])
        except (RuntimeError, TypeError, AttributeError) as error:
            raise RecordError(f"{folder}/model.pt does not fit the model of the current code: {error}") from error

    parts = trained_parts(folder)
    load(attachment, "attachment")
    untrained = measured()
    load(model, "model")
    return untrained, measured(), attachment.point_names


def _evidence(result: RunSummary, untrained: Alignment, measured: Alignment) -> dict[str, Any]:
    about = {"task": result.task, "dataset": result.dataset, "model": result.model, **result.origin}
    return {**about, **asdict(measured), "untrained": asdict(untrained)}

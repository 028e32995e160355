"""From settings to a finished record: the one way in which a run happens."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from dfa_bench.data.resolve import DataCard
from dfa_bench.errors import Diverged
from dfa_bench.runs import provenance
from dfa_bench.runs.identity import identity
from dfa_bench.runs.record import Record
from dfa_bench.runs.rule import build_rule
from dfa_bench.runs.status import told_as_running
from dfa_bench.runs.store import owned, record_of
from dfa_bench.runs.summary import RunSummary
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import data_card, task_class
from dfa_bench.training.measuring import is_due
from dfa_bench.training.numerics import numerics
from dfa_bench.training.processes import place_among_processes
from dfa_bench.training.trainer import train


@dataclass(frozen=True)
class Outcome:
    """A run that is done."""

    folder: Path
    result: RunSummary
    reused: bool  # it had been done before


def run_identity(settings: RunSettings) -> tuple[str, DataCard]:
    """The identity of a run and the card of its data, without loading anything."""
    card = data_card(settings)
    return identity(settings, card, task_class(settings).version), card


def execute(settings: RunSettings) -> Outcome:
    """Do a run: reuse it if it is done, resume it if it was interrupted, else start it.

    Raises:
        UserError: anything that the user can mend; the record then holds what can be resumed.
    """
    place = place_among_processes()
    if place.of > 1:
        trainer = settings.trainer.model_copy(update={"devices": place.of})
        settings = settings.model_copy(update={"trainer": trainer})
    key, card = run_identity(settings)
    record = record_of(settings, key)
    if not place.leads:
        return _follow(settings, record, key)
    with owned(record):
        if settings.force and record.result.exists():  # an interrupted run that was forced goes on
            record.clear()
        elif (done := record.read_result()) is not None:
            if _counts(settings, record, done):
                return Outcome(record.folder, done, reused=True)
            print(f"Done before, but without alignment; run again: {record.folder}", file=sys.stderr)
            record.clear()
        record.write_config(settings.model_dump(mode="json", by_alias=True))
        with told_as_running(record, settings.trainer.max_epochs):
            state, metrics, device, message = train(settings, record, key)
        result = RunSummary(
            identity=key,
            status="finished" if message is None else "diverged",
            task=settings.task.name,
            dataset=settings.dataset.name,
            model=settings.model.name,
            rule=settings.rule.name,
            variant=settings.variant,
            scale=settings.scale,
            protocol=settings.protocol if card.whole else "reduced",
            seed=settings.seed,
            epochs=state.epoch,
            best_epoch=state.best_epoch,
            wall_seconds=state.wall_seconds,
            step_seconds=state.step_seconds / max(state.steps, 1),
            steps=state.steps,
            peak_memory_mib=state.peak_memory_mib,
            finished=provenance.now(),
            commit=provenance.commit(),
            device=provenance.device_name(device),
            threads=torch.get_num_threads(),
            data_name=card.name,
            data_kind=card.kind,
            data_rows=card.rows,
            data_sha256=card.sha256,
            versions=provenance.versions(),
            numerics=numerics(settings.trainer, device, build_rule(settings.rule).streaming, state.captured),
            metrics=metrics,
            message=message,
        )
        record.write_result(result)
        record.drop_checkpoints()
    return Outcome(record.folder, result, reused=False)


def execute_to_end(settings: RunSettings) -> Outcome:
    """The same, for what needs the trained weights.

    Raises:
        Diverged: the loss did not stay finite, now or when the run was done, so that there are none.
    """
    outcome = execute(settings)
    if outcome.result.diverged:
        raise Diverged(f"{outcome.folder} diverged and has no trained weights. {outcome.result.message or ''}".strip())
    return outcome


def _follow(settings: RunSettings, record: Record, key: str) -> Outcome:
    """Take part in a run that another process of torchrun or srun leads, which writes the record and reports it."""
    if (done := record.read_result()) is None or not _counts(settings, record, done):
        train(settings, record, key)
        while (done := record.read_result()) is None:
            time.sleep(0.1)
    return Outcome(record.folder, done, reused=True)


def _counts(settings: RunSettings, record: Record, done: RunSummary) -> bool:
    """Whether a run need not be done again: all of its processes come to the same answer, each by itself."""
    lacks_alignment = done.status == "finished" and is_due(settings, epoch=1) and not record.has_alignment()
    return not settings.force and not lacks_alignment

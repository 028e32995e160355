"""Where a run is watched. metrics.jsonl is always written; Weights & Biases on request."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from dfa_bench.runs.identity import outcome_settings
from dfa_bench.runs.store import run_name
from dfa_bench.settings import RunSettings


class Logger(Protocol):
    def log(self, epoch: int, metrics: Mapping[str, float]) -> None: ...

    def finish(self, summary: Mapping[str, float], failed: bool) -> None: ...


class NoLogger:
    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        pass

    def finish(self, summary: Mapping[str, float], failed: bool) -> None:
        pass


class WandbLogger:
    """Weights & Biases: the group is model, data set and seed, the job type is the rule.

    Grouping a dashboard by `group` thus lays BP and DFA of one model and seed over each other; the curves share
    their axis, the epoch. A resumed run continues under the same id.
    """

    def __init__(self, settings: RunSettings, identity: str, folder: Path) -> None:
        import wandb  # imported only when used: it takes seconds

        self._run = wandb.init(
            project=settings.logger.project,
            entity=settings.logger.entity,
            mode=settings.logger.mode,
            dir=folder,
            id=identity,
            resume="allow",
            name=run_name(settings),
            group=f"{settings.model.name}-{settings.dataset.name}-s{settings.seed}",
            job_type=settings.rule.name,
            tags=[settings.task.name, f"variant {settings.variant}", f"scale {settings.scale}"],
            config=outcome_settings(settings) | {"rule": settings.rule.name, "protocol": settings.protocol},
            settings=wandb.Settings(silent=True),
        )
        self._run.define_metric("*", step_metric="epoch")

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._run.log({"epoch": epoch, **metrics})

    def finish(self, summary: Mapping[str, float], failed: bool) -> None:
        self._run.summary.update(dict(summary))
        self._run.finish(exit_code=int(failed))


def build_logger(settings: RunSettings, identity: str, folder: Path) -> Logger:
    """The logger of a run. One that cannot start is a warning, never a lost run."""
    if settings.logger.name == "none":
        return NoLogger()
    try:
        return WandbLogger(settings, identity, folder)
    except Exception as error:  # wandb raises many kinds: no account, no network, no disk
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(
            f"Weights & Biases did not start ({reason}). Going on without it; logger.mode=offline needs no account.",
            file=sys.stderr,
        )
        return NoLogger()


def as_metrics(split: str, values: Mapping[str, Any]) -> dict[str, float]:
    """{"accuracy": 0.8} of a split to {"val/accuracy": 0.8}."""
    return {f"{split}/{name}": float(value) for name, value in values.items()}

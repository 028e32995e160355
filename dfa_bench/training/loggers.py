"""Where a run is watched. metrics.jsonl is always written; Weights & Biases on request."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from dfa_bench.runs.outcome import outcome_settings
from dfa_bench.runs.store import run_name
from dfa_bench.settings.schema import LoggerSettings, RunSettings
from dfa_bench.tasks.base import task_class


class Logger(Protocol):
    def log(self, epoch: int, metrics: Mapping[str, float]) -> None: ...

    def finish(self, summary: Mapping[str, float], failed: bool) -> None: ...


class NoLogger:
    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        pass

    def finish(self, summary: Mapping[str, float], failed: bool) -> None:
        pass


RESULTS = {".md", ".csv", ".tex", ".png", ".svg", ".json", ".html"}  # what is published
START_SECONDS = 30  # that a dashboard may take to answer


class WandbLogger:
    """Weights & Biases: the group is model and data set, the job type is the rule; table, variant and scale are tags.

    Grouping a dashboard by `group` and `job_type` thus lays BP, DFA and shallow training of one model over each other;
    the curves share their axis, the epoch. A resumed run continues under the same id, that of the run.
    """

    def __init__(self, settings: RunSettings, identity: str, folder: Path) -> None:
        import wandb  # imported only when used: it takes seconds

        tags = [settings.task.name, getattr(task_class(settings), "table", None), f"variant {settings.variant}"]
        self._run: Any = wandb.init(
            project=settings.logger.project,
            entity=settings.logger.entity,
            mode=settings.logger.mode,
            dir=folder,
            id=identity,
            resume="allow",
            name=run_name(settings),
            group=f"{settings.model.name}-{settings.dataset.name}",
            job_type=settings.rule.name,
            tags=[tag for tag in (*tags, f"scale {settings.scale}", *settings.logger.tags) if tag],
            config=outcome_settings(settings) | {"rule": settings.rule.name, "protocol": settings.protocol},
            settings=wandb.Settings(silent=True, init_timeout=START_SECONDS),
        )
        self._run.define_metric("*", step_metric="epoch")

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        with self._told():
            self._run.log({"epoch": epoch, **metrics})

    def finish(self, summary: Mapping[str, float], failed: bool) -> None:
        with self._told():
            self._run.summary.update(dict(summary))
            self._run.finish(exit_code=int(failed))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong with a dashboard is told, and costs no run."""
        try:
            yield
        except Exception as error:  # wandb raises many kinds
            print(
                f"Weights & Biases: {_reason(error)}. The run continues; metrics.jsonl has everything.", file=sys.stderr
            )


def publish_results(logger: LoggerSettings, results: Path, folder: Path) -> None:
    """Log what lies in the results as an artifact, and each table as one that can be sorted. Fails with a warning only.

    Args:
        logger: where to.
        results: folder of tables, figures and the report.
        folder: where offline runs are kept, to be synced later.
    """
    try:
        import pandas as pd
        import wandb

        run: Any = wandb.init(
            project=logger.project,
            entity=logger.entity,
            mode=logger.mode,
            dir=folder,
            job_type="report",
            tags=["report", *logger.tags],
            settings=wandb.Settings(silent=True, init_timeout=START_SECONDS),
        )
        artifact = wandb.Artifact("results", type="results", description="Tables, claims, figures and the report")
        for path in sorted(results.rglob("*")):
            if path.suffix in RESULTS:
                artifact.add_file(str(path), name=path.relative_to(results).as_posix())
        run.log_artifact(artifact)
        for path in sorted(results.glob("*.csv")):
            run.log({f"tables/{path.stem}": wandb.Table(dataframe=pd.read_csv(path).astype(object))})
        for path in sorted(results.glob("*.png")):
            run.log({f"figures/{path.stem}": wandb.Image(str(path))})
        run.finish()
    except Exception as error:  # wandb raises many kinds: no account, no network, no disk
        print(
            f"Weights & Biases did not accept the results ({_reason(error)}). They are in {results}.", file=sys.stderr
        )


def build_logger(settings: RunSettings, identity: str, folder: Path) -> Logger:
    """The logger of a run. One that cannot start is a warning, never a lost run."""
    if settings.logger.name == "none":
        return NoLogger()
    try:
        return WandbLogger(settings, identity, folder)
    except Exception as error:  # wandb raises many kinds: no account, no network, no disk
        print(
            f"Weights & Biases did not start ({_reason(error)}). Continuing without it; logger.mode=offline needs no "
            f"account.",
            file=sys.stderr,
        )
        return NoLogger()


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def as_metrics(split: str, values: Mapping[str, Any]) -> dict[str, float]:
    """{"accuracy": 0.8} of a split to {"val/accuracy": 0.8}."""
    return {f"{split}/{name}": float(value) for name, value in values.items()}

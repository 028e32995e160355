"""Where a run is watched. metrics.jsonl is always written; Weights & Biases on request."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from dfa_bench.errors import each_without_secrets, without_secrets
from dfa_bench.runs.outcome import outcome_settings
from dfa_bench.runs.record import Record
from dfa_bench.runs.store import run_name
from dfa_bench.settings.feedback import feedback_name
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
    """Weights & Biases: group is model and data set, job type is rule and feedback ("dfa-macro"); table, variant
    and scale are tags.

    Grouping a dashboard by `group` and `job_type` thus lays BP, DFA and shallow training of one model over each other;
    the curves share their axis, the epoch. A resumed run continues under the same id, that of the run, and has each
    epoch once: those that the record has are logged again where they did not arrive before the kill.
    """

    def __init__(self, settings: RunSettings, identity: str, record: Record, resumes: bool) -> None:
        import wandb  # imported only when used: it takes seconds

        offline = settings.logger.mode == "offline"
        if offline:
            remove_unsent(record.folder, identity)
        outcome = outcome_settings(settings)
        # A rule without `paths` of its own, such as BP, trains alike whatever the feedback is called.
        feedback = feedback_name(settings) if "paths" in outcome["rule"] else None
        tags = [settings.task.name, getattr(task_class(settings), "table", None), f"variant {settings.variant}"]
        tags += [f"scale {settings.scale}", *map(without_secrets, settings.logger.tags)]
        config = outcome | {"rule": settings.rule.name, "feedback": feedback, "protocol": settings.protocol}
        with _command_line_without_secrets():
            self._run: Any = wandb.init(
                project=settings.logger.project,
                entity=settings.logger.entity,
                mode=settings.logger.mode,
                dir=record.folder,
                id=identity,
                resume="allow" if resumes and not offline else None,  # None: what is there under this id is replaced
                name=run_name(settings),
                group=f"{settings.model.name}-{settings.dataset.name}",
                job_type="-".join(filter(None, (settings.rule.name, feedback))),
                tags=[tag for tag in tags if tag],
                config=each_without_secrets(config),
                settings=wandb.Settings(silent=True, init_timeout=START_SECONDS),
            )
        self._run.define_metric("*", step_metric="epoch")
        self._next = self._run.step  # of a run that goes on: behind the last epoch that arrived
        for line in record.read_metrics():
            self.log(int(line["epoch"]), {name: value for name, value in line.items() if name != "seconds"})

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch >= self._next:
            with self._told():
                self._run.log({"epoch": epoch, **metrics}, step=epoch)

    def finish(self, summary: Mapping[str, float], failed: bool) -> None:
        with self._told():
            self._run.summary.update(dict(summary))
            self._run.finish(exit_code=int(failed))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """A failing dashboard is reported and costs no run."""
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

        with _command_line_without_secrets():
            run: Any = wandb.init(
                project=logger.project,
                entity=logger.entity,
                mode=logger.mode,
                dir=folder,
                job_type="report",
                tags=["report", *map(without_secrets, logger.tags)],
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


@contextlib.contextmanager
def _command_line_without_secrets() -> Iterator[None]:
    """wandb records the arguments of the process that starts a run."""
    given, sys.argv = sys.argv, [*map(without_secrets, sys.argv)]
    try:
        yield
    finally:
        sys.argv = given


def remove_unsent(folder: Path, identity: str) -> None:
    """Delete what earlier sittings of a run wrote offline and nobody sent: this one writes every epoch again."""
    for run in folder.glob(f"wandb/offline-run-*-{identity}"):
        if not any(run.glob("*.synced")):
            shutil.rmtree(run, ignore_errors=True)


def build_logger(settings: RunSettings, identity: str, record: Record, resumes: bool) -> Logger:
    """The logger of a run. One that cannot start is a warning, never a lost run.

    Args:
        settings: of the run.
        identity: of the run.
        record: with the epochs that an earlier sitting did, if `resumes`.
        resumes: the run goes on from a checkpoint.
    """
    if settings.logger.name == "none":
        return NoLogger()
    try:
        return WandbLogger(settings, identity, record, resumes)
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

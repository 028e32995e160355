"""`dfa-bench run`: one run, or a sweep in which a failing run neither hides nor stops the others."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import hydra
from click.shell_completion import CompletionItem
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from dfa_bench.data.writing import atomic
from dfa_bench.errors import KEPT, ConfigError, Diverged, Preempted, UserError, counted, without_secrets
from dfa_bench.experiments.protocol import refuse_protocol, with_protocol
from dfa_bench.settings.compose import HYDRA_ERRORS, explain_hydra, to_settings
from dfa_bench.settings.engines import PREFIX, engine_names, engine_settings
from dfa_bench.settings.resources import resource_folder
from dfa_bench.training.allocator import keep_freed_memory
from dfa_bench.training.preemption import end_with_launcher, launches_workers, stop

if TYPE_CHECKING:
    from dfa_bench.experiments.plan import PlannedRun
    from dfa_bench.training.execute import Outcome

_failures: list[str] = []  # of the sweep or run in this process
_for_engine: list[PlannedRun] | None = None  # with --engine, runs are only composed here, and done by the engine
RETRY = 2  # times that an engine starts a run again whose process was killed
_started_in: set[int] = set()  # the process of the command; those that a launcher starts for it find it empty


def run(config: DictConfig) -> None:
    """One run of `dfa-bench run`, alone or as a job of a sweep."""
    from dfa_bench.experiments.dispatch import planned_alone  # not before: --help, --cfg and completion need no PyTorch
    from dfa_bench.training.execute import execute
    from dfa_bench.training.processes import place_among_processes

    if os.getpid() not in _started_in:
        _started_in.add(os.getpid())
        end_with_launcher()
    hydra_config = HydraConfig.get()
    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    command = without_secrets(shlex.join(["dfa-bench", "run", *hydra_config.overrides.task]))
    message = None
    if in_sweep:
        _clean(Path(hydra_config.sweep.dir) / "multirun.yaml")
    try:
        refuse_protocol(hydra_config.overrides.task)
        settings = with_protocol(to_settings(config))
        if _for_engine is not None:
            _for_engine.append(planned_alone(settings, hydra_config.overrides.task))
            return
        with stop.caught():
            outcome = execute(settings)
        if outcome.result.status == "diverged":
            raise Diverged(f"{outcome.result.message}\nRecorded in {outcome.folder}; force=true repeats the run.")
        if place_among_processes().leads:
            _print_outcome(outcome, keeps_best=settings.trainer.keep == "best")
            if outcome.reused and settings.logger.name != "none":
                print(f"logger={settings.logger.name}: nothing was logged, as no epoch was trained.", file=sys.stderr)
    except UserError as error:
        message = str(error)
    except Exception:  # a bug, or a library's error: the sweep goes on, the trace is kept
        message = without_secrets(traceback.format_exc())
    if message:
        print(f"Error: {message}", file=sys.stderr)
    if in_sweep and _for_engine is None:
        folder = Path(hydra_config.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        report = {"command": command, "error": message}
        (folder / f"job-{hydra_config.job.num}.json").write_text(json.dumps(report))
    elif message:
        _failures.append(command)


class SweepSummary(Callback):
    """Says at the end of a sweep how many runs are done, and which failed, with the command to run each again."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if _for_engine is not None:
            return
        reports = [json.loads(path.read_text()) for path in sorted(Path(config.hydra.sweep.dir).glob("job-*.json"))]
        failed = [report for report in reports if report["error"]]
        print(f"\n{len(reports) - len(failed)} of {len(reports)} runs are done.", flush=True)
        for report in failed:
            reason = report["error"].strip().splitlines()
            print(
                f"Failed: {report['command']}\n    {reason[-1] if 'Traceback' in reason[0] else reason[0]}", flush=True
            )
            _failures.append(report["command"])


class HydraCommand(click.Command):
    """A command whose arguments, --help included, are all Hydra's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = [*args]
        return ctx.args

    def invoke(self, ctx: click.Context) -> int:
        if line := os.environ.get("COMP_LINE"):  # of Hydra's own completion script, which knows no word `run`
            os.environ["COMP_LINE"] = re.sub(r"^(\s*\S+)\s+run\b", r"\1", line)
        return run_hydra(ctx.args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Hydra's own completion. bash splits words at "=", and wants only what follows it."""
        before = re.sub(" ?= ?", "=", " ".join(ctx.args))
        started = before.rpartition(" ")[2]
        if started and "=" not in started and not started.startswith("-"):
            before, started = f"{before}=", f"{started}="  # Click has dropped the "=" before an empty word
        elif not started.endswith("="):
            before, started = f"{before} ", ""
        return [CompletionItem(each.removeprefix(started)) for each in complete(before + incomplete)]


def complete(line: str) -> list[str]:
    """What Hydra offers for the last word of what follows `dfa-bench run`."""
    os.environ["COMP_LINE"] = f"dfa-bench {line}"
    with contextlib.redirect_stdout(io.StringIO()) as offered:
        run_hydra(["-sc", "query=bash"])
    return offered.getvalue().split()


def run_hydra(arguments: Sequence[str]) -> int:
    """Run Hydra with these command-line arguments; 0 if every run is done."""
    global _for_engine
    engine, arguments = _engine(arguments)
    _for_engine = None if engine is None else []
    sweep_first = sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))  # argparse wants it so
    sys.argv = [sys.argv[0], *sweep_first]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them its own way
    _failures.clear()
    _started_in.add(os.getpid())
    launches_workers()
    keep_freed_memory()
    try:
        hydra.main(config_path=str(resource_folder("configs")), config_name="run", version_base="1.3")(run)()
        if engine is not None:
            _do(engine, _for_engine or [])
    except HYDRA_ERRORS as error:
        print(f"Error: {explain_hydra(error)}", file=sys.stderr)
        return 2
    except OSError as error:  # of the folder of a sweep; those of its runs are told in `run`
        if error.filename is None:  # no file: a closed pipe
            raise
        print(f"Error: cannot write {error.filename}: {error.strerror}. Set store.root=DIR.", file=sys.stderr)
        return 1
    except Preempted as signal:
        print(f"\n{signal} {KEPT}", file=sys.stderr)
        return signal.status
    return 1 if _failures else 0


def _engine(arguments: Sequence[str]) -> tuple[Any, list[str]]:
    """The settings of the engine that was asked for, if one was, and the arguments that are Hydra's.

    Raises:
        ConfigError: there is no such engine or setting, or it would have to share the runs with a launcher.
    """
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    known.add_argument("--engine", choices=engine_names())
    known.add_argument("--jobs", type=int)
    try:
        chosen, others = known.parse_known_args([*arguments])
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error}.") from None
    if chosen.engine is None:
        if chosen.jobs is not None:
            raise ConfigError(f"--jobs {chosen.jobs} needs --engine {'|'.join(engine_names())}.")
        return None, others
    if launcher := next((each for each in others if each.startswith("hydra/launcher=")), None):
        raise ConfigError(f"--engine {chosen.engine} and {launcher} exclude each other: leave one out.")
    given = [each for each in others if each.startswith(PREFIX)]
    return engine_settings(chosen.engine, given, chosen.jobs), [each for each in others if each not in given]


def _do(engine: Any, runs: Sequence[PlannedRun]) -> None:
    """Do the runs of a sweep through an engine, and say how many are done."""
    from dfa_bench.experiments.dispatch import do_alone

    failures = do_alone(runs, engine, RETRY)
    total = len(runs) + len(_failures)  # those that could not even be composed
    _failures.extend(failure.command for failure in failures)
    print(f"\n{total - len(_failures)} of {total} runs are done.", flush=True)
    for failure in failures:
        print(failure, flush=True)


command = HydraCommand("run")


def _clean(path: Path) -> None:
    """Take secrets out of a file that Hydra has written, with the whole command."""
    text = path.read_text()
    if (cleaned := without_secrets(text)) != text:
        with atomic(path) as file:
            file.write(cleaned)


def _print_outcome(outcome: Outcome, keeps_best: bool) -> None:
    result = outcome.result
    if outcome.reused:
        how = f" with {result.numerics}" if result.numerics else ""
        print(f"Done before, on {result.finished}{how} (force=true repeats it).")
    best = f", tested after epoch {result.best_epoch}, the best" if keeps_best and result.best_epoch else ""
    for name, value in sorted(result.metrics.items()):
        print(f"{name:<16} {value:.4f}")
    print(
        f"{counted(result.epochs, 'epoch')}{best}; {result.wall_seconds:.1f} s, {1000 * result.step_seconds:.1f} ms a "
        f"step, peak {result.peak_memory_mib or 0:.0f} MiB, protocol: {result.protocol}"
        + (", STAND-IN DATA" if result.data_kind != "real" else "")
    )
    print(outcome.folder, flush=True)

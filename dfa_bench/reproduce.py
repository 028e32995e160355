"""`dfa-bench reproduce` and `dfa-bench table`: run what a table lacks, on all cores, and write what there is."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from dfa_bench.allocator import keep_freed_memory
from dfa_bench.compose import resource_folder
from dfa_bench.data.resolve import DataCard
from dfa_bench.errors import ConfigError, CorruptData, MissingData, UserError
from dfa_bench.plan import PlannedRun, finished_result, missing, plan
from dfa_bench.reporting.experiment import Cell, Experiment, load_experiments
from dfa_bench.reporting.tables import Run, Table
from dfa_bench.runs.ledger import COLUMNS, Ledger
from dfa_bench.runs.record import Result, atomic
from dfa_bench.settings import RunSettings
from dfa_bench.tasks.base import build_dataset

PLAIN_SECONDS = 15.0  # between lines of progress when there is no terminal


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Args:
        experiments: the tables.
        seeds: of each cell.
        jobs: processes at a time.
        results: folder of the tables and runs.csv.
        skip: patterns of cells, "PubMed/DNAConv" or "*/DNAConv", that get no new runs.
        overrides: of every run.
    """

    experiments: Sequence[Experiment]
    seeds: Sequence[int]
    jobs: int
    results: Path
    skip: Sequence[str]
    overrides: Sequence[str]


@dataclass(frozen=True)
class Failure:
    command: str
    reason: str


def parse_request(arguments: Sequence[str]) -> Request:
    """`table3 table4 seeds=10 jobs=2 scale=cpu store.root=runs`.

    Raises:
        ConfigError: there is no such table, or a value is impossible.
    """
    known = load_experiments(resource_folder("experiments"))
    options = {"seeds": "1", "jobs": str(os.cpu_count() or 1), "results": "results", "skip": ""}
    names, overrides = [], []
    for argument in arguments:
        key, is_option, value = argument.partition("=")
        if not is_option:
            names.append(f"table{argument}" if argument.isdigit() else argument)
        elif key in options:
            options[key] = value
        else:
            overrides.append(argument)
    unknown = [name for name in names if name not in known and name != "all"]
    if unknown or not names:
        what = f"There is no table '{unknown[0]}'." if unknown else "Name the tables."
        raise ConfigError(f"{what} There are: {', '.join(known)}, and all of them as 'all'.")
    for key in ("seeds", "jobs"):
        if not options[key].isdigit() or int(options[key]) < 1:
            raise ConfigError(f"{key}={options[key]}: give a whole number from 1 on; {key}=10, for instance.")
    chosen = list(known.values()) if "all" in names else [known[name] for name in dict.fromkeys(names)]
    skip = [pattern for pattern in options["skip"].split(",") if pattern]
    places = [f"{row}/{column}" for table in known.values() for row in table.rows for column in table.columns]
    if unmatched := [pattern for pattern in skip if not fnmatch.filter(places, pattern)]:
        raise ConfigError(f"skip={unmatched[0]} matches no cell. Give row and column, as in skip=PubMed/DNAConv.")
    results = Path(options["results"])
    return Request(chosen, range(int(options["seeds"])), int(options["jobs"]), results, skip, overrides)


def reproduce(request: Request) -> int:
    """Run what is missing, then write the tables. Returns the exit status: 1 if a run failed."""
    console = Console()
    ledger = Ledger(request.results / "runs.csv")
    real: list[PlannedRun] = []
    stand_in: list[PlannedRun] = []
    plans: dict[str, list[PlannedRun]] = {}
    stand_in_plans: dict[str, list[PlannedRun]] = {}
    reasons: dict[str, str | None] = {}  # why a data set is not here
    with console.status("Composing runs") if console.is_terminal else contextlib.nullcontext():
        for experiment in request.experiments:
            plans[experiment.name] = plan(experiment, request.seeds, request.overrides)
            available, without = _split_by_data(plans[experiment.name], reasons)
            real += available
            if without:
                rows = {run.cell.row for run in without}
                smoke = plan(experiment, request.seeds[:1], [*request.overrides, "scale=smoke"])
                stand_in_plans[experiment.name] = [run for run in smoke if run.cell.row in rows]
                stand_in += stand_in_plans[experiment.name]
    todo = missing([*real, *stand_in], ledger)
    todo = [run for run in todo if not _is_skipped(run, request.skip)]
    total = len({run.identity for run in [*real, *stand_in]})
    print(f"{total} runs, {len(todo)} of them to do, {request.jobs} at a time.", flush=True)
    failures: list[Failure] = []
    try:
        failures = run_all(todo, request.jobs, console)
    except KeyboardInterrupt:
        print("\nInterrupted. What is finished is kept; the same command goes on from here.", file=sys.stderr)
        failures = [Failure("(interrupted)", "the sweep is not complete")]
    finished = {run.identity: finished_result(run) for run in real if not _is_stand_in(run.settings)}
    if any(finished.values()):
        ledger.add(result for key, result in finished.items() if result and key not in ledger)
    for experiment in request.experiments:
        _write_or_print(experiment, plans[experiment.name], stand_in_plans.get(experiment.name, []), ledger, request)
    for failure in failures:
        print(f"Failed: {failure.command}\n    {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


def show(request: Request) -> int:
    """Print tables from the runs that exist, and run nothing."""
    ledger = Ledger(request.results / "runs.csv")
    for experiment in request.experiments:
        table = build_table(experiment, plan(experiment, request.seeds, request.overrides), ledger)
        if table.entries:
            Console(width=_width(table)).print(table.rich())
        else:
            print(f"{experiment.title}: no run of it is done. `dfa-bench reproduce {experiment.name}` does them.")
    return 0


def build_table(experiment: Experiment, runs: Sequence[PlannedRun], ledger: Ledger) -> Table:
    """A table from all runs of a plan that are in the store or in the ledger."""
    found: dict[Cell, list[Run]] = {}
    for run in runs:
        result = finished_result(run)
        done = _from_result(result) if result else _from_ledger(ledger.rows.get(run.identity))
        if done:
            found.setdefault(run.cell, []).append(done)
    return Table(experiment, found, stand_in=any(_is_stand_in(run.settings) for run in runs))


def run_all(todo: Sequence[PlannedRun], jobs: int, console: Console) -> list[Failure]:
    """Do runs, `jobs` at a time, each in one of as many processes. A failing run does not stop the others."""
    failures: list[Failure] = []
    if not todo:
        return failures
    threads = max(1, (os.cpu_count() or 1) // jobs)
    waiting = list(todo)
    board = _Board(todo, jobs, console)
    with board:
        while waiting:
            pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=keep_freed_memory)
            running: dict[Future[str | None], PlannedRun] = {}
            try:
                while waiting or running:
                    while waiting and len(running) < jobs:
                        run = waiting.pop(0)
                        running[pool.submit(_do, run.settings, threads)] = run
                        board.start(run)
                    for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                        run = running.pop(future)
                        board.finish(run)
                        if reason := future.result():
                            failures.append(Failure(run.command, reason))
                    board.tick()
            except BrokenProcessPool:  # a worker was killed, by lack of memory for instance
                reason = "a process was killed (out of memory?)"
                failures += [Failure(run.command, reason) for run in running.values()]
            except KeyboardInterrupt:
                for process in list((pool._processes or {}).values()):
                    process.terminate()
                raise
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    return failures


def _do(settings: RunSettings, threads: int) -> str | None:
    """One run in a worker process; returns what went wrong."""
    from dfa_bench.training.execute import execute

    trainer = settings.trainer.model_copy(update={"progress": "none", "threads": settings.trainer.threads or threads})
    try:
        result = execute(settings.model_copy(update={"trainer": trainer})).result
    except KeyboardInterrupt:
        return "interrupted"
    except UserError as error:
        return str(error)
    except Exception as error:  # told in the summary; the other runs go on
        return f"{type(error).__name__}: {error}"
    return result.message


class _Board:
    """Progress over runs: a live bar on a terminal, else a line now and then. Time left goes by the cells' costs."""

    def __init__(self, todo: Sequence[PlannedRun], jobs: int, console: Console) -> None:
        self._total = sum(run.cell.cost for run in todo)
        self._count, self._done, self._done_cost = len(todo), 0, 0.0
        self._running: dict[str, str] = {}
        self._begin = self._printed = time.monotonic()
        columns = SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
        self._live = Progress(*columns, console=console) if console.is_terminal else None
        self._task = self._live.add_task("", total=self._count) if self._live else None

    def __enter__(self) -> _Board:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def start(self, run: PlannedRun) -> None:
        cell = run.cell
        self._running[run.identity] = f"{cell.row} {cell.column} {cell.rule} seed {run.settings.seed}"

    def finish(self, run: PlannedRun) -> None:
        self._running.pop(run.identity)
        self._done += 1
        self._done_cost += run.cell.cost

    def tick(self) -> None:
        elapsed = time.monotonic() - self._begin
        left = elapsed * (self._total / self._done_cost - 1) if self._done_cost else None
        text = f"{_minutes(elapsed)} gone, {'about ' + _minutes(left) if left is not None else '?'} left"
        if self._live and self._task is not None:
            self._live.update(
                self._task, completed=self._done, description=f"{text}: {', '.join(self._running.values())}"
            )
        elif time.monotonic() - self._printed > PLAIN_SECONDS or self._done == self._count:
            self._printed = time.monotonic()
            print(f"{self._done} of {self._count} runs, {text}: {', '.join(self._running.values())}", flush=True)


def _split_by_data(
    runs: Sequence[PlannedRun], reasons: dict[str, str | None]
) -> tuple[list[PlannedRun], list[PlannedRun]]:
    """Runs whose data are here (or could be fetched), and those without; says once per data set what is missing."""
    for run in runs:
        name = run.settings.dataset.name
        if name not in reasons:
            reasons[name] = None
            try:
                if not run.settings.data.stand_in:
                    build_dataset(run.settings).fetch(run.settings.data)
            except (MissingData, CorruptData) as error:
                reasons[name] = str(error)
                print(f"{error} Its rows run on a stand-in now, and are shown apart.\n", file=sys.stderr)
    return (
        [run for run in runs if reasons[run.settings.dataset.name] is None],
        [run for run in runs if reasons[run.settings.dataset.name] is not None],
    )


def _is_skipped(run: PlannedRun, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(f"{run.cell.row}/{run.cell.column}", pattern) for pattern in patterns)


def _write_or_print(
    experiment: Experiment,
    real: Sequence[PlannedRun],
    stand_in: Sequence[PlannedRun],
    ledger: Ledger,
    request: Request,
) -> None:
    """Write a table of the experiment's own protocol to results; print any other, and stand-ins, apart."""
    table = build_table(experiment, real, ledger)
    if table.entries:
        Console(width=_width(table)).print(table.rich())
        if table.stand_in:
            print("Stand-in runs stay in the run store; nothing was written to results.")
        elif any(run.settings.protocol == "reduced" for run in real):
            print("These runs leave the paper's protocol; nothing was written to results but their rows in runs.csv.")
        else:
            write(table, request.results)
    if stand_in:
        apart = build_table(experiment, stand_in, ledger)
        if apart.entries:
            Console(width=_width(apart)).print(apart.rich())


def write(table: Table, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for ending, text in (("md", table.markdown()), ("csv", table.csv()), ("tex", table.tex())):
        with atomic(folder / f"{table.experiment.name}.{ending}") as file:
            file.write(text)
    print(f"Written: {folder / table.experiment.name}.md, .csv, .tex")


def _from_result(result: Result) -> Run:
    data: DataCard = result.provenance.data
    return Run(
        result.identity,
        result.seed,
        result.metrics,
        result.scale,
        result.protocol,
        data.kind,
        result.provenance.commit,
    )


def _from_ledger(row: Mapping[str, str] | None) -> Run | None:
    if row is None:
        return None
    metrics = {name: float(value) for name, value in row.items() if name not in COLUMNS}
    return Run(
        row["identity"],
        int(row["seed"]),
        metrics,
        row["scale"],
        row["protocol"],
        row["data_kind"],
        row.get("commit"),
    )


def _is_stand_in(settings: RunSettings) -> bool:
    return settings.data.stand_in or settings.scale == "smoke"


def _width(table: Table) -> int | None:
    """Wide enough for whole cells when the output is not a terminal."""
    return None if sys.stdout.isatty() else 24 + 26 * max(1, len(table.heads()))


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"

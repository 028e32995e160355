"""From what is missing to written tables: plan, run by an engine, collect, write."""

from __future__ import annotations

import fnmatch
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from dfa_bench.data.resolve import reasons_once
from dfa_bench.data.writing import check_writable
from dfa_bench.errors import KEPT, CorruptData, MissingData, Preempted, counted
from dfa_bench.experiments.dispatch import Failure, do_all
from dfa_bench.experiments.engines import Engine, build_engine
from dfa_bench.experiments.expected_cost import expected_seconds, time_text
from dfa_bench.experiments.plan import PlannedRun, is_trial, missing, plan, readable_result
from dfa_bench.experiments.progress import Board, Watched
from dfa_bench.experiments.request import RESULTS, Request
from dfa_bench.experiments.schema import Experiment
from dfa_bench.reporting.existing import build_table, seeds_done
from dfa_bench.reporting.results import print_table, write_table
from dfa_bench.runs.ledger import Ledger
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import build_dataset


@dataclass(frozen=True)
class Work:
    """An experiment and its runs: those whose data are here, and stand-ins if no data of it are."""

    experiment: Experiment
    runs: Sequence[PlannedRun]  # of every seed that is asked for or done, also where data lack
    real: Sequence[PlannedRun]
    stand_in: Sequence[PlannedRun]


def reproduce(request: Request) -> int:
    """Run what is missing, then write the tables. Returns the exit status: 1 if a run failed."""
    check_writable(request.results)
    console = Console()
    ledger = request.ledger()
    with console.status("Composing runs"):  # on a terminal only
        seeds = max(request.seeds, seeds_done(request, ledger))
        works = plan_all(request, seeds, ledger)
    for work in works:
        if work.stand_in:
            print(f"{work.experiment.name}: none of its data are here. Synthetic data are used, and shown separately.")
        elif lacking := {run.settings.dataset.name: None for run in work.runs if run not in work.real}:
            print(f"{work.experiment.name}: no data, so no runs, of {', '.join(lacking)}.")
    wanted = [run for work in works for run in (*work.real, *work.stand_in) if run.settings.seed < request.seeds]
    lacking_runs = missing(wanted, ledger)
    todo = [run for run in lacking_runs if not is_skipped(run, request.skip)]
    failures: list[Failure] = []
    status = 0
    done, skipped = len({run.identity for run in wanted}) - len(lacking_runs), len(lacking_runs) - len(todo)
    counts = f"{counted(len(todo), 'run')} to do, {done} done{f', {skipped} skipped' if skipped else ''}"
    try:
        failures = _do(todo, works, ledger, request, console, counts)
    except Preempted as signal:
        print(f"\n{signal} {KEPT}", file=sys.stderr)
        status = signal.status
    finished = [readable_result(run) for work in works for run in work.real if not is_trial(run.settings)]
    ledger.add(result for result in finished if result and result.identity not in ledger)
    for work in works:
        write_or_print(work, ledger, request)
    for failure in failures:
        print(failure, file=sys.stderr)
    return status or (1 if failures else 0)


def _do(
    todo: Sequence[PlannedRun], works: Sequence[Work], ledger: Ledger, request: Request, console: Console, counts: str
) -> list[Failure]:
    if not todo:
        print(f"{counts}.", flush=True)
        return []
    engine = build_engine(request.engine, [run.settings for run in todo])
    print(f"{counts}; {engine.says}.", flush=True)
    return do_shown(todo, engine, works, ledger, request, console)


def do_shown(
    todo: Sequence[PlannedRun],
    engine: Engine,
    works: Sequence[Work],
    ledger: Ledger,
    request: Request,
    console: Console,
) -> list[Failure]:
    """Do runs through an engine, with their progress shown."""
    tables = [[*work.runs, *work.stand_in] for work in works]
    watched = Watched(tables, {run.identity for run in todo}, ledger.seconds(), _times_elsewhere(request))
    with Board(watched, console) as board:
        return do_all(todo, engine, board, request.retry, request.max_failures)


def watch(request: Request, once: bool) -> int:
    """Show how far the runs of tables are, until they are done."""
    ledger, console = request.ledger(), Console()
    seeds, cards = max(request.seeds, seeds_done(request, ledger)), ledger.cards()
    tables = [plan(each, range(seeds), request.overrides, cards) for each in request.experiments]
    wanted = {run.identity for table in tables for run in table if run.settings.seed < request.seeds}
    with Board(Watched(tables, wanted, ledger.seconds(), _times_elsewhere(request)), console) as board:
        look = board.update(at_once=True)
        while look is None or (not once and any(each.state != "done" for each in look.states.values())):
            time.sleep(0.5)
            look = board.update() or look
    if console.is_terminal:
        print(look)
    return 0


def _times_elsewhere(request: Request) -> dict[str, float]:
    """What the runs in results/runs.csv took, on whatever machine, where other results are asked for."""
    return {} if request.results == RESULTS else Ledger(RESULTS / "runs.csv").seconds()


def list_missing(request: Request) -> int:
    """Print the runs that are missing, the command of each, and what they are expected to cost."""
    ledger = request.ledger()
    seeds, cards = range(max(request.seeds, seeds_done(request, ledger))), ledger.cards()
    known = {**_times_elsewhere(request), **ledger.seconds()}
    told: set[str] = set()  # runs that several tables need are listed once
    total = 0.0
    for experiment in request.experiments:
        runs = plan(experiment, seeds, request.overrides, cards)
        wanted = [run for run in runs if run.settings.seed < request.seeds and run.identity not in told]
        todo = [run for run in missing(wanted, ledger) if not is_skipped(run, request.skip)]
        told |= {run.identity for run in todo}
        costs = expected_seconds(runs, todo, known)
        seconds = sum(each.seconds or 0 for each in costs)
        total += seconds
        unknown = sum(each.seconds is None for each in costs)
        about = f"about {time_text(seconds)} one at a time" if seconds else ""
        about += f"{'; ' if about else ''}{unknown} of unknown cost" if unknown else ""
        are = "is" if len(todo) == 1 else "are"
        print(f"{experiment.name}: {counted(len(todo), 'run')} {are} missing{f' ({about})' if about else ''}.")
        if lacking := dict.fromkeys(run.settings.dataset.name for run in todo if not run.has_data):
            print(f"  No data here for {', '.join(lacking)}; `dfa-bench data` says where to get them.")
        for run, cost in zip(todo, costs, strict=True):
            cell, column = run.cell, experiment.column_text(run.cell.column, run.cell.variant)
            print(f"  {cell.row}, {column}, {cell.rule}, seed {run.settings.seed}: {cost}\n    {run.command}")
    jobs = request.at_a_time
    about = f", about {time_text(total / jobs)} with --jobs {jobs}" if total else ""
    print(f"Total: {counted(len(told), 'run')}{about}.")
    return 0


def plan_all(request: Request, seeds: int, ledger: Ledger) -> list[Work]:
    """The runs of all tables. Data that are not here are downloaded, where that is wanted and possible.

    Says once of which data there are none and where to get them.
    """
    reasons: dict[str, str] = {}  # why data are not here, by data set; "" if they are
    works, cards = [], ledger.cards()
    for experiment in request.experiments:
        runs = plan(experiment, range(seeds), request.overrides, cards, lambda settings: _fetch(settings, reasons))
        real = [run for run in runs if not reasons[run.settings.dataset.name]]
        stand_in = [] if real else plan(experiment, range(1), [*request.overrides, "scale=smoke"])
        works.append(Work(experiment, runs, real, stand_in))
    for told in reasons_once(reasons):
        print(f"{told}\n", file=sys.stderr)
    return works


def _fetch(settings: RunSettings, reasons: dict[str, str]) -> None:
    """Get the data of a run, if they are not here; notes what went wrong, once per data set."""
    name = settings.dataset.name
    if name in reasons:
        return
    reasons[name] = ""
    try:
        if not settings.data.stand_in:
            build_dataset(settings).fetch(settings.data)
    except (MissingData, CorruptData) as error:
        reasons[name] = str(error)


def is_skipped(run: PlannedRun, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(f"{run.cell.row}/{run.cell.column}", pattern) for pattern in patterns)


def write_or_print(work: Work, ledger: Ledger, request: Request) -> None:
    """Write a table to results; print apart what is not the experiment itself: stand-ins and changed settings."""
    table = build_table(work.experiment, work.runs, ledger)
    if table.entries:
        print_table(table)
        if table.trial:
            print(f"Stand-in runs stay in the run store; nothing was written to {request.results}.")
        elif table.changed:
            print("Your settings make a different experiment: only its rows in runs.csv were written.")
        else:
            write_table(table, request.results)
    if work.stand_in:
        apart = build_table(work.experiment, work.stand_in, ledger)
        if apart.entries:
            print_table(apart)

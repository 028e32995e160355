"""`dfa-bench reproduce`, `table`, `claims`, `results`: run what tables lack, on all cores, and write what there is."""

from __future__ import annotations

import contextlib
import fnmatch
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from dfa_bench.errors import CorruptData, MissingData
from dfa_bench.experiments.local import Failure, run_all
from dfa_bench.experiments.plan import PlannedRun, missing, plan, readable_result
from dfa_bench.experiments.request import Request, parse_request
from dfa_bench.experiments.schema import Experiment
from dfa_bench.reporting import claims
from dfa_bench.reporting.existing import build_table, existing, is_stand_in, seeds_done
from dfa_bench.reporting.forms import readable
from dfa_bench.reporting.grid import terminal
from dfa_bench.reporting.readings import readings_of
from dfa_bench.reporting.results import write_results, write_table
from dfa_bench.reporting.tables import Table
from dfa_bench.runs.ledger import Ledger
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import build_dataset

EVERYTHING = ("all", "studies", "search")


def reproduce_command(arguments: Sequence[str]) -> int:
    return reproduce(parse_request(arguments, seeds=1))


def table_command(arguments: Sequence[str]) -> int:
    return show(parse_request(arguments, seeds=0))


def claims_command(arguments: Sequence[str]) -> int:
    return show_claims(parse_request(arguments, seeds=0, default=EVERYTHING))


def results_command(arguments: Sequence[str]) -> int:
    write_results(parse_request(arguments, seeds=0, default=EVERYTHING))
    return 0


@dataclass(frozen=True)
class Work:
    """An experiment and its runs: those on real data, and the stand-ins of rows whose data are not here."""

    experiment: Experiment
    runs: Sequence[PlannedRun]  # of every seed that is asked for or done, also where data lack
    real: Sequence[PlannedRun]
    stand_in: Sequence[PlannedRun]


def reproduce(request: Request) -> int:
    """Run what is missing, then write the tables. Returns the exit status: 1 if a run failed."""
    console = Console()
    ledger = Ledger(request.results / "runs.csv")
    with console.status("Composing runs") if console.is_terminal else contextlib.nullcontext():
        seeds = max(request.seeds, seeds_done(request, ledger))
        works = _plan_all(request, seeds, ledger)
    wanted = [run for work in works for run in (*work.real, *work.stand_in) if run.settings.seed < request.seeds]
    todo = [run for run in missing(wanted, ledger) if not _is_skipped(run, request.skip)]
    total = len({run.identity for run in wanted})
    print(f"{total} runs, {len(todo)} of them to do, {request.jobs} at a time.", flush=True)
    failures: list[Failure] = []
    try:
        failures = run_all(todo, request.jobs, console)
    except KeyboardInterrupt:
        print("\nInterrupted. What is finished is kept; the same command goes on from here.", file=sys.stderr)
        failures = [Failure("(interrupted)", "the sweep is not complete")]
    finished = [readable_result(run) for work in works for run in work.real if not is_stand_in(run.settings)]
    ledger.add(result for result in finished if result and result.identity not in ledger)
    for work in works:
        _write_or_print(work, ledger, request)
    for failure in failures:
        print(f"Failed: {failure.command}\n    {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


def show(request: Request) -> int:
    """Print tables from the runs that exist, and run nothing."""
    for table in (each.table for each in existing(request)):
        if table.entries:
            _print(table)
        elif table.runs:
            print("\n".join([f"{table.experiment.title}:", *table.remarks()]))
        else:
            name = table.experiment.name
            which = " with your settings, which make another experiment" if table.changed else ""
            print(f"{table.experiment.title}: no run of it{which} is done. `dfa-bench reproduce {name}` does them.")
    return 0


def show_claims(request: Request) -> int:
    """Check the paper's conclusions over the runs that exist, and print the verdicts."""
    checked = [each for table in existing(request) for each in claims.check(table.table)]
    checked += readings_of(request)
    title = "What the paper concludes, over our runs"
    Console(width=None if sys.stdout.isatty() else 160).print(
        terminal(claims.claims_grid(checked, title), show_lines=True)
    )
    return 0


def _plan_all(request: Request, seeds: int, ledger: Ledger) -> list[Work]:
    reasons: dict[str, str | None] = {}  # why a data set is not here
    works, cards = [], ledger.cards()
    for experiment in request.experiments:
        runs = plan(experiment, range(seeds), request.overrides, cards, lambda settings: _fetch(settings, reasons))
        real = [run for run in runs if reasons[run.settings.dataset.name] is None]
        rows = {run.cell.row for run in runs if reasons[run.settings.dataset.name] is not None}
        smoke = plan(experiment, range(1), [*request.overrides, "scale=smoke"]) if rows else []
        works.append(Work(experiment, runs, real, [run for run in smoke if run.cell.row in rows]))
    return works


def _fetch(settings: RunSettings, reasons: dict[str, str | None]) -> None:
    """Get the data of a run, if they are not here; says once per data set what is missing."""
    name = settings.dataset.name
    if name in reasons:
        return
    reasons[name] = None
    try:
        if not settings.data.stand_in:
            build_dataset(settings).fetch(settings.data)
    except (MissingData, CorruptData) as error:
        reasons[name] = str(error)
        print(f"{error} Its rows run on a stand-in now, and are shown apart.\n", file=sys.stderr)


def _is_skipped(run: PlannedRun, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(f"{run.cell.row}/{run.cell.column}", pattern) for pattern in patterns)


def _write_or_print(work: Work, ledger: Ledger, request: Request) -> None:
    """Write a table to results; print apart what is not the experiment itself: stand-ins and changed settings."""
    table = build_table(work.experiment, work.runs, ledger)
    if table.entries:
        _print(table)
        if table.stand_in:
            print("Stand-in runs stay in the run store; nothing was written to results.")
        elif table.changed:
            print("Your settings make another experiment: nothing was written but its rows in runs.csv.")
        else:
            write_table(table, request.results)
    if work.stand_in:
        apart = build_table(work.experiment, work.stand_in, ledger)
        if apart.entries:
            _print(apart)


def _print(table: Table) -> None:
    """Wide enough for whole cells when the output is not a terminal."""
    width = None if sys.stdout.isatty() else 24 + 26 * max(1, len(table.heads()))
    Console(width=width).print(terminal(readable(table)))

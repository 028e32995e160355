"""`dfa-bench reproduce`: do the missing runs of tables, on all cores, then write the tables."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from dfa_bench.commands.grammar import COUNT, listed, table_command
from dfa_bench.errors import CorruptData, MissingData
from dfa_bench.experiments.expected_cost import expected_seconds, time_text
from dfa_bench.experiments.local import Failure, run_all
from dfa_bench.experiments.plan import PlannedRun, missing, plan, readable_result
from dfa_bench.experiments.request import Request
from dfa_bench.experiments.schema import Experiment
from dfa_bench.reporting import claims, forms
from dfa_bench.reporting.embed import embed_all
from dfa_bench.reporting.existing import build_table, existing, is_stand_in, seeds_done
from dfa_bench.reporting.readings import readings_of
from dfa_bench.reporting.released import evaluated, released_csv, released_markdown
from dfa_bench.reporting.seeds import standings, standings_markdown
from dfa_bench.reporting.tables import Table
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.record import atomic
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import build_dataset


@table_command(
    seeds=1,
    examples="""
    dfa-bench reproduce table3 table4 --seeds 10
    dfa-bench reproduce table3 --skip '*/DNAConv' --dry-run
    dfa-bench reproduce all scale=smoke
    """,
)
@click.option("--jobs", type=COUNT, default=os.cpu_count() or 1, help="Runs at a time (default: one per core).")
@click.option(
    "--skip",
    metavar="PATTERN,...",
    default="",
    callback=listed,
    help="Cells that get no new runs, as ROW/COLUMN: 'PubMed/*', PubMed/DNAConv.",
)
@click.option("--dry-run", is_flag=True, help="List the missing runs and their expected cost, and run nothing.")
def command(request: Request) -> int:
    """Do the missing runs of tables, the longest first, on all cores; then write DIR/TABLE.{md,csv,tex}.

    Runs that stand in the run store or in DIR/runs.csv count as done: repeat the command to continue after an
    interruption, or with more seeds to add those. Rows whose data are neither here nor downloadable use synthetic data
    and are shown separately; with scale=smoke all do, which takes seconds and proves that everything runs.

    \b
    TABLE     3 or table3, ..., all; studies/dna_feedback, ...; or a folder of them: studies, search (of
              hyperparameters), first (short first looks)
    OVERRIDE  a Hydra override for all runs: scale=cpu|paper|smoke, store.root=DIR, data.root=DIR, ...
    """
    return list_missing(request) if request.dry_run else reproduce(request)


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
        print("\nInterrupted. Finished runs are kept; run the same command to continue.", file=sys.stderr)
        failures = [Failure("(interrupted)", "the sweep is not complete")]
    finished = [readable_result(run) for work in works for run in work.real if not is_stand_in(run.settings)]
    ledger.add(result for result in finished if result and result.identity not in ledger)
    for work in works:
        _write_or_print(work, ledger, request)
    for failure in failures:
        print(f"Failed: {failure.command}\n    {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


def list_missing(request: Request) -> int:
    """Print the runs that are missing, the command of each, and what they are expected to cost."""
    ledger = Ledger(request.results / "runs.csv")
    seeds, cards = range(max(request.seeds, seeds_done(request, ledger))), ledger.cards()
    told: set[str] = set()  # runs that several tables need are listed once
    total = 0.0
    for experiment in request.experiments:
        runs = plan(experiment, seeds, request.overrides, cards)
        wanted = [run for run in runs if run.settings.seed < request.seeds and run.identity not in told]
        todo = [run for run in missing(wanted, ledger) if not _is_skipped(run, request.skip)]
        told |= {run.identity for run in todo}
        costs = expected_seconds(runs, todo, ledger)
        seconds = sum(each.seconds or 0 for each in costs)
        total += seconds
        unknown = sum(each.seconds is None for each in costs)
        about = f"about {time_text(seconds)} one at a time" if seconds else ""
        about += f"{'; ' if about else ''}{unknown} of unknown cost" if unknown else ""
        print(f"{experiment.name}: {len(todo)} runs are missing{f' ({about})' if about else ''}.")
        for run, cost in zip(todo, costs, strict=True):
            cell = run.cell
            print(f"  {cell.row}, {cell.column}, {cell.rule}, seed {run.settings.seed}: {cost}\n    {run.command}")
    about = f", about {time_text(total / request.jobs)} with --jobs {request.jobs}" if total else ""
    print(f"Total: {len(told)} runs{about}.")
    return 0


def show(request: Request) -> int:
    """Print tables from the runs that exist, and run nothing."""
    for table in (each.table for each in existing(request)):
        if table.entries:
            Console(width=_width(table)).print(forms.rich(table))
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
    Console(width=None if sys.stdout.isatty() else 160).print(claims.rich(checked))
    return 0


def write_results(request: Request) -> int:
    """Write the tables from the runs that exist, and renew what README.md and docs/ beside the results quote."""
    for table in (each.table for each in existing(request)):
        if table.changed:
            print(f"Your settings make another experiment than {table.experiment.name}: nothing was written.")
        elif table.entries and not table.stand_in:
            write(table, request.results)
    if read := readings_of(request):
        with atomic(request.results / "figures-claims.md") as file:
            file.write(claims.markdown(read))
    if evaluations := evaluated(request.results):
        for ending, text in ((".md", released_markdown(evaluations)), (".csv", released_csv(evaluations))):
            with atomic(request.results / f"released{ending}") as file:
                file.write(text)
    for path in embed_all(request.results.absolute().parent):
        print(f"Renewed: {path}")
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
        print(f"{error} Using synthetic data for its rows; they are shown separately.\n", file=sys.stderr)


def _is_skipped(run: PlannedRun, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(f"{run.cell.row}/{run.cell.column}", pattern) for pattern in patterns)


def _write_or_print(work: Work, ledger: Ledger, request: Request) -> None:
    """Write a table to results; print apart what is not the experiment itself: stand-ins and changed settings."""
    table = build_table(work.experiment, work.runs, ledger)
    if table.entries:
        Console(width=_width(table)).print(forms.rich(table))
        if table.stand_in:
            print("Stand-in runs stay in the run store; nothing was written to results.")
        elif table.changed:
            print("Your settings make another experiment: nothing was written but its rows in runs.csv.")
        else:
            write(table, request.results)
    if work.stand_in:
        apart = build_table(work.experiment, work.stand_in, ledger)
        if apart.entries:
            Console(width=_width(apart)).print(forms.rich(apart))


def write(table: Table, folder: Path) -> None:
    """Write a table, the verdicts on its claims and where the paper lies among its seeds, below the results."""
    path = folder / table.experiment.name
    written = {".md": forms.markdown(table), ".csv": forms.csv(table), ".tex": forms.tex(table)}
    if checked := claims.check(table):
        written["-claims.md"] = claims.markdown(checked)
    if found := standings(table):
        written["-seeds.md"] = standings_markdown(found)
    for ending, text in written.items():
        with atomic(path.with_name(path.name + ending)) as file:
            file.write(text)
    print(f"Written: {path}{', '.join(written)}")


def _width(table: Table) -> int | None:
    """Wide enough for whole cells when the output is not a terminal."""
    return None if sys.stdout.isatty() else 24 + 26 * max(1, len(table.heads()))

"""What is written to the folder of results: tables, verdicts, and what documents quote of them."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from dfa_bench.data.writing import atomic
from dfa_bench.experiments.request import Request
from dfa_bench.reporting import claims, forms, readings
from dfa_bench.reporting.claims import check, claims_grid, tallies, tally_text
from dfa_bench.reporting.embed import embed_all
from dfa_bench.reporting.existing import existing
from dfa_bench.reporting.grid import as_csv, in_parts, markdown, terminal
from dfa_bench.reporting.released import evaluated, released_grid, released_values
from dfa_bench.reporting.seeds import among_seeds, among_seeds_grid
from dfa_bench.reporting.tables import Table


def write_results(request: Request) -> None:
    """Write the tables from the runs that exist, and renew what README.md and docs/ beside the results quote."""
    for table in (each.table for each in existing(request)):
        if table.changed:
            print(f"Your settings make a different experiment from {table.experiment.name}: nothing was written.")
        elif table.entries and not table.trial:
            write_table(table, request.results)
    if read := readings.readings_of(request):
        _write(request.results / "figures-claims", {".md": markdown(claims_grid(read, notes=[readings.NOTE]))})
    if evaluations := evaluated(request.results):
        block = {".md": markdown(released_grid(evaluations)), ".csv": as_csv(released_values(evaluations))}
        _write(request.results / "released", block)
    for path in embed_all(request.results.absolute().parent):
        print(f"Renewed: {path}")


def print_table(table: Table) -> None:
    """Show a table on the terminal, in parts if it is too wide; where there is none, in one wide enough for all."""
    grid = forms.readable(table)
    if sys.stdout.isatty():
        console = Console()
        console.print(*map(terminal, in_parts(grid, console.width)))
    else:
        Console(width=max(100, 24 + 26 * len(table.heads()))).print(terminal(grid))


def print_tables(request: Request) -> None:
    """Show the tables that were asked for, from the runs that exist."""
    for table in (each.table for each in existing(request)):
        if table.entries:
            print_table(table)
        elif table.runs:
            print("\n".join([f"{table.experiment.title}:", *table.remarks()]))
        else:
            which = " with your settings, which make a different experiment" if table.changed else ""
            command = f"`dfa-bench reproduce {table.experiment.name}` does them."
            print(f"{table.experiment.title}: no runs recorded{which}. {command}")


def print_claims(request: Request) -> None:
    """Show what the paper concludes, with verdicts over the runs that exist."""
    over_tables = [each for found in existing(request) for each in check(found.table)]
    read = readings.readings_of(request)
    checked = [*over_tables, *read]
    counts = [tally_text(*counted) for counted in tallies(checked).items()]
    notes = [*counts, claims.NOTE, *([readings.NOTE] if read else [])]
    grid = claims_grid(checked, "What the paper concludes, over our runs", notes)
    Console(width=None if sys.stdout.isatty() else 160).print(terminal(grid, show_lines=True))


def write_table(table: Table, folder: Path) -> None:
    """Write a table, the verdicts on its claims and where the paper lies among its seeds, below the results."""
    path, written = folder / table.experiment.name, files_of(table)
    _write(path, written)
    print(f"Written: {path}{', '.join(written)}")


def files_of(table: Table) -> dict[str, str]:
    """All that is published of a table, by how the name of the file ends."""
    found = forms.files(table)
    if checked := check(table):
        found["-claims.md"] = markdown(claims_grid(checked))
    if among := among_seeds(table):
        found["-seeds.md"] = markdown(among_seeds_grid(among))
    return found


def _write(path: Path, texts: dict[str, str]) -> None:
    for ending, text in texts.items():
        with atomic(path.with_name(path.name + ending)) as file:
            file.write(text)

"""What stands behind a number: its runs, their configuration, and the command that runs them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omegaconf import OmegaConf

from dfa_bench.errors import without_secrets
from dfa_bench.experiments.schema import Cell, Metric
from dfa_bench.reporting.grid import Grid, GridCell, cells
from dfa_bench.reporting.tables import Table, spoken
from dfa_bench.runs.outcome import outcome_settings
from dfa_bench.runs.summary import RunSummary
from dfa_bench.settings.schema import RunSettings

CODE = 7  # digits of a commit


@dataclass(frozen=True)
class CellDetails:
    """One cell of a table.

    Args:
        anchor: its id in the page.
        name: the cell in words.
        command: that runs all its seeds again.
        runs: in the order of their seeds.
        grid: a line for each run.
        configuration: what differs from the defaults, as YAML, without the seed.
    """

    anchor: str
    name: str
    command: str
    runs: Sequence[RunSummary]
    grid: Grid
    configuration: str


def cell_details(table: Table, settings: Mapping[Cell, RunSettings], changes: Sequence[str]) -> dict[Cell, CellDetails]:
    """Of all cells of a table that have runs, in its order.

    Args:
        table: the table.
        settings: of a run of each cell.
        changes: overrides of all runs that change their outcome.
    """
    found = {}
    cells = [cell for cell in table.experiment.cells() if cell in table.runs]
    for number, cell in enumerate(cells, start=1):
        runs = sorted(table.runs[cell], key=lambda run: run.seed)
        found[cell] = CellDetails(
            f"{table.experiment.name.replace('/', '-')}-{number}",
            table.cell_text(cell),
            command(cell, runs, changes),
            runs,
            _grid(runs, table, cell),
            _configuration(settings[cell]),
        )
    return found


def _grid(runs: Sequence[RunSummary], table: Table, cell: Cell) -> Grid:
    metrics = table.experiment.metrics
    return Grid(
        heads=["seed", *map(spoken, metrics), "run", "code", "finished", "protocol, scale"],
        rows=[
            cells(
                run.seed,
                *(_text(run, metric) for metric in metrics.values()),
                GridCell("", label=run.identity),
                GridCell("", label=short(run.commit)),
                run.finished[:10],
                f"{run.protocol}, {run.scale}" + (", diverged" if run.diverged else ""),
            )
            for run in runs
        ],
        title=f"Runs of {table.cell_text(cell)}",
        numbers=range(1, 1 + len(metrics)),
    )


def _text(run: RunSummary, metric: Metric) -> str:
    value = run.value(metric.key)
    return "–" if value is None else f"{value * metric.factor:.{metric.digits}f}"


def command(cell: Cell, runs: Sequence[RunSummary], changes: Sequence[str]) -> str:
    """`dfa-bench run` for all seeds of a cell, as a shell takes it."""
    overrides = [*cell.overrides, *changes]
    if not any(override.startswith("scale=") for override in overrides):
        overrides.append(f"scale={runs[0].scale}")
    seeds = ",".join(str(run.seed) for run in runs)
    line = shlex.join(["dfa-bench", "run", *(["-m"] if len(runs) > 1 else []), *overrides, f"seed={seeds}"])
    return without_secrets(line)


def short(commit: str | None) -> str:
    """A commit in few digits, marked if files differed from it."""
    if not commit:
        return "not from a checkout"
    return commit[:CODE] + (" (changed)" if commit.endswith("-dirty") else "")


def _configuration(settings: RunSettings) -> str:
    values = {name: value for name, value in outcome_settings(settings).items() if name != "seed"}
    return without_secrets(OmegaConf.to_yaml(OmegaConf.create(values)).rstrip())

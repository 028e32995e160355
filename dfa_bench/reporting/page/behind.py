"""What stands behind a number: its runs, their configuration, and the command that runs them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omegaconf import OmegaConf

from dfa_bench.experiments.schema import Cell, Metric
from dfa_bench.reporting.tables import Table, spoken
from dfa_bench.runs.identity import outcome_settings
from dfa_bench.runs.summary import RunSummary
from dfa_bench.settings.schema import RunSettings

CODE = 7  # digits of a commit


@dataclass(frozen=True)
class Behind:
    """One cell of a table.

    Args:
        anchor: its id in the page.
        name: the cell in words.
        command: that runs all its seeds again.
        metrics: names of the table's metrics.
        lines: a run each: the run, and its metrics as texts.
        configuration: what differs from the defaults, as YAML, without the seed.
    """

    anchor: str
    name: str
    command: str
    metrics: Sequence[str]
    lines: Sequence[tuple[RunSummary, Sequence[str]]]
    configuration: str


def behind(table: Table, settings: Mapping[Cell, RunSettings], changes: Sequence[str]) -> dict[Cell, Behind]:
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
        metrics = table.experiment.metrics
        lines = [(run, [_text(run, metric) for metric in metrics.values()]) for run in runs]
        found[cell] = Behind(
            f"{table.experiment.name.replace('/', '-')}-{number}",
            table.cell_text(cell),
            command(cell, runs, changes),
            [spoken(name) for name in metrics],
            lines,
            _configuration(settings[cell]),
        )
    return found


def _text(run: RunSummary, metric: Metric) -> str:
    value = run.value(metric.key)
    return "–" if value is None else f"{value * metric.factor:.{metric.digits}f}"


def command(cell: Cell, runs: Sequence[RunSummary], changes: Sequence[str]) -> str:
    """`dfa-bench run` for all seeds of a cell, as a shell takes it."""
    overrides = [*cell.overrides, *changes]
    if not any(override.startswith("scale=") for override in overrides):
        overrides.append(f"scale={runs[0].scale}")
    seeds = ",".join(str(run.seed) for run in runs)
    return shlex.join(["dfa-bench", "run", *(["-m"] if len(runs) > 1 else []), *overrides, f"seed={seeds}"])


def _configuration(settings: RunSettings) -> str:
    values = {name: value for name, value in outcome_settings(settings).items() if name != "seed"}
    return OmegaConf.to_yaml(OmegaConf.create(values)).rstrip()

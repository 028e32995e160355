"""`dfa-bench curves table2`: the validation metric over training, as the table's file wants it drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

from omegaconf import OmegaConf

from dfa_bench.errors import ConfigError
from dfa_bench.experiments.plan import stored
from dfa_bench.experiments.protocol import apart
from dfa_bench.experiments.request import Request, parse_request
from dfa_bench.experiments.schema import Cell, Experiment
from dfa_bench.reporting.figures.curves import Curve, draw_curves
from dfa_bench.reporting.figures.drawing import save
from dfa_bench.runs.ledger import Ledger
from dfa_bench.settings.rules import rules
from dfa_bench.settings.schema import RunSettings


def main(arguments: Sequence[str]) -> int:
    """Draw the curves of tables from the runs in the store, as results/TABLE-curves.{png,svg}.

    Raises:
        ConfigError: no run of a table is in the store, or `curves.per_step` names what is no number of the runs.
    """
    request = parse_request(arguments, seeds=0)
    for experiment in request.experiments:
        metric = validation_metric(experiment)
        curves = _curves(experiment, metric, request)
        if not curves:
            raise ConfigError(
                f"No run of {experiment.name} with a curve is in the run store, and runs.csv has no curves. "
                f"`dfa-bench reproduce {experiment.name}` does the runs."
            )
        stand_in = any(curve.stand_in for curve in curves)
        over = experiment.curves.over
        heading = f"{experiment.title.partition(':')[0]}: {metric} over {over}{' (STAND-IN DATA)' if stand_in else ''}"
        path = request.results / f"{experiment.name}-curves{apart(stand_in, request.overrides)}"
        figure = draw_curves(curves, over, metric, heading, experiment.curves.log)
        paths = save(figure, path.parent, path.name)
        print(f"Written: {', '.join(map(str, paths))}")
    return 0


def validation_metric(experiment: Experiment) -> str:
    """The validation form of a table's first metric."""
    return next(iter(experiment.metrics.values())).key.replace("test/", "val/")


def _curves(experiment: Experiment, metric: str, request: Request) -> list[Curve]:
    curves = []
    cards = Ledger(request.results / "runs.csv").cards()
    for run, result, record in stored(experiment, request.seeds, request.overrides, cards):
        epoch = span_of_epoch(experiment, run.settings, result.cost.steps / max(1, result.epochs))
        points = [(line["epoch"] * epoch, line[metric]) for line in record.read_metrics() if metric in line]
        stand_in = result.provenance.data.kind != "real"
        for panel, label in _places(experiment, run.cell) if points else []:
            curves.append(Curve(panel, run.cell.rule, label, points, stand_in))
    order = [*experiment.curves.panels]
    return sorted(curves, key=lambda curve: order.index(curve.panel)) if order else curves


def _places(experiment: Experiment, cell: Cell) -> list[tuple[str, str]]:
    """The panels that a cell is drawn in, and its label there."""
    column = experiment.column_text(cell.column, cell.variant)
    if not experiment.curves.panels:
        return [(f"{cell.row}, {column}", rules()[cell.rule].label)]
    place = (cell.row, cell.column, cell.variant)
    first = next(each.rule for each in experiment.cells() if (each.row, each.column, each.variant) == place)
    label = column if cell.rule == first else f"{column} ({rules()[cell.rule].label})"
    return [(name, label) for name, panel in experiment.curves.panels.items() if panel.has(cell)]


def span_of_epoch(experiment: Experiment, settings: RunSettings, steps: float) -> float:
    """How much of what the horizontal axis counts is in an epoch of so many steps.

    Raises:
        ConfigError: `curves.per_step` names what is no number of the run.
    """
    names = experiment.curves.per_step
    if not names:
        return 1
    config = OmegaConf.create(settings.model_dump())
    factors = [OmegaConf.select(config, name) for name in names]
    for name, factor in zip(names, factors, strict=True):
        if not isinstance(factor, (int, float)):
            raise ConfigError(f"experiments/{experiment.name}.yaml: curves.per_step: {name} is no number of the runs.")
    return math.prod(factors) * steps

"""`dfa-bench curves table2`: the validation metric over training, as the table's file wants it drawn."""

from __future__ import annotations

import math

from omegaconf import OmegaConf

from dfa_bench.commands.grammar import table_command
from dfa_bench.errors import ConfigError
from dfa_bench.experiments.plan import file_suffix, stored
from dfa_bench.experiments.request import Request
from dfa_bench.experiments.schema import Cell, Experiment
from dfa_bench.reporting.figures.curves import Curve, draw_curves
from dfa_bench.reporting.figures.drawing import save
from dfa_bench.settings.rules import rules
from dfa_bench.settings.schema import RunSettings


@table_command(
    examples="""
    dfa-bench curves table2
    dfa-bench curves table3 --seeds 1 --results /tmp/curves
    """,
)
def command(request: Request) -> int:
    """Plot the validation metric of a table's runs over training, as DIR/TABLE-curves.{png,svg}.

    There is a panel for each cell, over epochs, or what `curves` in the table's file says (Table 5: over training
    tokens, the columns of a row in one panel). Only runs in the run store have curves; runs.csv keeps final numbers.
    Panels of generated data say so; where all are, the name is TABLE-curves-stand-in.

    \b
    TABLE     3 or table3, ..., all; studies/dna_feedback, ...; or a folder of them: studies, search, first
    OVERRIDE  a Hydra override for all runs: scale=paper, store.root=DIR, data.root=DIR, ...
    """
    for experiment in request.experiments:
        metric = validation_metric(experiment)
        curves = _curves(experiment, metric, request)
        if not curves:
            raise ConfigError(
                f"No run of {experiment.name} in the run store has a curve, and runs.csv has no curves. Do the runs "
                f"with `dfa-bench reproduce {experiment.name}`."
            )
        stand_in, changed = all(curve.stand_in for curve in curves), any(curve.changed for curve in curves)
        over = experiment.curves.over
        heading = f"{experiment.title.partition(':')[0]}: {metric} over {over}{' (STAND-IN DATA)' if stand_in else ''}"
        path = request.results / f"{experiment.name}-curves{file_suffix(stand_in, changed)}"
        figure = draw_curves(curves, over, metric, heading, experiment.curves.log)
        paths = save(figure, path.parent, path.name)
        print(f"Written: {', '.join(map(str, paths))}")
    return 0


def validation_metric(experiment: Experiment) -> str:
    """The validation form of a table's first metric."""
    return next(iter(experiment.metrics.values())).key.replace("test/", "val/")


def _curves(experiment: Experiment, metric: str, request: Request) -> list[Curve]:
    curves = []
    cards = request.ledger().cards()
    for run, result, record in stored(experiment, request.seeds, request.overrides, cards):
        epoch = span_of_epoch(experiment, run.settings, result.steps / max(1, result.epochs))
        points = [(line["epoch"] * epoch, line[metric]) for line in record.read_metrics() if metric in line]
        for panel, label in _places(experiment, run.cell) if points else []:
            curves.append(Curve(panel, run.cell.rule, label, points, result.stand_in, run.changed))
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
        ConfigError: `curves.per_step` names something that is not a number.
    """
    names = experiment.curves.per_step
    if not names:
        return 1
    config = OmegaConf.create(settings.model_dump())
    factors = [OmegaConf.select(config, name) for name in names]
    for name, factor in zip(names, factors, strict=True):
        if not isinstance(factor, (int, float)):
            raise ConfigError(
                f"experiments/{experiment.name}.yaml: curves.per_step: {name} is not a number in the runs' settings."
            )
    return math.prod(factors) * steps

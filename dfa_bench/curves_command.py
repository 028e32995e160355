"""`dfa-bench curves table2`: the watched metric over epochs, a panel for each column of a table."""

from __future__ import annotations

from collections.abc import Sequence

from dfa_bench.errors import ConfigError
from dfa_bench.plan import stored
from dfa_bench.reporting.curves import Curve, draw_curves
from dfa_bench.reporting.experiment import Experiment
from dfa_bench.reporting.figures import save
from dfa_bench.request import Request, parse_request


def main(arguments: Sequence[str]) -> int:
    """Draw the curves of tables from the runs in the store, as results/TABLE-curves.{png,svg}.

    Raises:
        ConfigError: no run of a table is in the store.
    """
    request = parse_request(arguments, seeds=0)
    for experiment in request.experiments:
        metric = validation_metric(experiment)
        curves = _curves(experiment, metric, request)
        if not curves:
            raise ConfigError(
                f"No run of {experiment.name} is in the run store, and runs.csv has no curves. "
                f"`dfa-bench reproduce {experiment.name}` does the runs."
            )
        stand_in = any(curve.stand_in for curve in curves)
        heading = f"{experiment.title.partition(':')[0]}: {metric} over epochs"
        heading += " (STAND-IN DATA)" if stand_in else ""
        path = request.results / f"{experiment.name}-curves{'-stand-in' if stand_in else ''}"
        paths = save(draw_curves(curves, metric, heading), path.parent, path.name)
        print(f"Written: {', '.join(map(str, paths))}")
    return 0


def validation_metric(experiment: Experiment) -> str:
    """The validation form of a table's first metric."""
    return next(iter(experiment.metrics.values())).key.replace("test/", "val/")


def _curves(experiment: Experiment, metric: str, request: Request) -> list[Curve]:
    curves = []
    for run, result, record in stored(experiment, request.seeds, request.overrides):
        points = [(line["epoch"], line[metric]) for line in record.read_metrics() if metric in line]
        cell = run.cell
        column = experiment.column_text(cell.column, cell.variant)
        stand_in = result.provenance.data.kind != "real"
        curves.append(Curve(f"{cell.row}, {column}", cell.rule, result.seed, points, stand_in))
    return curves

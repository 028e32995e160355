"""The report's values from the tables, figures and documents that exist."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from dfa_bench.experiments.request import Request
from dfa_bench.reporting import claims
from dfa_bench.reporting.bootstrap import bootstrap_grid, read_bootstrap
from dfa_bench.reporting.consistency import consistency_grid
from dfa_bench.reporting.existing import Existing
from dfa_bench.reporting.grid import Grid
from dfa_bench.reporting.page.cost import cost_grid
from dfa_bench.reporting.page.details import cell_details
from dfa_bench.reporting.page.document import QuotedDocument, read_document
from dfa_bench.reporting.page.page import Page, Section
from dfa_bench.reporting.page.pictures import Picture, picture
from dfa_bench.reporting.readings import read_records, readings_of
from dfa_bench.reporting.released import evaluated, released_grid
from dfa_bench.reporting.seeds import among_seeds, among_seeds_grid
from dfa_bench.settings.overrides import is_whereabouts

DEVIATIONS = "docs/fidelity.md"  # beside the results
# By name: title, what it shows, the command that draws it.
SHOWN_FIGURES = {
    "figure1": (
        "Figure 1: held-out views",
        "Renders of held-out views by NeRF trained with BP, with DFA and shallow, beside the photograph; error and "
        "depth below each.",
        "dfa-bench figure 1",
    ),
    "figure2": (
        "Figure 2: the hidden layer of GraphConv on Cora",
        "Three clouds of points, one per rule, coloured by class: separate clusters with BP and DFA, one mixed cloud "
        "with shallow training.",
        "dfa-bench figure 2",
    ),
    "alignment": (
        "Alignment with BP's gradients (appendix A)",
        "Cosine between DFA's and BP's gradients over training, layer by layer, a panel for each model.",
        "dfa-bench figure alignment",
    ),
}


def build_page(found: Sequence[Existing], request: Request) -> Page:
    """What the report shows: every table with runs, what was made of them, and the figures beside them."""
    shown = [each for each in found if each.table.runs or each.table.experiment.claims]
    real = [each for each in shown if not each.table.trial]
    studies = [each for each in real if each.table.experiment.kind != "paper" and each.table.runs]
    return Page(
        tables=[_section(each, request) for each in real if each.table.experiment.kind == "paper"],
        studies=[_section(each, request) for each in studies],
        stand_ins=[_section(each, request) for each in shown if each.table.trial and each.table.runs],
        readings=readings_of(request),
        figures=[
            drawn
            for name, (title, alt, command) in SHOWN_FIGURES.items()
            if (drawn := picture(request.results, name, title, alt, command))
        ],
        deviations=_deviations(request.results.absolute().parent / DEVIATIONS),
    )


def _section(found: Existing, request: Request) -> Section:
    """One table with its claims, the runs behind it, curves and cost."""
    table = found.table
    name, title = table.experiment.name, table.experiment.title
    more = _tables_beside(name, request.results)
    if among := among_seeds(table):
        more["Was it a lucky seed? The paper's numbers among ours"] = among_seeds_grid(among)
    return Section(
        anchor=name.replace("/", "-"),
        table=table,
        checked=claims.check(table),
        details=cell_details(table, found.settings, [each for each in request.overrides if not is_whereabouts(each)]),
        curves=None if table.trial else _curves(request.results, name, title),
        more=[] if table.trial else [dataclasses.replace(grid, title=about) for about, grid in more.items()],
        cost=None if table.experiment.kind != "paper" else cost_grid(table, title.partition(":")[0]),
    )


def _tables_beside(name: str, results: Path) -> dict[str, Grid]:
    """Further tables about an experiment, from their values below the results, by title."""
    found = {}
    if name == "table1":
        if evaluations := evaluated(results):
            found["The authors' own DFA models, evaluated here"] = released_grid(evaluations)
        if warped := [each for each in read_records(results / "figure1.json") if "neighbour" in each]:
            title = "Do the views agree? Multi-view consistency of the renders of Figure 1"
            found[title] = consistency_grid(warped)
    if values := read_bootstrap(results / f"{name}-bootstrap.csv"):
        found["How certain is it? Intervals over test rows"] = bootstrap_grid(values)
    return found


def _curves(results: Path, name: str, title: str) -> Picture | None:
    about = title.partition(":")[0]
    alt = f"{about}: the validation metric over training, one line a run, the rules over each other."
    return picture(results, f"{name}-curves", f"{about}: learning curves", alt, f"dfa-bench curves {name}")


def _deviations(path: Path) -> QuotedDocument | None:
    return read_document(path.read_text(), "Paper, released code, and this suite") if path.is_file() else None

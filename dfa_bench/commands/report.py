"""`dfa-bench report`: results/report.html, from the records of real runs of all tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dfa_bench.commands.grammar import table_command
from dfa_bench.experiments.plan import apart
from dfa_bench.experiments.request import EVERYTHING, Request
from dfa_bench.reporting import claims
from dfa_bench.reporting.existing import Existing, existing
from dfa_bench.reporting.page.behind import behind
from dfa_bench.reporting.page.cost import cost_lines
from dfa_bench.reporting.page.page import Page, Section
from dfa_bench.reporting.page.pictures import Picture, picture
from dfa_bench.reporting.page.prose import Prose, read_table
from dfa_bench.reporting.page.render import render
from dfa_bench.reporting.readings import readings_of
from dfa_bench.reporting.seeds import standings, standings_markdown
from dfa_bench.runs.record import atomic
from dfa_bench.settings.compose import compose_run, typed
from dfa_bench.settings.overrides import key_of
from dfa_bench.training.loggers import publish_results

DEVIATIONS = "docs/fidelity.md"  # beside the results
FIGURES = {
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
# Further tables about the same runs, by the experiment that they belong to.
MORE = {
    "table1": [
        ("released.md", "The authors' own DFA models, evaluated here"),
        ("figure1.md", "Do views agree? Multi-view consistency of the renders of Figure 1"),
    ],
    "table2": [("table2-bootstrap.md", "How sure is it? Intervals over test rows")],
}


@table_command(
    default=EVERYTHING,
    examples="""
    dfa-bench report
    dfa-bench report all scale=smoke
    dfa-bench report logger=wandb
    """,
)
def command(request: Request) -> int:
    """Write DIR/report.html from the recorded runs: one file that needs no network. Runs nothing.

    It shows the paper's claims with verdicts, each table beside the paper's numbers, the curves and figures in DIR, the
    cost, and for every number its runs, seeds, configuration and the command that repeats it. With logger=wandb all
    results are logged as an artifact of Weights & Biases too.

    \b
    TABLE     3 or table3, ..., all; studies/dna_feedback, ...; or a folder of them (default: all, studies, search)
    OVERRIDE  a Hydra override for all runs: scale=smoke (synthetic data, in a section of their own), store.root=DIR,
              data.root=DIR, logger=wandb, ...
    """
    found = existing(request)
    changed = any(each.table.changed for each in found)
    text = render(build_page(found, request))
    path = request.results / f"report{apart(False, changed)}.html"
    with atomic(path) as file:
        file.write(text)
    print(f"Written: {path} ({len(text.encode()) / 2**20:.1f} MiB)")
    if changed:
        print("Your settings make another experiment than the paper's; its own report is left as it was.")
    settings = typed(compose_run([each for each in request.overrides if key_of(each).startswith(("store.", "logger"))]))
    if settings.logger.name == "wandb":
        folder = Path(settings.store.root)
        folder.mkdir(parents=True, exist_ok=True)
        publish_results(settings.logger, request.results, folder)
    return 0


def build_page(found: Sequence[Existing], request: Request) -> Page:
    """What the report shows: every table with runs, what was made of them, and the figures beside them."""
    shown = [each for each in found if each.table.runs or each.table.experiment.claims]
    real = [each for each in shown if not each.table.stand_in]
    studies = [each for each in real if "/" in each.table.experiment.name and each.table.runs]
    return Page(
        tables=[section(each, request) for each in real if "/" not in each.table.experiment.name],
        studies=[section(each, request) for each in studies],
        stand_ins=[section(each, request) for each in shown if each.table.stand_in and each.table.runs],
        readings=readings_of(request),
        figures=[
            drawn
            for name, (title, alt, command) in FIGURES.items()
            if (drawn := picture(request.results, name, title, alt, command))
        ],
        deviations=_document(request.results.absolute().parent / DEVIATIONS, "Paper, released code, and this suite"),
    )


def section(found: Existing, request: Request) -> Section:
    """One table with its claims, the runs behind it, curves and cost."""
    table = found.table
    name = table.experiment.name
    more = [_document(request.results / file, title) for file, title in MORE.get(name, [])]
    if among := standings(table):
        more.append(read_table(standings_markdown(among), "Is it a good seed? The paper's numbers among ours"))
    return Section(
        anchor=name.replace("/", "-"),
        table=table,
        checked=claims.check(table),
        behind=behind(table, found.settings, request.overrides),
        curves=None if table.stand_in else _curves(request.results, table.experiment.name, table.experiment.title),
        more=[] if table.stand_in else [each for each in more if each],
        cost=[] if "/" in name else cost_lines(table),
    )


def _curves(results: Path, name: str, title: str) -> Picture | None:
    about = title.partition(":")[0]
    alt = f"{about}: the validation metric over training, one line a run, BP, DFA and shallow training over each other."
    return picture(results, f"{name}-curves", f"{about}: learning curves", alt, f"dfa-bench curves {name}")


def _document(path: Path, title: str) -> Prose | None:
    return read_table(path.read_text(), title) if path.is_file() else None

"""`dfa-bench report`: results/report.html, from the records of real runs of all tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dfa_bench.commands.grammar import table_command
from dfa_bench.experiments.request import EVERYTHING

if TYPE_CHECKING:
    from dfa_bench.experiments.request import Request


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

    A report of some tables only is written as DIR/report-part.html.

    It shows the paper's claims with verdicts, each table beside the paper's numbers, the curves and figures in DIR, the
    cost, and for every number its runs, seeds, configuration and the command that repeats it. With logger=wandb all
    results are logged as an artifact of Weights & Biases too.

    \b
    TABLE     3 or table3, ..., all; studies/dna_feedback, ...; or a folder of them (default: all, studies, search)
    OVERRIDE  a Hydra override for all runs: scale=smoke (synthetic data, in a section of their own), store.root=DIR,
              data.root=DIR, logger=wandb, ...
    """
    from dfa_bench.data.writing import atomic
    from dfa_bench.experiments.plan import file_suffix
    from dfa_bench.reporting.existing import existing
    from dfa_bench.reporting.page.build import build_page
    from dfa_bench.reporting.page.render import render

    found = existing(request)
    changed = any(each.table.changed for each in found)
    text = render(build_page(found, request))
    part = "" if request.whole else "-part"
    path = request.results / f"report{part}{file_suffix(False, changed)}.html"
    with atomic(path) as file:
        file.write(text)
    print(f"Written: {path} ({len(text.encode()) / 2**20:.1f} MiB)")
    if changed:
        print("Your settings make a different experiment from the paper's; the paper's report was not changed.")
    if logger := [each for each in request.overrides if each.startswith("logger")]:
        _publish(request, logger)
    return 0


def _publish(request: Request, logger: Sequence[str]) -> None:
    """Log all results as an artifact, where the overrides of the logger ask for it."""
    from dfa_bench.settings.compose import compose_settings
    from dfa_bench.settings.overrides import whereabouts
    from dfa_bench.training.loggers import publish_results

    settings = compose_settings(logger).logger
    if settings.name == "wandb":
        folder = Path(whereabouts(request.overrides)[0].root)
        folder.mkdir(parents=True, exist_ok=True)
        publish_results(settings, request.results, folder)

"""`dfa-bench report`: results/report.html, from the records of real runs of all tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dfa_bench.commands.reproduce import EVERYTHING
from dfa_bench.experiments.plan import apart
from dfa_bench.experiments.request import parse_request
from dfa_bench.reporting.existing import existing
from dfa_bench.reporting.page.build import build_page
from dfa_bench.reporting.page.render import render
from dfa_bench.runs.record import atomic
from dfa_bench.settings.compose import compose_run, typed
from dfa_bench.settings.overrides import key_of
from dfa_bench.training.loggers import publish_results


def main(arguments: Sequence[str]) -> int:
    """Write the report from the runs that exist; with logger=wandb publish what lies in the results. Runs nothing."""
    request = parse_request(arguments, seeds=0, default=EVERYTHING)
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

"""From the report's values to one HTML file that needs nothing else."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from dfa_bench.reporting.page.intervals import bars
from dfa_bench.reporting.page.page import Page

SYMBOLS = {"supported": "✓", "not supported": "✗", "undecided": "≈", "not tested": "–"}  # a verdict without colours


def render(page: Page) -> str:
    """The same page gives the same text."""
    template = environment().get_template("report.html.jinja")
    return template.render(page=page, bars=bars, symbols=SYMBOLS).strip() + "\n"


def environment() -> Environment:
    """Templates in which all texts are escaped."""
    return Environment(
        loader=PackageLoader("dfa_bench.reporting.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

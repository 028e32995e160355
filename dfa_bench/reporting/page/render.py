"""From the report's values to one HTML file that needs nothing else."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from dfa_bench.reporting.page.intervals import bars
from dfa_bench.reporting.page.page import Page
from dfa_bench.settings.rules import rules

# A verdict without colours.
SYMBOLS = {
    "supported": "✓",
    "seen once": "(✓)",
    "contradicted": "✗",
    "contradicted at reduced scale": "(✗)",
    "undecided": "≈",
    "not tested": "–",
}

# The dash styles of curves, as backgrounds.
DASHES = {
    "-": "var(--rule)",
    "--": "repeating-linear-gradient(90deg, var(--rule) 0 .3rem, transparent 0 .4rem)",
    ":": "repeating-linear-gradient(90deg, var(--rule) 0 .15rem, transparent 0 .3rem)",
    "-.": "repeating-linear-gradient(90deg, var(--rule) 0 .3rem, transparent 0 .4rem, var(--rule) 0 .5rem, "
    "transparent 0 .6rem)",
}


def render(page: Page) -> str:
    """The same page gives the same text."""
    template = environment().get_template("report.html.jinja")
    return template.render(page=page, bars=bars, symbols=SYMBOLS, rules=rules(), dashes=DASHES).strip() + "\n"


def environment() -> Environment:
    """Templates in which all texts are escaped."""
    return Environment(
        loader=PackageLoader("dfa_bench.reporting.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

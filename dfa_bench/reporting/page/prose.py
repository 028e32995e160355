"""Tables of written Markdown (docs/, results/), for a page that quotes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

CELL = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Prose:
    """One table of a document, and the paragraphs behind it; cells as safe HTML."""

    title: str
    heads: Sequence[Markup]
    rows: Sequence[Sequence[Markup]]
    remarks: Sequence[Markup]


def read_table(text: str, title: str) -> Prose | None:
    """The first table of a Markdown document with what stands below it up to the next heading; None without one."""
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith("|")), None)
    if start is None:
        return None
    end = next((number for number in range(start, len(lines)) if not lines[number].startswith("|")), len(lines))
    heads, _, *rows = (_cells(line) for line in lines[start:end])
    below = "\n".join(lines[end:]).partition("\n#")[0].partition("\n<!--")[0]
    return Prose(title, heads, rows, [inline(" ".join(part.split())) for part in below.split("\n\n") if part.strip()])


def _cells(line: str) -> list[Markup]:
    return [inline(cell.strip().replace("\\|", "|")) for cell in CELL.split(line.strip())[1:-1]]


def inline(text: str) -> Markup:
    """Code, bold, emphasis and line breaks; of a link only its text, since the page stands alone."""
    safe = str(escape(text))
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    safe = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe)
    safe = re.sub(r"(?<![\w*])\*([^\s*][^*]*)\*(?![\w*])", r"<em>\1</em>", safe)
    safe = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", safe)
    return Markup(safe.replace("&lt;br&gt;", "<br>"))  # all else has been escaped

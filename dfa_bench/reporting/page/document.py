"""A written document (docs/) on a page that stands alone: its first table, and what stands below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from dfa_bench.reporting.grid import Grid, GridCell


@dataclass(frozen=True)
class QuotedDocument:
    """Texts as safe HTML."""

    grid: Grid
    below: Markup


def read_document(text: str, title: str) -> QuotedDocument | None:
    """The first table of a Markdown document, with what follows up to the next heading or comment; None without one."""
    reader = MarkdownIt("commonmark").enable("table")
    tokens = reader.parse(text)
    kinds = [token.type for token in tokens]
    if "table_open" not in kinds:
        return None
    start, end = kinds.index("table_open"), kinds.index("table_close")
    rest = range(end + 1, len(tokens))
    stop = next((number for number in rest if kinds[number] in ("heading_open", "html_block")), len(tokens))
    heads, *rows = _rows(tokens[start:end], reader)
    grid = Grid(heads, [[GridCell(cell) for cell in row] for row in rows], title)
    return QuotedDocument(grid, _html(tokens[end + 1 : stop], reader))


def _rows(tokens: Sequence[Token], reader: MarkdownIt) -> list[list[Markup]]:
    rows: list[list[Markup]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(_html([token], reader))
    return rows


def _html(tokens: Sequence[Token], reader: MarkdownIt) -> Markup:
    """Without links and pictures, which lead out of the page, and with HTML as the text that it is written in."""
    for token in tokens:
        token.children = [child for each in token.children or [] if (child := _alone(each))]
    return Markup(reader.renderer.render(tokens, reader.options, {}).strip())  # noqa: S704  that is what it is for


def _alone(token: Token) -> Token | None:
    if token.type in ("link_open", "link_close"):
        return None
    if token.type in ("image", "html_inline"):
        return Token("text", "", 0, content=token.content)
    return token

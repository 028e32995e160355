"""A table as it is shown, whatever it is about, and its forms for terminals and files; page/grid.html.jinja has HTML.

What makes a table returns a Grid; its forms alone know how a bar, a bracket or a backslash is written in them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from rich.cells import cell_len
from rich.console import Group
from rich.markup import escape
from rich.table import Table as RichTable

BORDER = 3  # characters of a column on a terminal beside its text
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}
# How the terminal shows a look.
COLOURS = {
    "verdict supported": "green",
    "verdict seen-once": "cyan",
    "verdict contradicted": "red",
    "verdict contradicted-at-reduced-scale": "magenta",
    "verdict undecided": "yellow",
    "verdict not-tested": "dim",
}


@dataclass(frozen=True)
class GridCell:
    """One place of a grid."""

    text: str
    aside: str = ""  # behind the text, as bold as it; on the page below it and small
    quiet: str = ""  # a further line
    label: str = ""  # a name before the text, as code
    bold: bool = False
    look: str = ""  # CSS classes on the page, "verdict supported" or "rule dfa"; the terminal has colours for some
    flag: str = ""  # before the quiet line, to make it stand out; on the page only
    link: str = ""  # an anchor of the page

    @property
    def whole(self) -> str:
        return " ".join(part for part in (self.text, self.aside) if part)


@dataclass(frozen=True)
class Grid:
    """A table.

    Args:
        heads: of the columns.
        rows: with a cell for each column.
        title: above it.
        notes: paragraphs below it.
        numbers: which columns are of numbers, and stand to the right.
        grouped: rows that begin with the same text belong together.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[GridCell]]
    title: str = ""
    notes: Sequence[str] = ()
    numbers: Collection[int] = ()
    grouped: bool = False


def cells(*values: object) -> list[GridCell]:
    """A row: cells as they are, other values as text, None as an empty cell."""
    return [value if isinstance(value, GridCell) else GridCell("" if value is None else str(value)) for value in values]


def terminal(grid: Grid, show_lines: bool = False) -> Group:
    shown = RichTable(title=escape(grid.title) or None, show_lines=show_lines)
    for number, head in enumerate(grid.heads):
        is_number = number in grid.numbers
        width = _width(grid, number) if is_number else None
        shown.add_column(escape(head), justify="right" if is_number else "left", overflow="fold", min_width=width)
    ends = [grid.grouped and row[0].text != following[0].text for row, following in pairwise(grid.rows)]
    for row, last in zip(grid.rows, [*ends, grid.grouped], strict=False):
        shown.add_row(*map(_in_terminal, row), end_section=last)
    return Group(shown, *(f"[dim]{escape(note)}[/dim]" for note in grid.notes))


def in_parts(grid: Grid, width: int) -> list[Grid]:
    """A table of numbers as the tables that a terminal needs to show no number in pieces.

    Each has the columns that name the rows, and those rows that say something in it.

    Args:
        grid: with columns of numbers behind those that name the rows; without, it stays whole.
        width: of the terminal, in characters.
    """
    first = min(grid.numbers, default=len(grid.heads))
    needed = [BORDER + max(_longest_word(head), _width(grid, at)) for at, head in enumerate(grid.heads)]
    left = width - 1 - min(sum(needed[:first]), width // 3)  # a long name is better in several lines than a number
    parts: list[list[int]] = [[]]
    for at in range(first, len(grid.heads)):
        if parts[-1] and sum(needed[each] for each in [*parts[-1], at]) > left:
            parts.append([])
        parts[-1].append(at)
    if len(parts) == 1:
        return [grid]
    return [
        replace(
            _with_columns(grid, first, part),
            title=grid.title if part is parts[0] else "",
            notes=grid.notes if part is parts[-1] else (),
        )
        for part in parts
    ]


def _with_columns(grid: Grid, first: int, part: Sequence[int]) -> Grid:
    columns = [*range(first), *part]
    rows = [row for row in grid.rows if any(row[at].whole or row[at].quiet for at in part)]
    return replace(
        grid,
        heads=[grid.heads[at] for at in columns],
        rows=[[row[at] for at in columns] for row in rows],
        numbers=range(first, len(columns)),
    )


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _width(grid: Grid, column: int) -> int:
    """Length of the longest line in the cells of a column."""
    cells_of_column = [row[column] for row in grid.rows]
    return max((cell_len(line) for cell in cells_of_column for line in (cell.label, cell.whole, cell.quiet)), default=0)


def _in_terminal(cell: GridCell) -> str:
    text = escape(cell.whole)
    for style in ("bold" if cell.bold else "", COLOURS.get(cell.look, "")):
        text = f"[{style}]{text}[/{style}]" if style and text else text
    label = f"[bold]{escape(cell.label)}[/bold]\n" if cell.label else ""
    return label + text + (f"\n[dim]{escape(cell.quiet)}[/dim]" if cell.quiet else "")


def markdown(grid: Grid) -> str:
    out = [f"## {_in_markdown(grid.title)}", ""] if grid.title else []
    out.append("|" + "".join(f" {_in_markdown(head)} |" if head else " |" for head in grid.heads))
    out.append("|" + " --- |" * len(grid.heads))
    out += [f"| {' | '.join(map(_cell_in_markdown, row))} |" for row in grid.rows]
    for note in grid.notes:
        out += ["", _without_markup(note)]
    return "\n".join(out) + "\n"


def _cell_in_markdown(cell: GridCell) -> str:
    text = _in_markdown(cell.whole)
    text = f"**{text}**" if cell.bold and text else text
    label = f"`{_in_markdown(cell.label)}`: " if cell.label else ""
    return label + text + (f"<br>{_in_markdown(cell.quiet)}" if cell.quiet else "")


def _in_markdown(text: str) -> str:
    """Text of one line, whose bars and brackets are only characters."""
    return _without_markup(text.replace("\n", " ").replace("\\", "\\\\").replace("|", "\\|"))


def _without_markup(text: str) -> str:
    """Neither HTML nor links, which might lead to a script."""
    return text.replace("<", "&lt;").replace("](", "]\\(")


def latex(grid: Grid) -> str:
    """A tabular for booktabs; title and notes are its comment."""
    about = " ".join([*([f"{grid.title}."] if grid.title else []), *grid.notes]).replace("\n", " ")
    columns = "".join("r" if number in grid.numbers else "l" for number in range(len(grid.heads)))
    heads = " &".join(f" {in_latex(head)}" if head else "" for head in grid.heads)
    out = [f"% {about}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", rf"{heads} \\", r"\midrule"]
    for row in grid.rows:
        texts = [_cell_in_latex(cell, number in grid.numbers) for number, cell in enumerate(row)]
        out.append(rf"{' & '.join(texts)} \\")
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _cell_in_latex(cell: GridCell, is_number: bool) -> str:
    text = in_latex(cell.text)
    if is_number and text:
        text = text.replace("±", r"\pm")
        text = rf"$\mathbf{{{text}}}$" if cell.bold else f"${text}$"
    elif cell.bold and text:
        text = rf"\textbf{{{text}}}"
    around = in_latex(cell.label), text, in_latex(cell.aside), in_latex(cell.quiet)
    return " ".join(part for part in around if part)


def in_latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text.replace("\n", " "))


def as_csv(grid: Grid) -> str:
    """Heads and texts only."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(grid.heads)
    writer.writerows([cell.text for cell in row] for row in grid.rows)
    return out.getvalue()

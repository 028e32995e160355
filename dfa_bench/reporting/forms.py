"""The forms of a table of an experiment: as people read it, as LaTeX prints it, as programs read it."""

from __future__ import annotations

from collections.abc import Mapping

from dfa_bench.experiments.schema import Cell, Variant
from dfa_bench.reporting.grid import Grid, GridCell, as_csv, cells, latex, markdown
from dfa_bench.reporting.tables import Entry, Table
from dfa_bench.settings.rules import rules

CSV_COLUMNS = ["table", "row", "column", "rule", "variant", "metric", "mean", "std", "n", "paper", "scale", "protocol"]


def readable(table: Table, links: Mapping[Cell, str] | None = None) -> Grid:
    """A line for each row and rule; a cell is our mean and, below it, the paper's number.

    Args:
        table: the table.
        links: anchors of the page, by cell.
    """
    heads = table.heads()
    rows = [
        [
            GridCell(table.row_text(line)),
            GridCell(rules()[line[1]].label, look=f"rule {line[1]}"),
            *(_readable_cell(table, line, head, links or {}) for head in heads),
        ]
        for line in table.lines()
    ]
    return Grid(
        heads=["", "", *(table.head_text(head) for head in heads)],
        rows=rows,
        title=table.experiment.title,
        notes=[" ".join([table.caption(), *table.remarks()])],
        numbers=range(2, 2 + len(heads)),
        grouped=True,
    )


def _readable_cell(
    table: Table, line: tuple[str, str], head: tuple[str, Variant, str], links: Mapping[Cell, str]
) -> GridCell:
    cell, entry = table.cell_at(line, head), table.entry(line, head)
    if cell is None or entry is None:
        return GridCell("")
    mean, paper = table.mean_text(entry, head[2]), table.paper_text(entry, head[2])
    flag = "" if entry.paper is None or not table.is_off(entry) else "▲" if entry.mean > entry.paper else "▼"
    return GridCell(
        mean, table.seeds_text(entry), paper, bold=table.is_bold(line, head), flag=flag, link=links.get(cell, "")
    )


def printed(table: Table) -> Grid:
    """As short as a paper wants it: mean ± std [seeds] (paper)."""
    heads = table.heads()
    return Grid(
        heads=["", "", *(table.head_text(head) for head in heads)],
        rows=[
            [
                *cells(table.row_text(line), rules()[line[1]].label),
                *(_printed_cell(table, line, head) for head in heads),
            ]
            for line in table.lines()
        ],
        title=table.experiment.title,
        notes=["Mean +- std [number of seeds] (paper).", table.caption()],
        numbers=range(2, 2 + len(heads)),
    )


def _printed_cell(table: Table, line: tuple[str, str], head: tuple[str, Variant, str]) -> GridCell:
    entry = table.entry(line, head)
    if entry is None:
        return GridCell("")
    digits = table.experiment.metrics[head[2]].digits
    printed = "" if entry.paper is None else f" ({entry.paper:.{digits}f})"
    if entry.paper is None and entry.code is not None:
        printed = f" (code {entry.code:.{digits}f})"
    return GridCell(table.mean_text(entry, head[2]), f"[{len(entry.values)}]{printed}", bold=table.is_bold(line, head))


def values(table: Table) -> Grid:
    """A line for each number, unrounded as far as anybody may want it."""
    return Grid(
        CSV_COLUMNS, [_values_line(table, cell, metric, entry) for (cell, metric), entry in table.entries.items()]
    )


def _values_line(table: Table, cell: Cell, metric: str, entry: Entry) -> list[GridCell]:
    where = [table.experiment.name, cell.row, cell.column, cell.rule, cell.variant, metric]
    std = None if entry.std is None else round(entry.std, 6)
    return cells(*where, round(entry.mean, 6), std, len(entry.values), entry.paper, entry.scale, entry.protocol)


def files(table: Table) -> dict[str, str]:
    """What is published of a table's numbers, by the ending of its file."""
    return {".md": markdown(readable(table)), ".csv": as_csv(values(table)), ".tex": latex(printed(table))}

"""The forms of a table of an experiment: as people read it, as LaTeX prints it, as programs read it."""

from __future__ import annotations

from collections.abc import Mapping

from dfa_bench.experiments.plan import marked
from dfa_bench.experiments.schema import Cell
from dfa_bench.reporting.grid import Grid, GridCell, as_csv, cells, latex, markdown
from dfa_bench.reporting.tables import Entry, Head, Table, TableLine
from dfa_bench.settings.rules import rules

CSV_COLUMNS = ["table", "row", "column", "rule", "variant", "metric", "mean", "std", "n", "paper", "scale", "protocol"]


def readable(table: Table, links: Mapping[Cell, str] | None = None) -> Grid:
    """A line for each row and rule, or for each row; a cell is our mean and, below it, the paper's number.

    Args:
        table: the table.
        links: anchors of the page, by cell.
    """
    heads, lines = table.heads(), table.lines()
    first = [[GridCell(table.row_text(line)), *_rule_cell(line)] for line in lines]
    return Grid(
        heads=[*_first_heads(table), *(table.head_text(head) for head in heads)],
        rows=[
            [*before, *(_readable_cell(table, line, head, links or {}) for head in heads)]
            for before, line in zip(first, lines, strict=True)
        ],
        title=table.experiment.title,
        notes=[" ".join([table.caption(), *table.remarks()])],
        numbers=_numbers(table),
        grouped=not table.experiment.rules_across,
    )


def _first_heads(table: Table) -> list[str]:
    return [""] if table.experiment.rules_across else ["", ""]


def _numbers(table: Table) -> range:
    first = len(_first_heads(table))
    return range(first, first + len(table.heads()))


def _rule_cell(line: TableLine) -> list[GridCell]:
    return [GridCell(rules()[line.rule].label, look=f"rule {line.rule}")] if line.rule else []


def _readable_cell(table: Table, line: TableLine, head: Head, links: Mapping[Cell, str]) -> GridCell:
    cell, entry = table.cell_at(line, head), table.entry(line, head)
    if cell is None or entry is None:
        return GridCell("")
    mean, paper = table.mean_text(entry, head.metric), table.paper_text(entry, head.metric)
    flag = "" if entry.paper is None or not table.is_off(entry) else "▲" if entry.mean > entry.paper else "▼"
    bold = table.is_bold(cell, head.metric)
    return GridCell(mean, table.seeds_text(entry), paper, bold=bold, flag=flag, link=links.get(cell, ""))


def printed(table: Table) -> Grid:
    """As short as a paper wants it: mean ± std [seeds] (paper)."""
    heads = table.heads()
    return Grid(
        heads=[*_first_heads(table), *(table.head_text(head) for head in heads)],
        rows=[
            [
                *cells(table.row_text(line), *(cell.text for cell in _rule_cell(line))),
                *(_printed_cell(table, line, head) for head in heads),
            ]
            for line in table.lines()
        ],
        title=table.experiment.title,
        notes=["Mean +- std [number of seeds] (paper).", table.caption()],
        numbers=_numbers(table),
    )


def _printed_cell(table: Table, line: TableLine, head: Head) -> GridCell:
    cell, entry = table.cell_at(line, head), table.entry(line, head)
    if cell is None or entry is None:
        return GridCell("")
    digits = table.experiment.metrics[head.metric].digits
    printed = "" if entry.paper is None else f" ({entry.paper:.{digits}f})"
    if entry.paper is None and entry.code is not None:
        printed = f" (code {entry.code:.{digits}f})"
    over = f" over {', '.join(entry.over)}" if entry.over else ""
    aside = f"[{len(entry.values)}]{printed}{over}"
    return GridCell(table.mean_text(entry, head.metric), aside, bold=table.is_bold(cell, head.metric))


def values(table: Table) -> Grid:
    """A line for each number, unrounded as far as anybody may want it."""
    return Grid(
        CSV_COLUMNS, [_values_line(table, cell, metric, entry) for (cell, metric), entry in table.entries.items()]
    )


def _values_line(table: Table, cell: Cell, metric: str, entry: Entry) -> list[GridCell]:
    row = f"{cell.row}, mean of {', '.join(entry.over)}" if entry.over else cell.row
    row = marked(row, cell.row in table.stand_in_rows)
    where = [table.experiment.name, row, cell.column, cell.rule, cell.variant, metric]
    std = None if entry.std is None else round(entry.std, 6)
    return cells(*where, round(entry.mean, 6), std, len(entry.values), entry.paper, entry.scale, entry.protocol)


def files(table: Table) -> dict[str, str]:
    """What is published of a table's numbers, by the ending of its file."""
    return {".md": markdown(readable(table)), ".csv": as_csv(values(table)), ".tex": latex(printed(table))}

"""How sure Table 2's differences are: the values that `dfa-bench bootstrap` keeps, and the table of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dfa_bench.errors import ConfigError
from dfa_bench.reporting.grid import Grid, GridCell, cells

if TYPE_CHECKING:
    from dfa_bench.tasks.click_through.bootstrap import Difference

DRAWS = 500
MARGIN = 0.001  # of AUC, the paper's bold
COLUMNS = ["table", "cell", "difference", "low", "high", "error", "rows", "rows_to_decide"]
HEADS = ["AUC − BP's AUC", "95% interval over test rows", "standard error", "test rows", "test rows that would decide"]


def bootstrap_values(table: str, found: Mapping[str, Difference]) -> Grid:
    """A line for each cell of a table."""
    rows = []
    for place, each in found.items():
        numbers = [round(value, 6) for value in (each.mean, each.low, each.high, each.error)]
        rows.append(cells(table, place, *numbers, each.rows, each.rows_to_decide(MARGIN)))
    return Grid(COLUMNS, rows)


def read_bootstrap(path: Path) -> Grid | None:
    """The values that were kept; None if there are none.

    Raises:
        ConfigError: the file is damaged.
    """
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        heads, *rows = [*csv.reader(file)] or [[]]
    if heads != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise ConfigError(f"{path} was not written by `dfa-bench bootstrap`. Move it away, or restore it with git.")
    return Grid(COLUMNS, [cells(*row) for row in rows])


def bootstrap_grid(values: Grid, notes: Sequence[str] = ()) -> Grid:
    """The table of these values."""
    about = f"{DRAWS} paired resamplings of the test rows, mean over seeds. Decide: an interval of ± {MARGIN} AUC."
    return Grid(["", *HEADS], [_line(row) for row in values.rows], "", [" ".join([about, *notes])], range(1, 6))


def _line(row: Sequence[GridCell]) -> list[GridCell]:
    _, place, *texts = (cell.text for cell in row)
    difference, low, high, error = (float(text) for text in texts[:4])
    return cells(place, f"{difference:+.4f}", f"[{low:+.4f}, {high:+.4f}]", f"{error:.4f}", *texts[4:])

"""Alignment of one batch as tables for the terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from rich.markup import escape
from rich.table import Table as RichTable


class Rows(Protocol):
    """Cosines at an output: their mean and spread over rows, how many there are, and how many rows BP reaches."""

    @property
    def mean(self) -> float: ...
    @property
    def std(self) -> float: ...
    @property
    def rows(self) -> int: ...
    @property
    def of(self) -> int: ...


class Weight(Protocol):
    @property
    def cosine(self) -> float: ...
    @property
    def norm_ratio(self) -> float: ...


def output_table(measured: Mapping[str, Rows], points: Collection[str], title: str) -> RichTable:
    """One line a module, in the order of the model; feedback points are marked."""
    table = RichTable(title=title, caption="Rows: compared, of those that BP's gradient reaches.")
    table.add_column("module", overflow="fold")
    table.add_column("")
    table.add_column("cosine, mean ± std", justify="right")
    table.add_column("rows", justify="right")
    for name, found in measured.items():
        mark = "point" if name in points else ""
        table.add_row(escape(name), mark, f"{found.mean:+.3f} ± {found.std:.3f}", f"{found.rows} of {found.of}")
    return table


def weight_table(measured: Mapping[str, Weight], rule: str) -> RichTable:
    """One line a parameter, in the order of the model; `rule` as it is shown."""
    title = f"Gradients of parameters, {rule} against BP"
    table = RichTable(title=title, caption=f"Norm: {rule}'s by BP's. What gets no gradient is not listed.")
    table.add_column("parameter", overflow="fold")
    table.add_column("cosine", justify="right")
    table.add_column("norm", justify="right")
    for name, found in measured.items():
        table.add_row(escape(name), f"{found.cosine:+.3f}", f"{found.norm_ratio:.3g}")
    return table

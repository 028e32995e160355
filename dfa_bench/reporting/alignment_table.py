"""Alignment of one batch as tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from dfa_bench.reporting.grid import Grid, cells


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


def output_grid(
    measured: Mapping[str, Rows], untrained: Mapping[str, Rows], points: Collection[str], title: str
) -> Grid:
    """One line a module, in the order of the model; feedback points are marked."""
    rows = []
    for name, found in measured.items():
        mark = "point" if name in points else ""
        before = f"{untrained[name].mean:+.3f}" if name in untrained else ""
        rows.append(cells(name, mark, f"{found.mean:+.3f} ± {found.std:.3f}", before, f"{found.rows} of {found.of}"))
    note = "Rows: compared, of those that BP's gradient reaches. Untrained: the mean at the initial weights."
    return Grid(["module", "", "cosine, mean ± std", "untrained", "rows"], rows, title, [note], numbers=(2, 3, 4))


def weight_grid(measured: Mapping[str, Weight], rule: str) -> Grid:
    """One line a parameter, in the order of the model; `rule` as it is shown."""
    title = f"Gradients of parameters, {rule} against BP"
    rows = [cells(name, f"{found.cosine:+.3f}", f"{found.norm_ratio:.3g}") for name, found in measured.items()]
    note = f"Norm: {rule}'s by BP's. What gets no gradient is not listed."
    return Grid(["parameter", "cosine", "norm"], rows, title, [note], numbers=(1, 2))

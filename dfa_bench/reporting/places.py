"""The places of a table that a claim is about, and what the paper itself has there."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dfa_bench.experiments.schema import Cell, Claim, Experiment, Quoted, Term
from dfa_bench.settings.rules import rules
from dfa_bench.settings.schema import Variant


class CellKey(NamedTuple):
    """A cell, without what its runs need."""

    row: str
    column: str
    variant: Variant
    rule: str


class CellMean(NamedTuple):
    """A part of a side that our runs give: a cell, or the mean over several."""

    cells: tuple[Cell, ...]
    metric: str


@dataclass(frozen=True)
class Place:
    """One place of a claim, and what stands there on either side."""

    name: str
    higher: tuple[CellMean | Quoted, ...]
    lower: tuple[CellMean | Quoted, ...]

    @property
    def cells(self) -> list[Cell]:
        """All whose runs count on either side, each once."""
        parts = (part for part in (*self.higher, *self.lower) if isinstance(part, CellMean))
        return [*dict.fromkeys(cell for part in parts for cell in part.cells)]


def places(claim: Claim, experiment: Experiment) -> list[Place]:
    """The places that a claim is about, for all rules at once; those where its sides have cells, each once."""
    cells: dict[CellKey, tuple[Cell, ...]] = {_key(cell): (cell,) for cell in experiment.cells()}
    keys = list(cells)
    for mean, parts in experiment.means():
        cells[_key(mean)] = tuple(parts)
        if mean.row in claim.rows:
            keys.append(_key(mean))
    found: dict[object, Place] = {}
    for key in keys:
        if not claim.is_about(key.row, key.column, key.variant):
            continue
        higher, lower = (
            tuple(_part(term, claim, key, experiment, cells) for term in side) for side in (claim.higher, claim.lower)
        )
        if all(isinstance(part, Quoted) or part.cells for part in (*higher, *lower)):
            found.setdefault((higher, lower), Place(_place_text(claim, key), higher, lower))
    return list(found.values())


def _part(
    term: Term | Quoted, claim: Claim, key: CellKey, experiment: Experiment, cells: Mapping[CellKey, tuple[Cell, ...]]
) -> CellMean | Quoted:
    """What a term means at a place. A column that lacks the place's variant is taken with its first."""
    if isinstance(term, Quoted):
        return term
    column = term.column or key.column
    variants = experiment.columns[column].variants
    variant = key.variant if key.variant in variants else variants[0]
    return CellMean(
        cells.get(CellKey(term.row or key.row, column, variant, term.rule), ()), term.metric or claim.metric
    )


def _key(cell: Cell) -> CellKey:
    return CellKey(cell.row, cell.column, cell.variant, cell.rule)


def _place_text(claim: Claim, key: CellKey) -> str:
    """What the sides take from the place; where they name all of it themselves, both sides."""
    names = [key.row] if any(term.row is None for term in claim.terms) else []
    names += [key.column] if any(term.column is None for term in claim.terms) else []
    text = "/".join(names) or " against ".join(
        " and ".join(_term_text(term) for term in side) for side in (claim.higher, claim.lower)
    )
    return text + (f" ({key.variant})" if key.variant != "released" else "")


def _term_text(term: Term | Quoted) -> str:
    if isinstance(term, Quoted):
        return f"{term.says} ({term.value:g})"
    return f"{rules()[term.rule].label} {'/'.join(name for name in (term.row, term.column) if name)}".strip()


def papers_differences(claim: Claim, experiment: Experiment) -> list[float]:
    """Higher minus lower, or their ratio, by the paper's own numbers, at the places where it has them."""
    found = {}  # by number: places of two variants are one of the paper's
    means = {tuple(parts): mean for mean, parts in experiment.means()}
    for place in places(claim, experiment):
        higher, lower = (_papers(side, experiment, means) for side in (place.higher, place.lower))
        if not math.isnan(higher - lower):
            found[higher, lower] = higher - lower if claim.ratio is None else higher / lower
    return list(found.values())


def _papers(side: Sequence[CellMean | Quoted], experiment: Experiment, means: Mapping[tuple[Cell, ...], Cell]) -> float:
    """Mean of the paper's numbers for one side; NaN if it lacks one."""
    values = []
    for part in side:
        if isinstance(part, Quoted):
            values.append(part.value)
        else:
            cell = part.cells[0] if len(part.cells) == 1 else means[part.cells]
            value = experiment.paper_value(part.metric, cell)
            values.append(math.nan if value is None else value)
    return statistics.fmean(values)

"""Where the evidence of a claim lies, for a drawing: a line for the margin, a dot and a bar for each place."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from dfa_bench.reporting.claims import Checked, Evidence

WIDTH = 100.0  # of the drawing; all positions are between 0 and this


@dataclass(frozen=True)
class IntervalBar:
    """One place: positions of its difference and interval, cut off at the edges."""

    dot: float
    low: float
    high: float
    cut_low: bool
    cut_high: bool


@dataclass(frozen=True)
class Scale:
    """From values to positions, with the margin in the middle."""

    middle: float
    reach: float  # value at the edge minus the middle
    logarithmic: bool

    def position(self, value: float) -> float:
        away = value - self.middle
        if self.logarithmic:
            away = math.log(value / self.middle) if value > 0 else -math.inf
        return min(WIDTH, max(0.0, WIDTH / 2 * (1 + away / self.reach)))

    def holds(self, value: float) -> bool:
        return 0 < self.position(value) < WIDTH


def scale_of(checked: Checked) -> Scale:
    """Wide enough for every difference and a typical interval; few seeds can make one that is wider than all else."""
    tested = [each for each in checked.evidence if each.verdict != "not tested"]
    logarithmic = checked.claim.ratio is not None
    away = [_away(each.difference, checked.margin, logarithmic) for each in tested]
    halves = [(_away(each.high, each.low, logarithmic)) / 2 for each in tested]
    reach = max([1.3 * value for value in away] + [statistics.median(halves) * 1.5] if tested else [1.0])
    return Scale(checked.margin, reach if 0 < reach < math.inf else 1.0, logarithmic)


def bars(checked: Checked) -> dict[str, IntervalBar]:
    """By place, those that are tested."""
    scale = scale_of(checked)
    return {each.place: _bar(each, scale) for each in checked.evidence if each.verdict != "not tested"}


def _bar(evidence: Evidence, scale: Scale) -> IntervalBar:
    low, high = scale.position(evidence.low), scale.position(evidence.high)
    dot = scale.position(evidence.difference)
    return IntervalBar(dot, low, high, not scale.holds(evidence.low), not scale.holds(evidence.high))


def _away(value: float, origin: float, logarithmic: bool) -> float:
    if not logarithmic:
        return abs(value - origin)
    return abs(math.log(value / origin)) if value > 0 and origin > 0 and value < math.inf else math.inf

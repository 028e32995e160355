"""Which seeds to add: those that would decide most claims for the time that they take."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dfa_bench.experiments.expected_cost import ExpectedCost
from dfa_bench.experiments.plan import PlannedRun
from dfa_bench.experiments.schema import Cell, Quoted
from dfa_bench.reporting.claims import MOST_SEEDS, QUOTED, Checked, Evidence, check, places_in
from dfa_bench.reporting.places import CellMean, Place
from dfa_bench.reporting.tables import Table

WhyNot = Callable[[PlannedRun], str]  # why a run cannot be done; "" if it can


@dataclass(frozen=True)
class Aim:
    """Something undecided, and the missing runs with which it would probably be decided."""

    claim: str
    places: tuple[str, ...]
    whole: bool  # the claim is decided then, not only its evidence at these places
    seeds: int  # that the place with the most needs, in all
    runs: tuple[PlannedRun, ...]  # seed by seed

    @functools.cached_property
    def identities(self) -> frozenset[str]:
        return frozenset(run.identity for run in self.runs)

    def __str__(self) -> str:
        where = self.places[0] if len(self.places) == 1 else f"{len(self.places)} places"
        return f"{self.claim} at {where}"


@dataclass(frozen=True)
class Step:
    """The aim that is next.

    Args:
        aim: what its runs are for.
        seconds: that they are expected to take together; 0 if nothing is known.
        also: other claims that the same runs would decide.
    """

    aim: Aim
    seconds: float
    also: tuple[str, ...]


class OutOfReach(Exception):
    """Why more seeds do not decide something."""


def open_aims(
    table: Table, planned: Sequence[PlannedRun], is_done: Callable[[PlannedRun], bool], why_not: WhyNot
) -> tuple[list[Aim], dict[str, str]]:
    """What is undecided in a table and could be decided, and why the rest could not, by claim.

    Args:
        table: with the runs that are done.
        planned: all runs that it may have, with as many seeds as may be added.
        is_done: of a run, whether it is.
        why_not: of one that is not, why it cannot be done.
    """
    runs: dict[Cell, dict[int, PlannedRun]] = {}
    for run in planned:
        runs.setdefault(run.cell, {})[run.settings.seed] = run
    aims, beyond = [], {}
    for claim, checked in zip(table.experiment.claims, check(table), strict=True):
        here = dict(zip((each.place for each in checked.evidence), places_in(table, claim), strict=True))
        for way, whole in _ways(checked):
            try:
                needed = [_seeds_needed(each) for each in way]
                missing = [
                    _missing(here[each.place], seeds - each.seeds, runs, is_done, why_not)
                    for each, seeds in zip(way, needed, strict=True)
                ]
            except OutOfReach as reason:
                if whole:
                    beyond[claim.id] = str(reason)
                continue
            found = {run.identity: run for each in missing for run in each}
            by_seed = sorted(found.values(), key=lambda run: run.settings.seed)
            names = tuple(each.place for each in way)
            aims.append(Aim(claim.id, names, whole, max(needed), tuple(by_seed)))
    reachable = {aim.claim for aim in aims if aim.whole}
    return aims, {claim: reason for claim, reason in beyond.items() if claim not in reachable}


def _ways(checked: Checked) -> Iterator[tuple[Sequence[Evidence], bool]]:
    """Sets of places that may be worth seeds, and whether each would decide the claim."""
    if checked.verdict == "not tested" and checked.evidence:
        yield checked.evidence, True
    for way in (whole := checked.ways()):
        yield way, True
    for each in checked.evidence:
        if each.verdict == "undecided" and [each] not in whole:
            yield [each], False


def _seeds_needed(evidence: Evidence) -> int:
    if evidence.would_decide is None:
        if not (evidence.reason or evidence.collapsed or evidence.lost):
            raise OutOfReach(f"{evidence.place}: the same in all seeds")
        lost = f"{evidence.collapsed} collapsed" if evidence.collapsed else "a seed diverged or is NaN"
        raise OutOfReach(evidence.reason or f"{evidence.place}: {lost}, and others do not make up for it")
    if evidence.would_decide == math.inf:
        raise OutOfReach(f"{evidence.place}: more than {MOST_SEEDS} seeds would decide")
    return int(evidence.would_decide)


def _missing(
    place: Place,
    seeds: int,
    runs: Mapping[Cell, Mapping[int, PlannedRun]],
    is_done: Callable[[PlannedRun], bool],
    why_not: WhyNot,
) -> list[PlannedRun]:
    """The runs that give a place so many further seeds, the lowest first."""
    parts = (*place.higher, *place.lower)
    quoted = any(isinstance(part, Quoted) for part in parts)
    cells = [cell for part in parts if isinstance(part, CellMean) for cell in part.cells]
    found: list[PlannedRun] = []
    for seed in sorted(set.intersection(*(set(runs.get(cell, {})) for cell in cells))):
        if seeds == 0:
            break
        todo = [run for run in (runs[cell][seed] for cell in cells) if not is_done(run)]
        if todo:  # a seed that is done and yet does not count is lost
            if quoted and any(run.settings.protocol != "paper" for run in todo):
                raise OutOfReach(QUOTED)
            if reason := next(filter(None, map(why_not, todo)), ""):
                raise OutOfReach(f"{place.name}: {reason}")
            found += todo
            seeds -= 1
    if seeds:
        raise OutOfReach(f"{place.name}: the table has no further seeds")
    return found


def next_step(aims: Sequence[Aim], costs: Mapping[str, ExpectedCost], seconds: float) -> Step | None:
    """The aim that decides most claims for its time, then most single places; None if none fits.

    Args:
        aims: what is undecided.
        costs: of runs, by identity. Where a time is not known, the cell's relative cost has to do, and the run fits.
        seconds: that are left.
    """
    steps = [step for step in (_step(aim, aims, costs) for aim in aims) if step.seconds <= seconds]
    return max(steps, key=lambda step: _worth(step, aims, costs), default=None)


def in_order(aims: Sequence[Aim], costs: Mapping[str, ExpectedCost], seconds: float) -> Iterator[Step]:
    """All steps for as long as time is left, if each decides what it aims at."""
    left = list(aims)
    while step := next_step(left, costs, seconds):
        yield step
        seconds -= step.seconds
        done = step.aim.identities
        decided = {step.aim.claim} if step.aim.whole else set()
        left = [
            replace(aim, runs=tuple(run for run in aim.runs if run.identity not in done))
            for aim in left
            if not aim.identities <= done and aim.claim not in decided | set(step.also)
        ]


def _step(aim: Aim, aims: Sequence[Aim], costs: Mapping[str, ExpectedCost]) -> Step:
    decided = dict.fromkeys(each.claim for each in aims if each.whole and each.identities <= aim.identities)
    seconds = sum(costs[run.identity].seconds or 0.0 for run in aim.runs)
    return Step(aim, seconds, tuple(claim for claim in decided if claim != aim.claim or not aim.whole))


def _worth(step: Step, aims: Sequence[Aim], costs: Mapping[str, ExpectedCost]) -> tuple[float, float, bool]:
    """Claims, and places, that are decided per second; of equals, an aim at a claim."""
    time = sum(costs[run.identity].seconds or run.cell.cost for run in step.aim.runs)
    claims = len(step.also) + step.aim.whole
    inside = {(each.claim, name) for each in aims if each.identities <= step.aim.identities for name in each.places}
    return claims / time, len(inside) / time, step.aim.whole

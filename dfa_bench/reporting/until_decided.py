"""`dfa-bench reproduce --until-decided HOURS`: add the seeds that decide most for their time, and look again."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from dfa_bench.data.writing import check_writable
from dfa_bench.errors import KEPT, Preempted, counted
from dfa_bench.experiments.dispatch import Failure
from dfa_bench.experiments.engines import build_engine
from dfa_bench.experiments.expected_cost import ExpectedCost, expected_seconds, time_text
from dfa_bench.experiments.plan import PlannedRun, missing, plan, readable_result
from dfa_bench.experiments.request import Request
from dfa_bench.experiments.schema import Cell
from dfa_bench.reporting.claims import MOST_SEEDS, Checked, check
from dfa_bench.reporting.deciding import Aim, Step, in_order, next_step, open_aims
from dfa_bench.reporting.existing import build_table, seeds_done
from dfa_bench.reporting.reproduction import Work, do_shown, is_skipped, plan_all, write_or_print
from dfa_bench.runs.ledger import Ledger
from dfa_bench.settings.rules import rules

SPARE_SEEDS = 20  # beyond MOST_SEEDS, for those that are lost
BATCH_SECONDS = 600.0  # of expected time, between two looks at how much is spent


@dataclass
class Undecided:
    """What is looked for, and what is known so far."""

    request: Request
    ledger: Ledger
    works: Sequence[Work]
    undone: set[str] = field(default_factory=set)  # runs, by identity
    failed: set[Cell] = field(default_factory=set)  # cells of runs that left no result
    beyond: dict[str, str] = field(default_factory=dict)  # claims that no seeds decide, and why
    spent: float = 0.0  # seconds of runs

    def __post_init__(self) -> None:
        self.undone = {run.identity for work in self.works for run in missing(work.runs, self.ledger)}

    def look(self) -> tuple[list[Aim], dict[str, ExpectedCost], dict[str, Checked]]:
        """What could be decided, the cost of each of its runs, and the verdicts as they stand."""
        aims: list[Aim] = []
        verdicts: dict[str, Checked] = {}
        self.beyond.clear()
        for work in self.works:
            table = build_table(work.experiment, work.runs, self.ledger)
            real = {run.identity for run in work.real}
            why_not = functools.partial(self._why_not, real)
            found, beyond = open_aims(table, work.runs, self._is_done, why_not)
            aims += found
            self.beyond |= beyond
            verdicts |= {each.claim.id: each for each in check(table)}
        return aims, self.costs([run for aim in aims for run in aim.runs]), verdicts

    def costs(self, runs: Sequence[PlannedRun]) -> dict[str, ExpectedCost]:
        """What each run is expected to take in its own table, by identity."""
        found: dict[str, ExpectedCost] = {}
        for work in self.works:
            cells = {run.cell for run in work.runs}
            todo = [run for run in runs if run.cell in cells]
            found |= {
                run.identity: cost
                for run, cost in zip(todo, expected_seconds(work.runs, todo, self.ledger.seconds()), strict=True)
            }
        return found

    def do(self, runs: Sequence[PlannedRun], console: Console) -> list[Failure]:
        """Do runs and record them; returns what went wrong."""
        failures: list[Failure] = []
        try:
            engine = build_engine(self.request.engine, [run.settings for run in runs])
            failures = do_shown(runs, engine, self.works, self.ledger, self.request, console)
        finally:
            results = [result for run in runs if (result := readable_result(run))]
            self.ledger.add(results)
            self.undone -= {result.identity for result in results}
            self.spent += sum(result.wall_seconds for result in results)
        self.failed |= {run.cell for run in runs if run.identity in self.undone}
        return failures

    def _is_done(self, run: PlannedRun) -> bool:
        return run.identity not in self.undone

    def _why_not(self, real: set[str], run: PlannedRun) -> str:
        if is_skipped(run, self.request.skip):
            return "skipped, as you asked"
        if run.identity not in real:
            return "its data are not here"
        return "a run of it failed" if run.cell in self.failed else ""


def decide(request: Request) -> int:
    """Run the seeds that decide most until nothing is in reach, then write the tables. Returns the exit status."""
    assert request.until_decided is not None
    check_writable(request.results)
    console, ledger = Console(), request.ledger()
    with console.status("Composing runs"):  # on a terminal only
        works = plan_all(request, _seeds(request, ledger), ledger)
        search = Undecided(request, ledger, works)
    budget = 3600 * request.until_decided
    failures: list[Failure] = []
    status = 0
    aims, costs, verdicts = search.look()
    try:
        for number in itertools.count(1):
            if not (step := next_step(aims, costs, budget - search.spent)):
                break
            print(f"{number}. {_text(step)}; {time_text(search.spent)} of {time_text(budget)} used.", flush=True)
            left, failed = [*step.aim.runs], False
            while left and not failed and search.spent < budget:
                batch = _batch(left, search.costs(left), request.at_a_time)
                failures += (wrong := search.do(batch, console))
                left, failed = left[len(batch) :], bool(wrong)
            before = verdicts
            aims, costs, verdicts = search.look()
            for claim in (step.aim.claim, *step.also):
                print(f"   {_change(before[claim], verdicts[claim], step.aim)}", flush=True)
    except Preempted as signal:
        print(f"\n{signal} {KEPT}", file=sys.stderr)
        status = signal.status
        aims, costs, _ = search.look()
    _tell_what_is_left(aims, costs, search.beyond)
    print(f"The runs took {time_text(search.spent)} of {time_text(budget)}.", flush=True)
    for work in works:
        write_or_print(work, ledger, request)
    for failure in failures:
        print(failure, file=sys.stderr)
    return status or (1 if failures else 0)


def list_steps(request: Request) -> int:
    """Print what `decide` would run in which order, and why, if each step decides what it is for. Runs nothing."""
    assert request.until_decided is not None
    ledger = request.ledger()
    seeds, cards = range(_seeds(request, ledger)), ledger.cards()
    works = []
    for experiment in request.experiments:
        runs = plan(experiment, seeds, request.overrides, cards)
        works.append(Work(experiment, runs, runs, []))
    search = Undecided(request, ledger, works)
    aims, costs, _ = search.look()
    budget = 3600 * request.until_decided
    steps = list(in_order(aims, costs, budget))
    for number, step in enumerate(steps, 1):
        print(f"{number}. {_text(step)}")
        for line in _lines(step, costs):
            print(f"     {line}")
    reached = {claim for step in steps for claim in (step.aim.claim, *step.also)}
    _tell_what_is_left([aim for aim in aims if aim.claim not in reached], costs, search.beyond)
    total_runs = sum(len(step.aim.runs) for step in steps)
    total = sum(step.seconds for step in steps)
    count = f"{counted(len(steps), 'step')}, {counted(total_runs, 'run')}"
    print(f"Total: {count}, about {time_text(total)} of {time_text(budget)}.")
    return 0


def _seeds(request: Request, ledger: Ledger) -> int:
    return max(MOST_SEEDS + SPARE_SEEDS, seeds_done(request, ledger))


def _batch(runs: Sequence[PlannedRun], costs: dict[str, ExpectedCost], jobs: int) -> Sequence[PlannedRun]:
    """The first of these runs, as many as take long enough to look at the time only then."""
    seconds = 0.0
    for count, run in enumerate(runs, 1):
        seconds += BATCH_SECONDS if (known := costs[run.identity].seconds) is None else known
        if count >= jobs and seconds >= BATCH_SECONDS:
            return runs[:count]
    return runs


def _text(step: Step) -> str:
    """What a step is for, and what it costs."""
    cost = f", about {time_text(step.seconds)}" if step.seconds else " of unknown cost"
    what = "to decide the claim" if step.aim.whole else "to decide this place; the claim stays open"
    also = f"; would decide {', '.join(step.also)} too" if step.also else ""
    runs, seeds = counted(len(step.aim.runs), "run"), counted(step.aim.seeds, "seed")
    return f"{step.aim}: {runs}{cost}, for {seeds} in all, {what}{also}"


def _lines(step: Step, costs: dict[str, ExpectedCost]) -> Iterator[str]:
    """The runs of a step, cell by cell."""
    by_cell: dict[Cell, list[PlannedRun]] = {}
    for run in step.aim.runs:
        by_cell.setdefault(run.cell, []).append(run)
    for cell, runs in by_cell.items():
        seeds = [run.settings.seed for run in runs]
        which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
        each = "" if len(seeds) == 1 else "each "
        yield f"{cell.row}, {cell.column}, {rules()[cell.rule].label}, {which}: {each}{costs[runs[0].identity]}"


def _change(before: Checked, after: Checked, aim: Aim) -> str:
    """What became of a claim, or of its places where it stays what it was."""
    if after.verdict != before.verdict or after.claim.id != aim.claim:
        change = f"stays {after.verdict}" if after.verdict == before.verdict else f"is {after.verdict} now"
        return f"{after.claim.id} {change}."
    there = ", ".join(f"{each.verdict} at {each.place}" for each in after.evidence if each.place in aim.places)
    return f"{after.claim.id} stays {after.verdict}: {there}."


def _tell_what_is_left(aims: Sequence[Aim], costs: dict[str, ExpectedCost], beyond: dict[str, str]) -> None:
    """Why claims stay open."""
    too_long: dict[str, float] = {}
    for aim in aims:
        seconds = sum(costs[run.identity].seconds or 0.0 for run in aim.runs)
        if aim.whole and seconds < too_long.get(aim.claim, float("inf")):
            too_long[aim.claim] = seconds
    left = {claim: f"about {time_text(seconds)} more would decide it" for claim, seconds in too_long.items()} | beyond
    for claim, reason in left.items():
        print(f"Not decided: {claim} ({reason}).")
    if not left:
        print("No claim is left that seeds could decide.")

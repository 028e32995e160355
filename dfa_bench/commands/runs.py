"""`dfa-bench runs`: list recorded runs, those that differ in their seed in one line."""

from __future__ import annotations

import fnmatch
import operator
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import click
from rich.console import Console

from dfa_bench.commands.grammar import COUNT, RESULTS, Command, words_argument
from dfa_bench.errors import ConfigError, counted, did_you_mean
from dfa_bench.reporting.grid import Grid, cells, terminal
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.listing import ALIKE, Group, StoreContents, all_runs, groups, metrics, read_store
from dfa_bench.runs.record import Record
from dfa_bench.runs.status import status, store_time
from dfa_bench.runs.summary import RunSummary
from dfa_bench.settings.overrides import is_whereabouts, whereabouts

FILTERS = (*ALIKE, "seed", "status", "identity", "commit", "device")  # by pattern, several with commas
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
COMPARISON = re.compile(r"(?P<metric>[\w/@.-]+)(?P<sign>[<>]=?)(?P<number>[-+.\deE]+)")
SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


@dataclass(frozen=True)
class Wanted:
    """Which runs to show, and how."""

    passes: Sequence[Callable[[RunSummary], bool]]
    metric: str | None
    seeds: int  # at least so many of a group
    each: bool  # a line for every run


@click.command(
    cls=Command,
    epilog="""
    dfa-bench runs task=nodes model=gcn
    dfa-bench runs rule=dfa 'test/accuracy>0.8' --age 1d --metric val/accuracy --each
    """,
)
@words_argument("[FILTER]... [store.root=DIR]", lambda: [f"{name}=" for name in FILTERS])
@click.option("--seeds", type=COUNT, default=1, metavar="N", help="Only settings with at least N seeds.")
@click.option("--age", metavar="AGE", help="Only runs finished within this time: 30m, 12h, 2d, 1w.")
@click.option("--metric", metavar="NAME", help="The metric to show (default: the first of the test set).")
@click.option("--each", is_flag=True, help="One line for every run, with its identity.")
@RESULTS
def command(words: Sequence[str], seeds: int, age: str | None, metric: str | None, each: bool, results: Path) -> int:
    """List the recorded runs, those of DIR/runs.csv and of the run store.

    Runs that differ only in their seed share a line: mean ± standard deviation over seeds. Where runs of one seed
    differ in settings that runs.csv does not name, their range is shown instead.

    \b
    FILTER  KEY=PATTERN,...: model=gcn,gat device='*EPYC*'. Keys: task, dataset, model, rule, variant, scale,
            protocol, data_kind, seed, status, identity, commit, device.
            status=failed,lost,running,begun lists runs that are not done
            METRIC>NUMBER, also <, >= and <=: 'test/accuracy>0.8'
    """
    given = [word for word in words if is_whereabouts(word)]
    store = read_store(Path(whereabouts(given)[0].root))
    filters = [word for word in words if word not in given]
    now = datetime.now(timezone.utc)
    passes = parse([word for word in filters if word != "each"])
    wanted = Wanted([*passes, *([_younger(age, now)] if age else [])], metric, seeds, each or "each" in filters)
    runs = list(all_runs(Ledger(results / "runs.csv"), store).values())
    kept = [run for run in runs if all(check(run) for check in wanted.passes)]
    if metric and wanted.each:
        kept = [run for run in kept if metric in run.metrics]
    found = [group for group in groups(kept) if len(group.seeds) >= wanted.seeds]
    found = [group for group in found if not metric or group.values(metric)]
    if wanted.metric and runs and wanted.metric not in (known := metrics(runs)):
        raise ConfigError(
            f"unknown metric '{wanted.metric}'.{did_you_mean(wanted.metric, known)} Metrics: {', '.join(known)}."
        )
    if found:
        Console(width=None if sys.stdout.isatty() else 180).print(terminal(_grid(found, wanted)))
    shown = sum(len(group.runs) for group in found)
    unfinished = _unfinished(store, [word for word in filters if word.startswith("status=")])
    print(f"{shown} of {counted(len(runs), 'run')}{unfinished}.")
    for problem in store.problems:
        print(problem, file=sys.stderr)
    return 0


def _unfinished(store: StoreContents, filters: Sequence[str]) -> str:
    """How many runs are not done, by what they do; prints those whose status was asked for."""
    if not store.unfinished:
        return ""
    now = store_time(store.unfinished[0].parent)
    states = {folder: status(Record(folder), now) for folder in store.unfinished}
    patterns = [pattern for word in filters for pattern in word.partition("=")[2].lower().split(",")]
    for folder, found in states.items():
        if any(fnmatch.fnmatchcase(found.state, pattern) for pattern in patterns):
            print(f"{folder}: {found.state}{f', {found.text}' if found.text else ''}")
    counts = Counter(found.state for found in states.values())
    return f"; not done: {', '.join(f'{number} {state}' for state, number in sorted(counts.items()))}"


def parse(filters: Sequence[str]) -> list[Callable[[RunSummary], bool]]:
    """`model=gcn,gat`, `test/accuracy>0.8`.

    Raises:
        ConfigError: one of them is not a filter.
    """
    passes: list[Callable[[RunSummary], bool]] = []
    for text in filters:
        key, _, value = text.partition("=")
        if compared := COMPARISON.fullmatch(text):
            passes.append(_compares(compared["metric"], SIGNS[compared["sign"]], _number(compared["number"], text)))
        elif key in FILTERS and value:
            passes.append(_matches(key, value.split(",")))
        else:
            raise ConfigError(
                f"unknown filter '{text}'.{did_you_mean(key, FILTERS)} Filters: {'=, '.join(FILTERS)}= with patterns, "
                f"and comparisons of metrics such as 'test/accuracy>0.8'."
            )
    return passes


def _younger(age: str, now: datetime) -> Callable[[RunSummary], bool]:
    found = re.fullmatch(r"(\d+)([mhdw])", age)
    if not found:
        raise ConfigError(f"--age {age}: give a number and a unit, m, h, d or w, for example --age 2d.")
    try:
        since = now - int(found[1]) * UNITS[found[2]]
    except OverflowError:
        raise ConfigError(f"--age {age} is too long ago.") from None
    return lambda run: datetime.fromisoformat(run.finished) >= since


def _matches(key: str, patterns: Sequence[str]) -> Callable[[RunSummary], bool]:
    low = [pattern.lower() for pattern in patterns]
    return lambda run: any(fnmatch.fnmatchcase(run.to_row().get(key, "").lower(), pattern) for pattern in low)


def _compares(metric: str, holds: Callable[[float, float], bool], number: float) -> Callable[[RunSummary], bool]:
    return lambda run: metric in run.metrics and holds(run.metrics[metric], number)


def _number(text: str, argument: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"'{argument}': {text} is not a number.") from None


def _grid(found: Sequence[Group], wanted: Wanted) -> Grid:
    heads = ["task", "data set", "model", "rule", "variant", "scale, protocol"]
    heads += ["seed" if wanted.each else "seeds", "metric", "value", "age", *(["run"] if wanted.each else [])]
    now = datetime.now(timezone.utc)
    rows = []
    for group in [Group([run]) for several in found for run in several.runs] if wanted.each else found:
        metric, run = group.metric(wanted.metric), group.shared
        dataset = run.dataset + ("" if run.data_kind == "real" else " (stand-in)")
        what = [run.task, dataset, run.model, run.rule, run.variant, f"{run.scale}, {run.protocol}"]
        measured = [_seeds(group), metric, value_text(group, metric), age_text(now - group.newest)]
        rows.append(cells(*what, *measured, *([run.identity] if wanted.each else [])))
    return Grid(heads, rows, numbers=(6, 8, 9))


def value_text(group: Group, metric: str) -> str:
    """Mean ± standard deviation over seeds. Runs of several settings are not averaged: their range is shown."""
    values = group.values(metric)
    lost = len(group.runs) - len(values)
    behind = f", {lost} without" if lost else ""
    if not values:
        return f"none of {lost}"
    if group.settings > 1:
        number = counted(len(values), "run")
        return f"{min(values):.4g} to {max(values):.4g}, {number} of {group.settings} settings{behind}"
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4g}{spread}{behind}"


def age_text(age: timedelta) -> str:
    for unit in ("w", "d", "h"):
        if age >= UNITS[unit]:
            return f"{age // UNITS[unit]} {unit}"
    return f"{max(age, timedelta()) // UNITS['m']} m"


def _seeds(group: Group) -> str:
    seeds = group.seeds
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}–{seeds[-1]}"
    return ",".join(map(str, seeds))

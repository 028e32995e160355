"""`dfa-bench runs`: the runs that there are, filtered, seeds together."""

from __future__ import annotations

import fnmatch
import operator
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from rich.console import Console

from dfa_bench.commands.arguments import take
from dfa_bench.errors import ConfigError
from dfa_bench.reporting.grid import Grid, cells, terminal
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.listing import ALIKE, Group, all_runs, groups, metrics, read_store
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


def main(arguments: Sequence[str]) -> int:
    """List runs. What is wrong with the store is told below the list.

    Raises:
        ConfigError: a filter is none.
        RecordError: runs.csv is damaged.
    """
    results, arguments = take(arguments, "results", "results")
    given = [argument for argument in arguments if is_whereabouts(argument)]
    store = read_store(Path(whereabouts(given)[0].root))
    wanted = parse([argument for argument in arguments if argument not in given], datetime.now(timezone.utc))
    runs = list(all_runs(Ledger(Path(results) / "runs.csv"), store).values())
    kept = [run for run in runs if all(check(run) for check in wanted.passes)]
    found = [group for group in groups(kept) if len(group.seeds) >= wanted.seeds]
    if wanted.metric and runs and wanted.metric not in (known := metrics(runs)):
        raise ConfigError(f"No run has the metric '{wanted.metric}'. There are: {', '.join(known)}.")
    if found:
        Console(width=None if sys.stdout.isatty() else 180).print(terminal(_grid(found, wanted)))
    shown = sum(len(group.runs) for group in found)
    print(f"{shown} of {len(runs)} runs" + (f", {len(store.unfinished)} more not done." if store.unfinished else "."))
    for problem in store.problems:
        print(problem, file=sys.stderr)
    return 0


def parse(arguments: Sequence[str], now: datetime) -> Wanted:
    """`model=gcn,gat rule=dfa seeds=3 age=2d test/accuracy>0.8 metric=val/accuracy each`.

    Raises:
        ConfigError: one of them is none of these.
    """
    passes: list[Callable[[RunSummary], bool]] = []
    metric, seeds = None, 1
    for argument in (each for each in arguments if each != "each"):
        if compared := COMPARISON.fullmatch(argument):
            passes.append(_compares(compared["metric"], SIGNS[compared["sign"]], _number(compared["number"], argument)))
            continue
        key, _, value = argument.partition("=")
        if key == "metric" and value:
            metric = value
        elif key == "seeds" and value.isdigit():
            seeds = int(value)
        elif key == "age" and (found := re.fullmatch(r"(\d+)([mhdw])", value)):
            try:
                since = now - int(found[1]) * UNITS[found[2]]
            except OverflowError:
                raise ConfigError(f"'{argument}': no run is so old.") from None
            passes.append(lambda run, since=since: datetime.fromisoformat(run.finished) >= since)  # type: ignore[misc]
        elif key in FILTERS and value:
            passes.append(_matches(key, value.split(",")))
        else:
            raise ConfigError(
                f"'{argument}' is no filter. There are {'=, '.join(FILTERS)}= with patterns, seeds=3 (at least), "
                f"age=2d (m, h, d or w), 'test/accuracy>0.8', metric=NAME and each."
            )
    return Wanted(passes, metric, seeds, "each" in arguments)


def _matches(key: str, patterns: Sequence[str]) -> Callable[[RunSummary], bool]:
    low = [pattern.lower() for pattern in patterns]
    return lambda run: any(fnmatch.fnmatchcase(run.to_row().get(key, "").lower(), pattern) for pattern in low)


def _compares(metric: str, holds: Callable[[float, float], bool], number: float) -> Callable[[RunSummary], bool]:
    return lambda run: metric in run.metrics and holds(run.metrics[metric], number)


def _number(text: str, argument: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"'{argument}': {text} is no number.") from None


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
        return f"{min(values):.4g} to {max(values):.4g}, {len(values)} runs of {group.settings} settings{behind}"
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

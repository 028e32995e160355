"""What `dfa-bench search` has found: the best settings of each rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dfa_bench.reporting.grid import Grid, GridCell, cells

if TYPE_CHECKING:  # Optuna comes with an extra
    from dfa_bench.experiments.search import Search


def search_grid(searches: Sequence[Search]) -> Grid:
    """A line for each rule: its trials, the best value of the metric that counts, and the settings that gave it."""
    heads = ["rule", "trials", f"val/{searches[0].watch.metric}", "best settings"]
    return Grid(heads, [_line(search) for search in searches], numbers=(2,))


def _line(search: Search) -> list[GridCell]:
    lost = sum(trial.value is None for trial in search.trials)
    trials = f"{len(search.trials)}, {lost} without a value" if lost else str(len(search.trials))
    if lost == len(search.trials):
        return cells(search.rule, trials, "", "")
    best = search.study.best_trial
    settings = " ".join(f"{name}={value}" for name, value in best.params.items())
    return cells(search.rule, trials, f"{best.value:.5g}", settings)

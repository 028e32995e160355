"""`dfa-bench search`: hyperparameters by Optuna, with the same budget for every rule."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from dfa_bench.commands.grammar import COUNT, Command, words_argument
from dfa_bench.settings.engines import engine_names


@click.command(
    cls=Command,
    no_args_is_help=True,
    epilog="""
    dfa-bench search task=links rule=bp,dfa 'recipe.lr=log(1e-4,1e-1)' --trials 20
    dfa-bench search task=language rule=bp,dfa 'recipe.lr=log(1e-5,1e-3)' 'model.dropout=interval(0,0.3)' --engine slurm
    """,
)
@words_argument("OVERRIDE... SETTING=RANGE...")
@click.option(
    "--trials", type=COUNT, default=20, show_default=True, help="Trials of each rule, including those already done."
)
@click.option("--engine", type=click.Choice(engine_names()), default="local", show_default=True, help="As reproduce's.")
@click.option("--jobs", type=COUNT, default=2, show_default=True, help="Trials at a time, in rounds.")
@click.option("--retry", type=click.IntRange(min=0), default=2, show_default=True, metavar="N", help="As reproduce's.")
def command(words: Sequence[str], trials: int, engine: str, jobs: int, retry: int) -> int:
    """Search settings by their validation metric, with Optuna's TPE and as many trials for every rule.

    Trials are runs as any others: recorded, resumed, never done twice. The search itself is kept in the run store: the
    same command continues it, and with more --trials adds to it. The test set chooses nothing.

    \b
    OVERRIDE       of every trial; of rule=bp,dfa,..., each is searched
    SETTING=RANGE  log(1e-5,1e-2), interval(0,0.5), whole(1,8) or choice(a,b,c)
    """
    from rich.console import Console

    from dfa_bench.errors import KEPT, ConfigError, MissingExtra, Preempted
    from dfa_bench.experiments.dispatch import do_alone
    from dfa_bench.reporting.grid import terminal
    from dfa_bench.reporting.searches import search_grid
    from dfa_bench.settings.engines import PREFIX, engine_settings

    try:
        from dfa_bench.experiments.search import build_search, parse_space, search
    except ImportError as error:
        raise MissingExtra("Searches need Optuna, which is not installed: pip install 'dfa-bench[search]'.") from error

    settings = engine_settings(engine, [each for each in words if each.startswith(PREFIX)], jobs)
    space, overrides = parse_space([each for each in words if not each.startswith(PREFIX)])
    if not space:
        raise ConfigError("Nothing is searched: give a range, for example 'recipe.lr=log(1e-5,1e-2)'.")
    rules = next((each.partition("=")[2] for each in overrides if each.startswith("rule=")), "dfa").split(",")
    others = [each for each in overrides if not each.startswith("rule=")]
    searches = [build_search(rule, others, space) for rule in rules]
    status, failures = 0, []
    try:
        failures = search(searches, trials, jobs, lambda runs: do_alone(runs, settings, retry))
    except Preempted as signal:
        print(f"\n{signal} {KEPT}", file=sys.stderr)
        status = signal.status
    Console().print(terminal(search_grid(searches)))
    for failure in failures:
        print(failure, file=sys.stderr)
    return status or (1 if failures else 0)

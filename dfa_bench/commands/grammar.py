"""The grammar of all commands: options, names and Hydra overrides in any order, and KEY=VALUE for --KEY VALUE."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem


class Command(click.Command):
    """A command whose options may be written KEY=VALUE, and whose epilog holds examples, one a line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, self._with_dashes(args))

    def _with_dashes(self, args: Sequence[str]) -> list[str]:
        """`seeds=10` as `--seeds=10`, unless it is the value of an option before it."""
        takes_value = {
            name for each in self.params if isinstance(each, click.Option) and not each.is_flag for name in each.opts
        }
        written: list[str] = []
        is_value = False
        for argument in args:
            key, equals, _ = argument.partition("=")
            is_option = bool(equals) and f"--{key}" in takes_value and not is_value
            written.append(f"--{argument}" if is_option else argument)
            is_value = argument in takes_value and not is_value
        return written

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.strip().splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")


class WholeNumber(click.ParamType):
    """A whole number from 1 on."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if not (value.isascii() and value.isdigit() and int(value)):
            self.fail(f"'{value}' is not a whole number above 0", param, ctx)
        return int(value)


COUNT = WholeNumber()
FILE = click.Path(path_type=Path)
RUN = click.argument("run", type=FILE)  # folder of a record
RESULTS = click.option(
    "--results", type=FILE, metavar="DIR", default="results", show_default=True, help="Where tables and runs.csv are."
)


def listed(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """The parts of "a,b"."""
    return tuple(part for part in value.split(",") if part)


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names, and Hydra overrides: `scale=paper`, `+model.foo=1`, `~logger`."""
    overrides = [word for word in words if "=" in word or word.startswith(("+", "~"))]
    return [word for word in words if word not in overrides], overrides


def words_argument(metavar: str, complete: Callable[[], Sequence[str]] = tuple) -> Callable[[Any], Any]:
    """The argument that takes names and overrides in any order; `complete` gives the names."""

    def matching(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in complete() if name.startswith(incomplete)]

    return click.argument("words", nargs=-1, metavar=metavar, shell_complete=matching)


def table_command(*, examples: str, default: Sequence[str] = (), seeds: int = 0) -> Callable[[Any], Command]:
    """Make a command of a function that takes a `Request`; its further options are fields of the request or its own.

    Args:
        examples: one a line.
        default: tables, if none are named; none: they must be named.
        seeds: of each cell, if no number is given; 0: all that are done.
    """

    def decorate(function: Callable[..., int]) -> Command:
        @functools.wraps(function)
        def call(words: Sequence[str], **chosen: Any) -> int:
            from dfa_bench.experiments.request import build_request

            names, overrides = split(words)
            own = {name: chosen.pop(name) for name in inspect.signature(function).parameters if name in chosen}
            return function(build_request(names or default, overrides, **chosen), **own)

        which = f"default {seeds}" if seeds else "default: all that are done"
        seeds_option = click.option(
            "--seeds", type=COUNT, default=seeds, help=f"Seeds 0 to N-1 of each cell ({which})."
        )
        tables = words_argument("[TABLE]... [OVERRIDE]..." if default else "TABLE... [OVERRIDE]...", _tables)
        make = click.command(cls=Command, epilog=examples, no_args_is_help=not default)
        command: Command = make(tables(seeds_option(RESULTS(call))))
        return command

    return decorate


def _tables() -> Sequence[str]:
    from dfa_bench.experiments.request import table_names

    return list(table_names())

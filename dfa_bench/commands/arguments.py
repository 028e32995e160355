"""Command-line options of commands that are not sweeps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from dfa_bench.errors import ConfigError


class Arguments(argparse.ArgumentParser):
    """argparse whose mistakes are told like all others, in one sentence."""

    def __init__(self, command: str) -> None:
        super().__init__(prog=f"dfa-bench {command}", add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}. `{self.prog} --help` explains the options.")


def take(arguments: Sequence[str], key: str, default: str) -> tuple[str, list[str]]:
    """The value of the last `key=value`, or the default, and the arguments without any of that key."""
    given = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{key}=")]
    return [default, *given][-1], [argument for argument in arguments if not argument.startswith(f"{key}=")]


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)

"""Command-line options of commands that are not sweeps."""

from __future__ import annotations

import argparse
from typing import NoReturn

from dfa_bench.errors import ConfigError


class Arguments(argparse.ArgumentParser):
    """argparse whose mistakes are told like all others, in one sentence."""

    def __init__(self, command: str) -> None:
        super().__init__(prog=f"dfa-bench {command}", add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}. `{self.prog} --help` explains the options.")


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)

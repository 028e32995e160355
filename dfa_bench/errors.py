"""Mistakes that a user can fix: each is shown as one message, without a stack trace and without secrets."""

from __future__ import annotations

import difflib
import os
import re
import signal
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A sentence to add to an error, with a space before it; empty if no known name is close."""
    close = difflib.get_close_matches(given, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


KEPT = "Finished runs and checkpoints are kept; run the same command to continue."


# What follows these is a secret: who signs in to a URL, parameters of one, and values of environment variables.
SIGNED_IN = re.compile(r"(?<=://)[^/\s@]+(?=@)")
PARAMETER = re.compile(
    r"([?&][\w.-]*(?:token|key|secret|passw(?:or)?d|signature|credential|auth|\bsig)[\w.-]*=)[^&\s'\"#]+", re.IGNORECASE
)
VARIABLE = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)
SHORTEST = 8  # characters of a secret in a variable; shorter values stand in many words


def counted(number: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def without_secrets(text: str) -> str:
    """A text that may be recorded or logged: "https://***@host/file?token=***"."""
    text = PARAMETER.sub(r"\1***", SIGNED_IN.sub("***", text))
    for name, value in os.environ.items():
        if VARIABLE.search(name) and len(value) >= SHORTEST:
            text = text.replace(value, "***")
    return text


def each_without_secrets(values: Any) -> Any:
    """Nested values, with every text in them `without_secrets`."""
    if isinstance(values, Mapping):
        return {name: each_without_secrets(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [each_without_secrets(value) for value in values]
    return without_secrets(values) if isinstance(values, str) else values


class UserError(Exception):
    """Base: the message says what was given, what was expected and how to fix it. Secrets are taken out of it."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(without_secrets(each) if isinstance(each, str) else each for each in arguments))


class ConfigError(UserError):
    """A setting is unknown, impossible, or does not go with another one."""


class MissingData(UserError):
    """A data set is not where it was looked for and could not be downloaded."""


class CorruptData(UserError):
    """A data file is truncated, or not the official one."""


class RecordError(UserError):
    """A run's record cannot be written, or was written by something else."""


class Diverged(UserError):
    """The loss became NaN or infinite."""


class OutOfMemory(UserError):
    """A run needs more memory than its device has."""


class RunKilled(UserError):
    """The process of a run, or one of several, is gone."""


class Preempted(KeyboardInterrupt):
    """A signal asked this process to end. As a KeyboardInterrupt, it passes every `except Exception`.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def status(self) -> int:
        """To exit with: 130 after Ctrl-C, else EX_TEMPFAIL of <sysexits.h>, on which a scheduler can requeue."""
        return 130 if self.number == signal.SIGINT else 75

    def __str__(self) -> str:
        how = "" if self.number == signal.SIGINT else f" by {signal.Signals(self.number).name}"
        return f"Interrupted{how}."


class MissingExtra(UserError, ImportError):
    """A part of the suite is imported where only the learning rules are installed."""


def require_suite() -> None:
    """Check that the packages of the extra `suite` are installed, which everything but `feedback` needs.

    Raises:
        MissingExtra: naming what is missing, and how to install it.
    """
    missing = [package for package in ("hydra", "lightning_fabric", "pydantic") if find_spec(package) is None]
    if missing:
        raise MissingExtra(
            f"This part of dfa-bench needs packages that are not installed ({', '.join(missing)}, …). "
            f"Install them with the extra 'suite': pip install 'dfa-bench[suite]', or pip install -e '.[suite]' in a "
            f"checkout. The learning rules in dfa_bench.feedback need PyTorch only."
        )

"""Mistakes that a user can fix: each is shown as one message, without a stack trace."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A sentence to add to an error, with a space before it; empty if no known name is close."""
    close = difflib.get_close_matches(given, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


class UserError(Exception):
    """Base: the message says what was given, what was expected and how to fix it."""


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

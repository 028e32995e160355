"""Mistakes that a user can mend: each is shown as one message, without a stack trace."""

from importlib.util import find_spec


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

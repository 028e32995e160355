"""Whose code settings may name: a `_target_` is imported and called, so its package must be trusted.

Settings come from the command line, and from records and archives that somebody else may have made. So what is trusted
is never said by settings themselves, only by the environment.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from typing import Any

from dfa_bench.errors import ConfigError

OURS = "dfa_bench"
MODULES = ("torch", "torch_geometric")  # of these, classes of `nn.Module` only: torch.hub.load downloads code
TRUST = "DFA_BENCH_TRUST"  # environment variable: further packages, with commas


class Untrusted(ConfigError):
    """Settings name code of a package that is not trusted."""


def check_targets(values: Any) -> None:
    """Check the `_target_` anywhere in settings by its name, without importing it.

    Raises:
        Untrusted: a package is not `dfa_bench`, `torch`, `torch_geometric` or one that DFA_BENCH_TRUST names.
    """
    for target in _targets(values):
        package = target.partition(".")[0]
        if package not in (OURS, *MODULES, *by_user()):
            raise Untrusted(
                f"_target_={target} names code of the package {package}. If you trust it, set the environment "
                f"variable {TRUST}={package} (several with commas)."
            )


def check_class(target: str, found: Any) -> None:
    """Check what a trusted name has led to: `dfa_bench.data.writing.os.system` is not ours.

    Raises:
        Untrusted: it is not a class of the package, or, of PyTorch and PyG, not a network module.
    """
    package = target.partition(".")[0]
    if package in by_user():
        return
    home = getattr(found, "__module__", "").partition(".")[0]
    if not inspect.isclass(found) or home != package:
        raise Untrusted(f"_target_={target} is not a class of the package {package}.")
    if package in MODULES:
        from torch import nn

        if not issubclass(found, nn.Module):
            raise Untrusted(f"_target_={target} is not a torch.nn.Module; of {package}, only those may be named.")


def by_user() -> list[str]:
    """The further packages that DFA_BENCH_TRUST names."""
    return [name.strip() for name in os.environ.get(TRUST, "").split(",") if name.strip()]


def _targets(values: Any) -> Iterator[str]:
    """Dotted names of classes anywhere in nested values."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            if key == "_target_":
                yield str(value)
            yield from _targets(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _targets(value)

"""Engines: what does the runs of a plan. None of them is a scheduler of ours; they differ only in where runs go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dfa_bench.errors import ConfigError
from dfa_bench.experiments.engines.work import Report
from dfa_bench.settings.engines import LocalSettings, SlurmSettings
from dfa_bench.settings.schema import RunSettings


class Engine(Protocol):
    """Does runs elsewhere, and knows nothing of tables."""

    says: str  # where runs go: "on 2 processes of this machine"

    def submit(self, runs: Mapping[str, RunSettings]) -> None:
        """Take runs by their identities, the first first."""
        ...

    def finished(self, seconds: float) -> dict[str, Report]:
        """Wait, at most so long, until some runs have ended; each is told once."""
        ...

    def close(self) -> None:
        """Free what the engine holds; runs that are not done write their checkpoints, or outlive this process."""
        ...


def build_engine(settings: Any, runs: Sequence[RunSettings]) -> Engine:
    """An engine by its settings, for runs of one store.

    Raises:
        ConfigError: what it needs is not installed, or not reachable.
    """
    if isinstance(settings, LocalSettings):
        from dfa_bench.experiments.engines.local import LocalEngine

        return LocalEngine(settings, runs)
    try:
        if isinstance(settings, SlurmSettings):
            from dfa_bench.experiments.engines.slurm import SlurmEngine

            return SlurmEngine(settings, Path(runs[0].store.root))
        from dfa_bench.experiments.engines.ray import RayEngine

        return RayEngine(settings)
    except ImportError as error:
        raise ConfigError(
            f"--engine {settings.name} needs a package that is not installed: {error.name}. "
            f"Install it with pip install 'dfa-bench[{settings.name}]'."
        ) from error

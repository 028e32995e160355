"""What a user asks of the commands that work on tables, checked."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfa_bench.errors import ConfigError, did_you_mean
from dfa_bench.experiments.schema import Experiment, experiment_files, load_experiment
from dfa_bench.runs.ledger import Ledger
from dfa_bench.settings.engines import PREFIX, engine_settings
from dfa_bench.settings.resources import resource_folder

RESULTS = Path("results")  # where tables and runs.csv are unless a folder is given
EVERYTHING = ("all", "studies", "search")  # what reports are about unless tables are named


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Args:
        experiments: the tables.
        seeds: of each cell; 0: as many as are done.
        engine: what does the runs, one of `settings.engines`.
        retry: how often a lost run is started again.
        max_failures: so many failed runs end the others; None: none do.
        results: folder of the tables and runs.csv.
        skip: patterns of cells, "PubMed/DNAConv" or "*/DNAConv", that get no new runs.
        overrides: of every run.
        whole: all tables of the paper are asked for, so its figures count too.
        dry_run: list what would run, and run nothing.
        until_decided: hours of runs that may be spent on seeds that decide claims; None: the seeds are as asked for.
    """

    experiments: Sequence[Experiment]
    seeds: int
    engine: Any
    results: Path
    skip: Sequence[str]
    overrides: Sequence[str]
    retry: int
    max_failures: int | None
    whole: bool = False
    dry_run: bool = False
    until_decided: float | None = None

    def ledger(self) -> Ledger:
        """The runs of runs.csv among the results, read anew."""
        return Ledger(self.results / "runs.csv")

    @property
    def at_a_time(self) -> int:
        """Runs at a time, as far as they are known before the engine is there."""
        return int(self.engine.jobs or os.cpu_count() or 1)


def build_request(
    names: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    seeds: int = 0,
    engine: str = "local",
    jobs: int | None = None,
    retry: int = 0,
    max_failures: int | None = None,
    results: Path = RESULTS,
    skip: Sequence[str] = (),
    dry_run: bool = False,
    until_decided: float | None = None,
) -> Request:
    """Load the tables that are named. Arguments are those of `Request`; settings of the engine are among the overrides.

    Raises:
        ConfigError: a table is unknown, a pattern to skip matches no cell, or seeds are given twice.
    """
    if until_decided is not None and seeds > 1:
        raise ConfigError("--until-decided chooses the seeds itself. Leave --seeds out.")
    folder = resource_folder("experiments")
    tables = [load_experiment(folder, name) for name in tables_named(names)]
    cells = [f"{row}/{column}" for table in tables for row in table.rows for column in table.columns]
    if unmatched := [pattern for pattern in skip if not fnmatch.filter(cells, pattern)]:
        raise ConfigError(f"--skip '{unmatched[0]}' matches no cell. Give ROW/COLUMN, for example --skip 'PubMed/*'.")
    of_engine = [each for each in overrides if each.startswith(PREFIX)]
    of_runs = [each for each in overrides if each not in of_engine]
    return Request(
        experiments=tables,
        seeds=seeds,
        engine=engine_settings(engine, of_engine, jobs),
        results=results,
        skip=skip,
        overrides=of_runs,
        retry=retry,
        max_failures=max_failures,
        whole="all" in names,
        dry_run=dry_run,
        until_decided=until_decided,
    )


def table_names() -> dict[str, list[str]]:
    """Every name that a table can be asked for by, and the experiments that it stands for; reads no file."""
    known = [*experiment_files(resource_folder("experiments"))]
    folders = {name.partition("/")[0] for name in known if "/" in name}
    return {
        **{name: [name] for name in known},
        "all": [name for name in known if "/" not in name],
        **{folder: [name for name in known if name.startswith(f"{folder}/")] for folder in sorted(folders)},
    }


def tables_named(words: Sequence[str]) -> list[str]:
    """The experiments that are named, each once. "3", "table 3" and "table3" are one name.

    Raises:
        ConfigError: there are none, or one is unknown.
    """
    known = table_names()
    names = re.sub(r"(?<!\S)(?:table )?(\d+)(?!\S)", r"table\1", " ".join(words)).split()
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"unknown table '{unknown[0]}'.{did_you_mean(unknown[0], known)}" if unknown else "Name a table."
        raise ConfigError(f"{what} Tables: {', '.join(known)}.")
    return list(dict.fromkeys(each for name in names for each in known[name]))

"""What the user asks `dfa-bench reproduce`, `table` and `claims` for."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dfa_bench.errors import ConfigError
from dfa_bench.experiments.schema import Experiment, load_experiments
from dfa_bench.settings.resources import resource_folder

FOLDERS = ("first", "search", "studies")  # below experiments/: short first looks, searches, experiments of our own


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Args:
        experiments: the tables.
        seeds: of each cell; 0: as many as are done.
        jobs: processes at a time.
        results: folder of the tables and runs.csv.
        skip: patterns of cells, "PubMed/DNAConv" or "*/DNAConv", that get no new runs.
        overrides: of every run.
        whole: all tables of the paper are asked for, so its figures count too.
    """

    experiments: Sequence[Experiment]
    seeds: int
    jobs: int
    results: Path
    skip: Sequence[str]
    overrides: Sequence[str]
    whole: bool = False


def parse_request(arguments: Sequence[str], seeds: int, default: Sequence[str] = ()) -> Request:
    """`table3 table4 seeds=10 jobs=2 scale=cpu store.root=runs`; `seeds` and `default` stand for what is not given.

    Raises:
        ConfigError: there is no such table, or a value is impossible.
    """
    known = load_experiments(resource_folder("experiments"))
    options = {"seeds": str(seeds), "jobs": str(os.cpu_count() or 1), "results": "results", "skip": ""}
    names, overrides = [], []
    for argument in arguments:
        key, is_option, value = argument.partition("=")
        if not is_option:
            names.append(f"table{argument}" if argument.isdigit() else argument)
        elif key in options:
            options[key] = value
        else:
            overrides.append(argument)
    several = {"all": [name for name in known if "/" not in name]}
    several |= {folder: [name for name in known if name.startswith(f"{folder}/")] for folder in FOLDERS}
    names = names or list(default)
    unknown = [name for name in names if name not in known and name not in several]
    if unknown or not names:
        what = f"There is no table '{unknown[0]}'." if unknown else "Name the tables."
        raise ConfigError(f"{what} There are: {', '.join(known)}, all of them as 'all', those of a folder by its name.")
    for key in ("seeds", "jobs"):
        if not options[key].isdigit() or (int(options[key]) < 1 and options[key] != str(seeds)):
            raise ConfigError(f"{key}={options[key]}: give a whole number from 1 on; {key}=10, for instance.")
    chosen = [known[each] for each in dict.fromkeys(each for name in names for each in several.get(name, [name]))]
    skip = [pattern for pattern in options["skip"].split(",") if pattern]
    places = [f"{row}/{column}" for table in chosen for row in table.rows for column in table.columns]
    if unmatched := [pattern for pattern in skip if not fnmatch.filter(places, pattern)]:
        raise ConfigError(f"skip={unmatched[0]} matches no cell. Give row and column, as in skip=PubMed/DNAConv.")
    results = Path(options["results"])
    return Request(chosen, int(options["seeds"]), int(options["jobs"]), results, skip, overrides, "all" in names)

"""What the paper concludes from figures, checked over the numbers of ours: experiments/figures.yaml.

Each number that the claim is about is read off, and counts. Nothing is tested, so what one seed shows is "seen once";
only several seeds whose numbers all agree support or contradict.
"""

from __future__ import annotations

import fnmatch
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from omegaconf import OmegaConf
from pydantic import Field, ValidationError

from dfa_bench.errors import ConfigError
from dfa_bench.experiments.request import Request
from dfa_bench.experiments.schema import FIGURE_CLAIMS
from dfa_bench.reporting.claims import Checked, Evidence, Verdict, contradiction
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.schema import Strict, explain

MIN_SEEDS = 3  # fewer neither support nor contradict; as for a claim over a table
NOTE = (
    "Read off figures, without a test; [least, most] of several seeds. Seen once: all numbers of the only seed agree. "
    "Supported: all numbers of at least three seeds do. Contradicted: none of theirs does."
)


class Number(NamedTuple):
    """A number of a figure's file."""

    place: str
    value: float
    seed: str
    protocol: str


class Pick(Strict):
    """Numbers of a figure's file.

    Args:
        where: of which records: those with these values.
        key: of a record; in nested ones a path whose parts are patterns, "modules/cross.*/mean". Of a series, which
            runs over training, the last number counts.
    """

    where: dict[str, str]
    key: str


class Reading(Strict):
    """A conclusion from a figure: every number of `higher` lies above every one of `lower` by more than `by`.

    Of several picks as `lower`, the mean over their highest numbers counts.
    """

    id: str
    says: str  # restated in our words
    file: str  # below the results; a list of records
    higher: Pick
    lower: Pick | list[Pick] | float
    by: float = 0.0
    because: str = ""  # where `by` is from
    ratio: Literal[None] = None  # readings compare by difference
    of: Literal["paper", "us"] = "paper"


class Untested(Strict):
    """A conclusion of the paper that nothing here checks, and why.

    Args:
        command: what one would run for it.
    """

    id: str
    says: str
    why: str
    command: str = ""
    by: float = 0.0
    because: Literal[""] = ""
    ratio: Literal[None] = None
    of: Literal["paper", "us"] = "paper"

    @property
    def reason(self) -> str:
        return f"{self.why}; `{self.command}`" if self.command else self.why


def load_readings(folder: Path) -> list[Reading | Untested]:
    """The claims about figures; none if there is no such file.

    Raises:
        ConfigError: it has an unknown key or an impossible value.
    """
    path = folder / FIGURE_CLAIMS
    if not path.is_file():
        return []
    values = OmegaConf.to_container(OmegaConf.load(path))
    try:
        found = _Readings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"experiments/{FIGURE_CLAIMS}: {explain(error)}") from None
    return [*found.claims, *found.untested]


class _Readings(Strict):
    claims: Annotated[list[Reading], Field(min_length=1)]
    untested: tuple[Untested, ...] = ()


def readings_of(request: Request) -> list[Checked]:
    """The claims about figures, checked where all tables are asked for; else none."""
    if not request.whole:
        return []
    return check_readings(load_readings(resource_folder("experiments")), request.results)


def check_readings(readings: Sequence[Reading | Untested], results: Path) -> list[Checked]:
    """The claims over the figures' numbers below the results.

    Raises:
        ConfigError: a file is damaged.
    """
    return [
        _check(each, results / each.file) if isinstance(each, Reading) else _not_tested(each, each.reason)
        for each in readings
    ]


def _check(reading: Reading, path: Path) -> Checked:
    records = read_records(path)
    higher = list(_numbers(records, reading.higher))
    picks = [] if isinstance(reading.lower, float) else _listed(reading.lower)
    below = [list(_numbers(records, pick)) for pick in picks]
    if not higher or not all(below):
        reason = f"results/{reading.file} has no such numbers of real runs" if records else f"no results/{reading.file}"
        return _not_tested(reading, reason)
    highest = [max(each.value for each in side) for side in below]
    bar = reading.lower if isinstance(reading.lower, float) else statistics.fmean(highest)
    sides = [higher, *below]
    protocols = {each.protocol for side in sides for each in side}
    seeds = min(len({each.seed for each in side}) for side in sides)
    by_place: dict[str, list[Number]] = {}
    for each in higher:
        by_place.setdefault(each.place, []).append(each)
    contradicted = contradiction(protocols)
    evidence = [_weigh(*found, bar, reading.by, seeds, contradicted) for found in by_place.items()]
    verdicts = {each.verdict for each in evidence}
    verdict: Verdict = verdicts.pop() if len(verdicts) == 1 else "undecided"
    return Checked(reading, verdict, evidence, " and ".join(sorted(protocols)))


def _listed(picks: Pick | list[Pick]) -> list[Pick]:
    return [picks] if isinstance(picks, Pick) else picks


def _not_tested(claim: Reading | Untested, reason: str) -> Checked:
    return Checked(claim, "not tested", [Evidence("", 0, math.nan, math.nan, math.nan, "not tested", reason)])


def _weigh(place: str, numbers: Sequence[Number], bar: float, by: float, seeds: int, contradicted: Verdict) -> Evidence:
    differences = [each.value - bar for each in numbers]
    low, high = min(differences), max(differences)
    here = len({each.seed for each in numbers})
    seeds = min(seeds, here)  # the other side, or this place, may lack some
    verdict: Verdict = "undecided"
    if low > by and (seeds == 1 or seeds >= MIN_SEEDS):
        verdict = "seen once" if seeds == 1 else "supported"
    elif high <= by and seeds >= MIN_SEEDS:
        verdict = contradicted
    return Evidence(place, here, statistics.fmean(differences), low, high, verdict)


def _numbers(records: Sequence[Mapping[str, Any]], pick: Pick) -> Iterator[Number]:
    """Those of real data that are finite."""
    for record in records:
        if record.get("data") != "real" or any(str(record.get(key)) != value for key, value in pick.where.items()):
            continue
        about_run = str(record.get("seed", "?")), str(record.get("protocol", "not recorded"))
        for path, found in _below(record, pick.key.split("/")):
            value = found[-1] if isinstance(found, list) and found else found
            if isinstance(value, (int, float)) and math.isfinite(value):
                yield Number(" ".join([*pick.where.values(), *path]), float(value), *about_run)


def _below(value: Any, parts: Sequence[str]) -> Iterator[tuple[list[str], Any]]:
    """Everything that a path of patterns leads to, with the names that the patterns stood for."""
    if not parts:
        yield [], value
    elif isinstance(value, dict):
        for name in fnmatch.filter(value, parts[0]):
            for path, found in _below(value[name], parts[1:]):
                yield ([name, *path] if name != parts[0] else path), found


def read_records(path: Path) -> list[dict[str, Any]]:
    """The numbers of a figure; none if there is no such file.

    Raises:
        ConfigError: it is damaged.
    """
    if not path.is_file():
        return []
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}). Draw the figure again, or restore it with git.") from None
    if not isinstance(values, list) or not all(isinstance(record, dict) for record in values):
        raise ConfigError(f"{path} is not a list of records. Draw the figure again, or restore it with git.")
    return values

"""Finished records brought together: from other stores, from archives, and rows from other runs.csv.

Nothing of what comes in is executed: files are read under their four names, settings are plain YAML, and a class that
they name is imported only from packages that are trusted.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dfa_bench.data.writing import atomic
from dfa_bench.errors import ConfigError, RecordError, UserError
from dfa_bench.runs.identity import identity
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.record import Record
from dfa_bench.runs.store import owned, run_name
from dfa_bench.runs.summary import RunSummary
from dfa_bench.tasks.base import task_class
from dfa_bench.training.finished import settings_of

LIMITS = {"config.yaml": 2**20, "metrics.jsonl": 2**28, "result.json": 2**20}  # bytes, unpacked
WEIGHTS = {"model.pt": 2**35}


@dataclass
class Collected:
    """What became of the runs of some places."""

    added: list[str] = field(default_factory=list)  # identities
    known: int = 0  # were here, the same
    conflicts: list[str] = field(default_factory=list)  # are here with other numbers; those stay
    refused: list[str] = field(default_factory=list)  # damaged, or not what they claim to be


def collect(places: Sequence[Path], store: Path, ledger: Ledger) -> Collected:
    """Bring finished runs here: records into the store, rows into the ledger. Doing it again changes nothing.

    Args:
        places: run stores, archives of `pack`, or runs.csv files.

    Raises:
        ConfigError: a place is none of these.
    """
    found = Collected()
    for place in places:
        if place.is_dir():
            for folder in sorted(path.parent for path in place.glob("*/result.json")):
                _collect_record(folder, store, found)
        elif zipfile.is_zipfile(place):
            with tempfile.TemporaryDirectory() as unpacked:
                for folder in _unpack(place, Path(unpacked), found):
                    _collect_record(folder, store, found)
                    shutil.rmtree(folder)
        elif place.suffix == ".csv" and place.is_file():
            _collect_rows(Ledger(place), ledger, found)
        else:
            raise ConfigError(f"{place} is neither a run store, nor an archive of `dfa-bench pack`, nor a runs.csv.")
    return found


def pack(records: Iterable[Record], archive: Path, weights: bool) -> int:
    """Write an archive of finished records; returns how many.

    Raises:
        RecordError: a record is damaged, or the archive cannot be written.
    """
    number = 0
    with atomic(archive, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for record in records:
            record.check_files()
            for name in [*LIMITS, *(WEIGHTS if weights else ())]:
                if (path := record.folder / name).is_file():
                    out.write(path, f"{record.folder.name}/{name}")
            number += 1
    return number


def _unpack(archive: Path, target: Path, found: Collected) -> Iterator[Path]:
    """Records of an archive, one at a time, as folders of numbers below `target`: no name of it becomes a path."""
    with zipfile.ZipFile(archive) as file:
        members: dict[str, list[zipfile.ZipInfo]] = {}
        for member in file.infolist():
            path = PurePosixPath(member.filename)
            is_link = stat.S_ISLNK(member.external_attr >> 16)
            if len(path.parts) != 2 or path.is_absolute() or path.name not in {**LIMITS, **WEIGHTS} or is_link:
                found.refused.append(f"{archive}: {member.filename} is no file of a record.")
            else:
                members.setdefault(path.parts[0], []).append(member)
        for number, (name, parts) in enumerate(members.items()):
            folder = target / str(number)
            folder.mkdir()
            try:
                for member in parts:
                    _extract(file, member, folder / PurePosixPath(member.filename).name)
            except (zipfile.BadZipFile, RecordError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
                found.refused.append(f"{archive}: {name}: {error}")
                continue
            yield folder


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    limit = {**LIMITS, **WEIGHTS}[path.name]
    with archive.open(member) as source, path.open("wb") as out:
        while block := source.read(2**20):
            if out.tell() + len(block) > limit:
                raise RecordError(f"{path.name} has more than {limit} bytes.")
            out.write(block)


def _collect_record(folder: Path, store: Path, found: Collected) -> None:
    record = Record(folder)
    try:
        result = _checked(record)
        settings = settings_of(record)
        here = Record(store.absolute() / f"{run_name(settings)}-{result.identity}")
        if here.folder == folder.absolute():
            raise ConfigError(f"{folder} is in this store already.")
        with owned(here):
            mine = here.read_result()
            if mine is None:
                here.clear()
                for name in [*WEIGHTS, *LIMITS]:  # result.json, the one that counts, is the last
                    if (folder / name).is_file():
                        with (folder / name).open("rb") as source, atomic(here.folder / name, "wb") as out:
                            shutil.copyfileobj(source, out)
                found.added.append(result.identity)
            else:
                _compare(mine, result, str(here.folder), found)
    except UserError as error:
        found.refused.append(str(error))


def _checked(record: Record) -> RunSummary:
    """The result of a record that is whole, and whose identity is that of its settings and data.

    Raises:
        UserError: it is not.
    """
    result = record.read_result()
    if result is None:
        raise RecordError(f"{record.folder} is not finished.")
    record.check_files()
    settings = settings_of(record)
    expected = identity(settings, result.card, task_class(settings).version)
    if expected != result.identity:
        raise RecordError(
            f"{record.folder} is the run {result.identity}, but its settings and data make the run {expected}: it was "
            f"changed, or recorded by another version of dfa-bench."
        )
    return result


def _collect_rows(others: Ledger, ledger: Ledger, found: Collected) -> None:
    added = []
    for key, run in others.runs.items():
        if key in ledger:
            _compare(ledger.runs[key], run, str(ledger.path), found)
        else:
            added.append(run)
    ledger.add(added)
    found.added += [run.identity for run in added]


def _compare(mine: RunSummary, other: RunSummary, where: str, found: Collected) -> None:
    """Whether two records of one run have the same numbers."""
    ours, theirs = mine.as_in_row(), other.as_in_row()
    differing = [
        f"{name} {ours.metrics.get(name)} here, {theirs.metrics.get(name)} there"
        for name in sorted({*ours.metrics, *theirs.metrics})
        if repr(ours.metrics.get(name)) != repr(theirs.metrics.get(name))
    ]
    if not differing and ours.status == theirs.status:
        found.known += 1
        return
    found.conflicts.append(
        f"{where}: the run {mine.identity} has other numbers ({mine.device}; there {other.device}): "
        f"{', '.join(differing) or f'{ours.status} here, {theirs.status} there'}."
    )

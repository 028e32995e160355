"""Files that appear whole or not at all, and small ones that know when they are damaged."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from dfa_bench.errors import RecordError

CHECKSUM = "crc32"  # key of the checksum in what `sealed` writes
BLOCK = 2**22  # bytes


@contextlib.contextmanager
def atomic(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Write a file that appears under its name only when it is whole and on disk.

    What killed processes have left of earlier attempts at it is removed.

    Raises:
        RecordError: it cannot be written (no permission, disk full).
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, path.name)
        descriptor, temporary = _locked_temporary(path)
        try:
            with os.fdopen(descriptor, mode) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                temporary.chmod(0o644)  # mkstemp makes it private
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Delete what killed processes have left of files that they were writing.

    Args:
        folder: where.
        name: of the file; by default any.
    """
    pattern = f".{glob.escape(name)}.????????" if name else ".*.????????"
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):  # the lock is held: its process lives
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)


def _locked_temporary(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, locked for as long as its process lives."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with contextlib.suppress(OSError):  # a file system without locks keeps what killed processes leave
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:  # not taken for a leftover before it was locked
            return descriptor, Path(name)
        os.close(descriptor)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Tell why a file cannot be written, as a RecordError."""
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"{path} cannot be written: {error.strerror or error}. Free some space or choose another folder "
            f"(store.root=DIR for runs, --results DIR for results); then run the same command to continue."
        ) from error


def check_writable(folder: Path) -> None:
    """See whether files can be written to a folder, or to where it would be made, before hours of work for it.

    Raises:
        RecordError: they cannot.
    """
    there = next(each for each in (folder, *folder.parents) if each.exists())
    with explained(folder), tempfile.TemporaryFile(dir=there):
        pass


def sealed(values: Mapping[str, Any]) -> str:
    """A dictionary as JSON, with a checksum of what stands before it as its last value."""
    text = json.dumps(values, indent=2).removesuffix("\n}")
    return f'{text},\n  "{CHECKSUM}": "{zlib.crc32(text.encode()):08x}"\n}}\n'


def unsealed(content: bytes) -> dict[str, Any]:
    """What `sealed` was given, from the bytes of its file.

    Raises:
        ValueError: they are not those that were written.
    """
    text, _, end = content.rpartition(b",\n")
    if end != f'  "{CHECKSUM}": "{zlib.crc32(text):08x}"\n}}\n'.encode():
        raise ValueError("its checksum differs")
    values: dict[str, Any] = json.loads(text + b"}")
    return values


def file_crc32(path: Path) -> str:
    """CRC-32 of a file, as eight hexadecimal digits."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            value = zlib.crc32(block, value)
    return f"{value:08x}"

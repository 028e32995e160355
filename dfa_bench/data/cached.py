"""What is worked out once and kept in the cache: folders, and small facts about files."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from dfa_bench.data.writing import atomic, file_crc32, sealed, unsealed
from dfa_bench.errors import RecordError

CHECKSUMS = "crc32.json"


def made_once(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that is there; made if it is not, or is damaged, in a folder beside it that is then renamed.

    So what is here is whole, whoever was killed before, and needs neither a lock nor a writable cache to be read.

    Args:
        folder: named after what it is made from.
        name: of the data set, for messages.
        make: fills an empty folder.

    Raises:
        RecordError: the folder cannot be written (disk full, no permission).
    """
    if _is_whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if not _is_whole(folder):
                if folder.is_dir():
                    print(f"{folder} is damaged: it is made again.", file=sys.stderr)
                    shutil.rmtree(folder)
                unfinished = folder.with_name(folder.name + ".unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
                unfinished.mkdir()
                try:
                    make(unfinished)
                    (unfinished / CHECKSUMS).write_text(sealed(_checksums(unfinished)))
                    unfinished.replace(folder)
                finally:
                    shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise RecordError(
            f"{name}: its processed form cannot be written below {folder.parent}: {error.strerror or error}. Free some "
            f"space or choose another folder with data.cache=DIR."
        ) from error
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether a folder is there as it was made; those of earlier versions have no checksums to tell by."""
    try:
        content = (folder / CHECKSUMS).read_bytes()
    except FileNotFoundError:
        return folder.is_dir()
    with contextlib.suppress(OSError, ValueError):
        if unsealed(content) == _checksums(folder):
            return True
    return False


def _checksums(folder: Path) -> dict[str, str]:
    """CRC-32 of every file below a folder, by its path in it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != CHECKSUMS]
    return {path.relative_to(folder).as_posix(): file_crc32(path) for path in files}


def remembered(cache: Path, what: str, files: Sequence[Path], compute: Callable[[], Any]) -> Any:
    """A fact about files, kept in the cache for as long as their sizes and times of change stay the same.

    Args:
        cache: its folder.
        what: names the fact; a folder of the cache.
        files: which it depends on.
        compute: works it out, as something that JSON can hold.
    """
    stats = [(path.absolute(), path.stat()) for path in files]
    stamp = "\n".join(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)
    kept = cache / what / f"{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.sealed.json"
    with contextlib.suppress(OSError, ValueError, KeyError):  # not kept yet, or damaged: worked out again
        return unsealed(kept.read_bytes())["fact"]
    fact = compute()
    with contextlib.suppress(RecordError), atomic(kept) as file:  # a cache that cannot be written costs time only
        file.write(sealed({"fact": fact}))
    return fact

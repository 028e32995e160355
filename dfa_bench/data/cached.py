"""What is worked out once and kept in the cache: folders, and small facts about files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from dfa_bench.errors import RecordError


def made_once(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that is there; made if it is not, in a folder beside it that is then renamed.

    So what is here is whole, whoever was killed before, and needs neither a lock nor a writable cache to be read.

    Args:
        folder: named after what it is made from.
        name: of the data set, for messages.
        make: fills an empty folder.

    Raises:
        RecordError: the folder cannot be written (disk full, no permission).
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if not folder.is_dir():
                unfinished = folder.with_name(folder.name + ".unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
                unfinished.mkdir()
                try:
                    make(unfinished)
                    unfinished.replace(folder)
                finally:
                    shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise RecordError(
            f"{name}: its processed form cannot be written below {folder.parent}: {error.strerror or error}. Free some "
            f"space or choose another folder with data.cache=DIR."
        ) from error
    return folder


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
    kept = cache / what / f"{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    fact = compute()
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=kept.parent, delete=False) as file:
            json.dump(fact, file)
        Path(file.name).replace(kept)
    return fact

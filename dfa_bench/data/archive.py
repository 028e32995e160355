"""A folder out of a large archive, on request: the download goes on where it stopped, the folder appears whole or not.

No checksums of these archives are published: size, zip and structure are checked, and the checksum is recorded.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from filelock import FileLock

from dfa_bench.data.progress import Bar, tracked
from dfa_bench.data.resolve import file_sha256
from dfa_bench.errors import CorruptData, MissingData, without_secrets

GROWTH = 20  # times its size that an archive of images may unpack to; a bomb has hundreds
BLOCK = 2**16  # bytes at a time; at most so many are lost when a download breaks off


def fetch_folder(url: str, inside: str, cache: Path, check: Callable[[Path], object]) -> Path:
    """Download a zip into CACHE/downloads, where it stays for other folders, and unpack one folder of it.

    Args:
        url: of the zip.
        inside: path of the folder, "nerf_synthetic/lego"; the zip may have it below others. It becomes CACHE/inside.
        cache: the cache folder.
        check: of the unpacked folder, before it gets its name; raises CorruptData.

    Raises:
        MissingData: the source cannot be reached, breaks off, or serves something else.
        CorruptData: the zip is damaged, does not have the folder, or would write outside of it.
    """
    downloads, target = cache / "downloads", cache / inside
    archive = downloads / url.rpartition("/")[2]
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        with FileLock(downloads / ".lock"):
            if not archive.is_file():
                _download(url, archive)
                size, digest = archive.stat().st_size, file_sha256(archive, cache)
                print(f"{archive}: {size} bytes, sha256 {digest} (recorded; none is published)", file=sys.stderr)
            if target.exists():  # another process was faster, or somebody put a part of it there
                check(target)
            else:
                _unpack(archive, inside, target, check)
    except OSError as error:  # of the file system; those of requests are of this kind too
        reason = getattr(error.args[0], "reason", error) if error.args else type(error).__name__
        raise MissingData(
            f"The download failed ({str(reason).splitlines()[0][:200]}); the same command continues it."
        ) from error
    return target


def _download(url: str, archive: Path) -> None:
    part = archive.with_name(f"{archive.name}.part")
    print(f"Downloading {without_secrets(url)}", file=sys.stderr, flush=True)
    _receive(url, part)
    if not zipfile.is_zipfile(part):
        part.unlink()
        raise MissingData(f"{url} did not send a zip file; it may have to be downloaded with a browser.")
    part.replace(archive)


def _receive(url: str, part: Path) -> None:
    """Append to `part` what it lacks; raises OSError if the source breaks off."""
    import requests  # half a second that only a download should pay

    have = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=20) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:  # nothing lies behind what is here
            if answer.headers.get("Content-Range") != f"bytes */{have}":
                part.unlink()  # of another file
                _receive(url, part)
            return
        answer.raise_for_status()
        goes_on = answer.status_code == requests.codes.partial_content
        have = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if goes_on else "wb") as file, Bar(f"Downloading {part.stem}", "B", total, have) as bar:
            for block in answer.iter_content(BLOCK):
                file.write(block)
                bar.update(len(block))
    if total not in (None, part.stat().st_size):
        raise OSError(f"{part.stat().st_size} of {total} bytes arrived")


def _unpack(archive: Path, inside: str, target: Path, check: Callable[[Path], object]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as file, tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as staged:
            folder = Path(staged) / target.name
            members = list(_members(file, inside))
            unpacked = sum(member.file_size for _, member in members)  # more than that is not read
            if unpacked > GROWTH * archive.stat().st_size + BLOCK:
                raise CorruptData(f"{archive} would unpack to {unpacked} bytes, more than {GROWTH} times its size.")
            for place, member in tracked(members, f"Unpacking {inside}", "file", len(members)):
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, (folder / place).open("wb") as out:
                    shutil.copyfileobj(source, out, BLOCK)  # checks the member's CRC at its end
            if not members:
                raise CorruptData(f"{archive} has no folder {inside}. Delete it if it is not the official archive.")
            check(folder)
            folder.replace(target)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        archive.unlink()
        raise CorruptData(f"{archive} was damaged ({error}) and has been deleted. Download it again.") from None


def _members(file: zipfile.ZipFile, inside: str) -> Iterator[tuple[PurePosixPath, zipfile.ZipInfo]]:
    """Files below a folder, by their place in it; refuses an archive that names any place outside of itself."""
    wanted = PurePosixPath(inside).parts
    for member in file.infolist():
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in member.filename:
            raise CorruptData(f"{file.filename} would write to {member.filename}, outside its folder: refused.")
        starts = [start for start in range(len(path.parts)) if path.parts[start : start + len(wanted)] == wanted]
        if starts and not member.is_dir() and path.parts[0] != "__MACOSX":  # its twins, made by the Finder
            yield PurePosixPath(*path.parts[starts[0] + len(wanted) :]), member

"""Checked downloads with a progress bar, by pooch."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from dfa_bench.data.progress import Bar
from dfa_bench.errors import MissingData, without_secrets


def download(url: str, sha256: Mapping[str, str | None], folder: Path, name: str) -> None:
    """Fetch the files that `folder` lacks. A file gets its name only once it is complete and its checksum right.

    Args:
        url: of the folder that the files are in.
        sha256: file name to checksum; None where it is not known: the reader checks then.
        folder: where the files go.
        name: of the data set.

    Raises:
        MissingData: the source cannot be reached, or serves something else.
    """
    import pooch  # imports requests: half a second that only a download should pay

    pooch.get_logger().setLevel(logging.WARNING)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock"):
            for file, checksum in sha256.items():
                if not (folder / file).is_file():
                    print(f"{name}: downloading {without_secrets(f'{url}/{file}')}", file=sys.stderr)
                    known = f"sha256:{checksum}" if checksum else None
                    with Bar(f"Downloading {file}", "B") as bar:
                        fetch = pooch.HTTPDownloader(progressbar=bar, timeout=20)
                        pooch.retrieve(f"{url}/{file}", known, fname=file, path=folder, downloader=fetch)
    except Exception as error:  # requests, pooch and the file system each have their own
        reason = getattr(error.args[0], "reason", error) if error.args else type(error).__name__
        raise MissingData(f"The download failed ({str(reason).splitlines()[0][:200]}).") from error

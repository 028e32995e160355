"""Where a number comes from: versions, commit, device, time."""

from __future__ import annotations

import functools
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from dfa_bench.data.resolve import DataCard
from dfa_bench.runs.record import Provenance

PACKAGES = ("dfa-bench", "torch", "torch-geometric", "numpy", "lightning-fabric")


def provenance(device: torch.device, data: DataCard) -> Provenance:
    return Provenance(
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        commit=commit(),
        versions={"python": platform.python_version(), **_versions()},
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, {_processor()}",
        threads=torch.get_num_threads(),
        data=data,
    )


@functools.cache
def commit() -> str | None:
    """The commit of a source checkout, with "-dirty" behind it if files differ; None for an installed wheel."""
    package = Path(__file__).parents[1]
    try:
        if Path(_git("rev-parse", "--show-toplevel", cwd=package)) != package.parent:
            return None  # installed below somebody else's checkout
        head = _git("rev-parse", "HEAD", cwd=package)
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/dfa_bench", ":/configs", cwd=package)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("-dirty" if changed else "")


def _git(*arguments: str, cwd: Path) -> str:
    return subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True).stdout.strip()


@functools.cache
def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()

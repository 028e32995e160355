"""Where a number comes from: versions, commit, device, time."""

from __future__ import annotations

import functools
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from dfa_bench.runs.summary import versions_text

if TYPE_CHECKING:
    import torch

PACKAGES = ("dfa-bench", "torch", "torch-geometric", "numpy", "lightning-fabric")


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def device_name(device: torch.device) -> str:
    """A device as it is sold: "NVIDIA H100", "cpu, AMD EPYC"."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return f"{device.type}, {_processor()}"


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
def versions() -> str:
    """Of Python and of the packages that a number may depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return versions_text(found)


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()

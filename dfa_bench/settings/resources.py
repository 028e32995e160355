"""Where the YAML files of the suite lie."""

from __future__ import annotations

from pathlib import Path


def resource_folder(name: str) -> Path:
    """`configs` or `experiments`: of the source checkout, or of the installed wheel."""
    package = Path(__file__).parents[1]
    installed = package / f"_{name}"
    return installed if installed.is_dir() else package.parent / name

"""A small corpus in WikiText's layout."""

from pathlib import Path

import pytest

from dfa_bench.settings.schema import DataSettings

SPLITS = {"train": "train", "val": "valid", "test": "test"}
LINES = {
    "train": ["", "= The Castle =", "", "The castle was built by <unk> in 1432 .", "It can 't be seen ; Über <unk>"]
    * 30,
    "val": ["", "= Other things =", "A <unk> castle was seen ."] * 20,
    "test": ["the 1432 castle", ""] * 25,
}


def write_text(folder: Path, lines: dict[str, list[str]] = LINES) -> Path:
    """The official text form: spaces around each line."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in SPLITS.items():
        text = "".join(f" {line} \n" if line else " \n" for line in lines[split])
        (folder / f"wiki.{name}.tokens").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> DataSettings:
    return DataSettings(root=str(tmp_path / "root"), cache=str(tmp_path / "cache"), download=False)

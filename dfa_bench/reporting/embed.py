"""Quotes in written documents: README.md and docs/ show tables of results/, and examples, between two comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dfa_bench.data.writing import atomic
from dfa_bench.errors import ConfigError

BLOCK = re.compile(r"<!-- from (?P<source>\S+) -->\n.*?<!-- end -->\n", re.DOTALL)


def embed(text: str, root: Path) -> str:
    """A document with each block replaced by the file that its first comment names.

    Raises:
        ConfigError: there is no such file.
    """

    def block(found: re.Match[str]) -> str:
        source = root / found["source"]
        if not source.is_file():
            raise ConfigError(f"A document quotes {source}, which does not exist.")
        quoted = source.read_text().strip()
        if source.suffix == ".py":
            quoted = f"```python\n{quoted}\n```"
        return f"<!-- from {found['source']} -->\n\n{quoted}\n\n<!-- end -->\n"

    return BLOCK.sub(block, text)


def documents(root: Path) -> Iterator[Path]:
    """The documents of a checkout that quote results."""
    for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        if path.is_file() and BLOCK.search(path.read_text()):
            yield path


def embed_all(root: Path) -> list[Path]:
    """Renew all quotes below a checkout; returns the documents that changed."""
    changed = []
    for path in documents(root):
        text = path.read_text()
        renewed = embed(text, root)
        if renewed != text:
            with atomic(path) as file:
                file.write(renewed)
            changed.append(path)
    return changed

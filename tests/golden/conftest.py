"""Where the reference values are, and the precision that they are compared in."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder `golden` beside the data folder; its README.md says how the values were made."""
    root = os.environ.get("DFA_BENCH_DATA")
    if not root:
        pytest.skip("DFA_BENCH_DATA is not set: no reference values beside it")
    folder = Path(root).resolve().parent / "golden"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist: no reference values of the released code")
    return folder


@pytest.fixture
def double() -> Iterator[None]:
    """Float64 for all that is made here: normalisations of graphs, ray depths and position tables too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)

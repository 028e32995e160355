"""What tests share: real data where there are any, and runs on the stand-in."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch

from dfa_bench.commands.main import main
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.settings.schema import RunSettings

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no mistake of ours
hypothesis.settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """Each run collects garbage before it measures memory; what was imported until here is not looked at each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Networks of tests are so small that a second thread only waits, and one test runs on each core."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test writes need not survive a power cut: syncing takes minutes of the suite on a busy disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def real_data() -> Path:
    root = os.environ.get("DFA_BENCH_DATA")
    if not root:
        pytest.skip("DFA_BENCH_DATA is not set: no real data")
    return Path(root)


@pytest.fixture
def smoke(tmp_path: Path) -> Callable[..., RunSettings]:
    """Settings of a run on the stand-in, with a store of its own."""

    def compose(*overrides: str) -> RunSettings:
        fixed = ["scale=smoke", f"store.root={tmp_path / 'runs'}", "trainer.progress=none", "trainer.accelerator=cpu"]
        return run_settings([*fixed, *overrides])

    return compose


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """The command, in this process: its status, what it prints, what it tells of mistakes."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dfa-bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        assert isinstance(end.value.code, int), end.value.code
        return (end.value.code, *capfd.readouterr())

    return command

"""What tests of engines share: some planned runs, and how they end when nobody disturbs them."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from dfa_bench.experiments.dispatch import Failure, do_all
from dfa_bench.experiments.engines import Engine
from dfa_bench.experiments.plan import PlannedRun, finished_result, plan
from dfa_bench.experiments.progress import Board, Watched
from dfa_bench.experiments.schema import load_experiment
from dfa_bench.settings.resources import resource_folder
from dfa_bench.training.checkpoint import read_tensors
from dfa_bench.training.execute import execute


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., list[PlannedRun]]:
    """Some runs of Table 4 on the stand-in, with overrides."""

    def build(number: int, *overrides: str) -> list[PlannedRun]:
        fixed = ["scale=smoke", f"store.root={tmp_path / 'runs'}", "trainer.accelerator=cpu", "trainer.threads=1"]
        fixed += ["trainer.checkpoint_seconds=0.2"]
        table = load_experiment(resource_folder("experiments"), "table4")
        return plan(table, range(number), [*fixed, *overrides])[:number]

    return build


def do(runs: list[PlannedRun], engine: Engine, retry: int = 0, max_failures: int | None = None) -> list[Failure]:
    watched = Watched([runs], {run.identity for run in runs}, {})
    with Board(watched, Console(force_terminal=False)) as board:
        return do_all(runs, engine, board, retry, max_failures)


def assert_done_as_undisturbed(runs: list[PlannedRun], tmp_path: Path) -> None:
    """Every run has the metrics that it has when it is done in this process, and left nothing but its record."""
    for run in runs:
        store = run.settings.store.model_copy(update={"root": str(tmp_path / "undisturbed")})
        whole = execute(run.settings.model_copy(update={"store": store}))
        result = finished_result(run)
        assert result is not None
        assert (result.metrics, result.steps) == (whole.result.metrics, whole.result.steps)
        folder = Path(run.settings.store.root) / whole.folder.name
        assert {path.name for path in folder.iterdir()} == {path.name for path in whole.folder.iterdir()}


@pytest.fixture
def at_checkpoint() -> Iterator[Callable[[Path, Callable[[Path], None]], None]]:
    """Do something to the first run below a store that has a checkpoint, given its folder, in another thread."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def arm(store: Path, act: Callable[[Path], None]) -> None:
        def wait() -> None:
            while not over.wait(0.02):
                for path in store.glob("*/checkpoint.pt"):
                    assert read_tensors(path)["progress"]["epoch"] > 0
                    act(path.parent)
                    return

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield arm
    over.set()
    for thread in threads:
        thread.join()

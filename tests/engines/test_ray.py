"""A real Ray cluster of two nodes on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfa_bench.settings.engines import RaySettings
from tests.engines.conftest import assert_done_as_undisturbed, do

ray = pytest.importorskip("ray", reason="not installed: ray (pip install 'dfa-bench[ray]')")
pytestmark = pytest.mark.engines


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield started
    started.shutdown()


def test_runs_of_a_node_that_is_lost_are_done_by_the_other(cluster, planned, tmp_path, at_checkpoint):
    from dfa_bench.experiments.engines.ray import RayEngine

    second = cluster.add_node(num_cpus=1)
    runs = planned(2, "trainer.max_epochs=400")
    lost = []

    def lose(folder: Path) -> None:
        cluster.remove_node(second, allow_graceful=False)
        lost.append(folder)

    engine = RayEngine(RaySettings(name="ray", address=cluster.address))
    assert "2 CPUs" in engine.says
    at_checkpoint(tmp_path / "runs", lose)
    assert do(runs, engine, retry=1) == []
    assert lost
    assert_done_as_undisturbed(runs, tmp_path)

"""Batches made where the data are: the same ones wherever that is, and ahead of time too."""

import random
import threading
from itertools import islice

import pytest
import torch
from torch.utils._pytree import tree_leaves

from dfa_bench.tasks.base import MovesData, Shard, build_task
from dfa_bench.tasks.graphs.graph import Graph
from dfa_bench.training.execute import execute
from dfa_bench.training.placement import AHEAD, prefetched

TASKS = {
    "nodes": ["model=gcn"],
    "links": ["task=links"],
    "clicks": ["task=clicks", "model=fm"],
    "language": ["task=language"],
    "shuffled chunks": ["task=language", "task.shuffle=true"],
    "view_synthesis": ["task=view_synthesis"],
}
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def tensors(batch: object) -> list[torch.Tensor]:
    leaves = [leaf.edge_index if isinstance(leaf, Graph) else leaf for leaf in tree_leaves(batch)]
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]  # rays know their process, too


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=cuda)])
@pytest.mark.parametrize("name", TASKS)
def test_batches_are_the_same_ones_where_the_data_have_been_moved(smoke, name, device):
    settings = smoke(*TASKS[name], "rule=bp")
    still, moved = build_task(settings), build_task(settings)
    assert isinstance(moved, MovesData)
    assert moved.data_bytes() > 0
    moved.move_data(torch.device(device))  # to the CPU too: the way of a device, where any machine can go it
    for shard in (Shard(),) if name in ("nodes", "links") else (Shard(), Shard(1, 2)):  # a graph is not divided
        batches = []
        for task in (still, moved):
            random.seed(0)  # what pairs without an edge are drawn by
            batches.append(list(islice(task.batches(2, shard), 3)))
        for one, other in zip(*batches, strict=True):
            for mine, its in zip(tensors(one), tensors(other), strict=True):
                tolerance = 0.0 if device == "cpu" else 1e-5  # of rays, which are computed there
                torch.testing.assert_close(its.cpu(), mine, rtol=tolerance, atol=tolerance)


@cuda
@pytest.mark.parametrize("name", ["clicks", "language", "view_synthesis"])
def test_data_that_stay_on_the_cpu_train_the_same(smoke, name):
    options = [*TASKS[name], "rule=bp", "trainer.accelerator=cuda", "force=true"]
    found = [execute(smoke(*options, f"trainer.data_on_device={moved}")) for moved in (True, False)]
    assert found[1].result.metrics == pytest.approx(found[0].result.metrics, rel=1e-3)


def test_prefetched_batches_are_the_same_ones_and_a_few_ahead():
    made = []

    def batches():
        for number in range(20):
            made.append(number)
            yield number

    ahead = prefetched(batches(), lambda number: 10 * number)
    assert [next(ahead) for _ in range(3)] == [0, 10, 20]
    assert list(ahead) == [10 * number for number in range(3, 20)]
    assert made == list(range(20))


def test_a_prefetching_thread_ends_with_its_reader_and_hands_on_what_goes_wrong():
    before = threading.active_count()
    made = []

    def endless():
        while True:
            made.append(None)
            yield None

    ahead = prefetched(endless(), lambda batch: batch)
    next(ahead)
    ahead.close()
    assert threading.active_count() == before
    assert len(made) <= AHEAD + 3

    def broken():
        yield 1
        raise OSError("disk")

    ahead = prefetched(broken(), lambda batch: batch)
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk"):
        next(ahead)

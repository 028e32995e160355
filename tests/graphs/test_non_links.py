"""Pairs without an edge: PyG's very numbers, and Python's generator left where PyG leaves it."""

import random

import numpy as np
import pytest
import torch
from torch_geometric.utils import negative_sampling

from dfa_bench.tasks.graphs.non_links import NonLinks, sample_range


def edges(nodes: int, count: int, seed: int) -> torch.Tensor:
    """Without repetition, self-loops among them."""
    numbers = np.random.default_rng(seed).choice(nodes * nodes, count, replace=False)
    return torch.from_numpy(np.stack(np.divmod(numbers, nodes)))


@pytest.mark.parametrize(
    "nodes, count",
    [(3000, 12000), (300, 900), (20, 40), (20, 300), (20, 370), (5, 25), (2, 0)],  # the last are (almost) complete
)
def test_pairs_are_those_of_pyg(nodes, count):
    links = edges(nodes, count, seed=nodes)
    sampler = NonLinks(links, nodes)
    for seed in range(3):
        random.seed(seed)
        expected, then = negative_sampling(links, nodes), random.random()
        random.seed(seed)
        found = sampler.draw()
        assert torch.equal(found, expected)
        assert random.random() == then


@pytest.mark.parametrize("population, count", [(10**6, 30000), (2**29, 1000), (2**31 + 1, 6), (2**40, 50), (7, 0)])
def test_a_sample_is_that_of_python(population, count):
    for seed in range(3):
        random.seed(seed)
        random.getrandbits(32 * seed + 1)  # from any place of the generator's block
        state = random.getstate()
        expected, then = random.sample(range(population), count), random.random()
        random.setstate(state)
        assert sample_range(population, count).tolist() == expected
        assert random.random() == then

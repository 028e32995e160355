"""Pairs of nodes without an edge, drawn at each step as PyG's `negative_sampling` draws them, ten times as fast.

PyG asks Python's generator for each of some 90,000 pairs of PubMed: 43 ms of CPU time a step, whatever the device, and
here 4. The same words of the same generator are taken as one array, so that runs keep their numbers.
"""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

TRIES = 3  # of PyG: a graph that is almost complete may get fewer pairs


class NonLinks:
    """Draws as many pairs as there are edges; no self-loops.

    Args:
        edge_index: (2, edges), on the CPU.
        nodes: how many there are.
    """

    def __init__(self, edge_index: Tensor, nodes: int) -> None:
        source, target = edge_index.numpy()
        apart = source != target
        source, target = source[apart], target[apart]
        # Pairs of different nodes are numbered row by row, without the diagonal.
        self._links = np.sort(source * (nodes - 1) + target - (target > source))
        self._nodes, self._count = nodes, edge_index.shape[1]

    def draw(self) -> Tensor:
        """(2, n) from Python's global generator."""
        population = self._nodes * (self._nodes - 1)
        found = np.empty(0, dtype=np.int64)
        if len(self._links) < population:
            share = 1.0 - len(self._links) / population
            for _ in range(TRIES):
                drawn = sample_range(population, min(population, int(1.1 * self._count / share)))
                drawn = drawn[~np.isin(drawn, self._among_links(drawn))]
                found = np.concatenate([found, drawn[~np.isin(drawn, found)]])
                if len(found) >= self._count:
                    break
        row, column = np.divmod(found[: self._count], max(self._nodes - 1, 1))
        return torch.from_numpy(np.stack([row, column + (row <= column)]))

    def _among_links(self, numbers: np.ndarray) -> np.ndarray:
        """Those numbers that are links: few, so that what follows is fast."""
        numbers = np.sort(numbers)
        places = np.searchsorted(self._links, numbers).clip(max=max(len(self._links) - 1, 0))
        return numbers[self._links[places] == numbers] if len(self._links) else numbers[:0]


def sample_range(population: int, count: int) -> np.ndarray:
    """`random.sample(range(population), count)`, with the same numbers, and the same state of `random` afterwards.

    All numbers in order, without a draw, if `count` is the whole population (as PyG has it).
    """
    if count >= population:
        return np.arange(population)
    bits = population.bit_length()
    table = 21 + (4 ** math.ceil(math.log(count * 3, 4)) if count > 5 else 0)
    if population <= table or bits > 32:  # there `sample` goes another way
        return np.array(random.sample(range(population), count), dtype=np.int64)
    version, internal, gauss = random.getstate()
    generator = np.random.MT19937()
    before: Any = {"key": np.array(internal[:-1], dtype=np.uint32), "pos": internal[-1]}
    words = int(1.1 * count * 2**bits / population) + 64
    while True:
        generator.state = {"bit_generator": "MT19937", "state": before}
        numbers = generator.random_raw(words) >> np.uint64(32 - bits)  # `random.getrandbits`
        used = np.flatnonzero(_is_chosen(numbers, population))[:count]
        if len(used) == count:
            break
        words *= 2
    generator.state = {"bit_generator": "MT19937", "state": before}
    generator.random_raw(int(used[-1]) + 1 if count else 0)
    after = generator.state["state"]
    random.setstate((version, (*map(int, after["key"]), int(after["pos"])), gauss))
    return numbers[used].astype(np.int64)


def _is_chosen(numbers: np.ndarray, population: int) -> np.ndarray:
    """Which of the numbers are below the population and drawn for the first time."""
    chosen = numbers < population
    in_order = np.sort(numbers[chosen])
    twice = in_order[1:][in_order[1:] == in_order[:-1]]
    if len(twice):
        places = np.flatnonzero(np.isin(numbers, twice))
        first = places[np.unique(numbers[places], return_index=True)[1]]
        chosen[np.setdiff1d(places, first)] = False
    return chosen

"""A graph with features and classes, as a data set gives it to the tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # cards of data are wanted without PyTorch
    from torch import Tensor


@dataclass(frozen=True)
class CitationGraph:
    """A loaded data set.

    Args:
        features: word counts or TF-IDF weights, (nodes, features), dense.
        edge_index: (2, edges), both directions.
        labels: class of each node, (nodes,); -1: unknown.
        train, val, test: nodes of the split that comes with the data set.
    """

    features: Tensor
    edge_index: Tensor
    labels: Tensor
    train: Tensor
    val: Tensor
    test: Tensor

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

"""Generated data that stand in for real ones, so that everything runs without data and network. Always labelled."""

from __future__ import annotations

import torch
from torch import Tensor


def block_model_graph(
    nodes: int, classes: int, features: int, seed: int, degree: float = 4.0, homophily: float = 0.85
) -> tuple[Tensor, Tensor, Tensor]:
    """A stochastic block model with sparse features that depend on the class, the stand-in for citation graphs.

    Args:
        nodes, classes, features: sizes.
        seed: of the generator.
        degree: mean number of neighbours.
        homophily: share of a node's edges that stay within its class.

    Returns:
        Binary features (nodes, features), edge_index (2, edges) with both directions, labels (nodes,).
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(nodes) % classes
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    share = torch.where(same, homophily / same.sum(1, keepdim=True), (1 - homophily) / (~same).sum(1, keepdim=True))
    upper = torch.rand(nodes, nodes, generator=generator).triu(1)
    source, target = ((upper > 0) & (upper < degree * share)).nonzero(as_tuple=True)
    edge_index = torch.cat([torch.stack([source, target]), torch.stack([target, source])], dim=1)
    # Each class uses its own tenth of the words more often than the rest.
    typical = torch.rand(classes, features, generator=generator) < 0.1
    probability = torch.where(typical, 0.12, 0.02)[labels]
    words = (torch.rand(nodes, features, generator=generator) < probability).float()
    return words, edge_index, labels

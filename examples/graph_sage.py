"""GraphSAGE with neighbour sampling, by BP, DFA and DFA along the edges: python examples/graph_sage.py

The graph is drawn: five communities, features that tell little, labels for 20 nodes of each. The library needs no
change for sampled batches: an error has one row for each node of the batch, and nodes without a label have none.
"""

import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import SAGEConv

from dfa_bench.feedback import Backprop, DirectFeedback, FeedbackPath, GraphFeedback, Rule, Shallow

COMMUNITIES, NODES = 5, 1000


class GraphSAGE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = SAGEConv(32, 64), SAGEConv(64, COMMUNITIES)
        self.activation = nn.ReLU()

    def forward(self, features: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv2(self.activation(self.conv1(features, edge_index)), edge_index)


def drawn_graph() -> tuple[Tensor, Tensor, Tensor]:
    """Features (nodes, 32), edges (2, edges) in both directions, labels (nodes,)."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(NODES) % COMMUNITIES
    features = torch.randn(COMMUNITIES, 32, generator=generator)[labels] + 3 * torch.randn(
        NODES, 32, generator=generator
    )
    chance = torch.where(labels[:, None] == labels[None, :], 0.03, 0.002)
    upper = torch.triu(torch.rand(NODES, NODES, generator=generator) < chance, 1)
    one_way = upper.nonzero().T
    return features, torch.cat([one_way, one_way.flip(0)], dim=1), labels


def sampled(edges: Tensor, seeds: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Nodes up to two hops from some seeds, which come first, over a share of the edges; and these edges."""
    kept, reached = [], seeds
    for _ in range(2):
        into = torch.isin(edges[1], reached) & (torch.rand(edges.shape[1], generator=generator) < share)
        kept.append(edges[:, into])
        reached = torch.unique(torch.cat([reached, edges[0, into]]))
    others = reached[~torch.isin(reached, seeds)]
    nodes = torch.cat([seeds, others])
    place = torch.full((NODES,), -1).index_copy(0, nodes, torch.arange(len(nodes)))
    return nodes, place[torch.unique(torch.cat(kept, dim=1), dim=1)]


def accuracy(rule: Rule, epochs: int) -> float:
    """On the nodes without a label in training."""
    features, edges, labels = drawn_graph()
    torch.manual_seed(0)
    model, generator = GraphSAGE(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=5e-4)
    path = FeedbackPath(["activation"], error_at="conv2")
    with rule.attach(model, path, example=(features, edges)) as attached:
        for _ in range(epochs):
            for seeds in torch.randperm(20 * COMMUNITIES, generator=generator).split(25):
                nodes, among = sampled(edges, seeds, 0.5, generator)
                if "edge_index" in attached.needs:
                    attached.begin_step(edge_index=among)
                optimizer.zero_grad()
                F.cross_entropy(model(features[nodes], among)[: len(seeds)], labels[seeds]).backward()
                optimizer.step()
    with torch.no_grad():
        predicted = model.eval()(features, edges).argmax(dim=1)
    return float((predicted == labels)[20 * COMMUNITIES :].float().mean())


def main(epochs: int) -> None:
    rules = {"BP": Backprop(), "DFA along edges": GraphFeedback(), "DFA": DirectFeedback(), "shallow": Shallow()}
    for name, rule in rules.items():
        print(f"{name:<16} {100 * accuracy(rule, epochs):.1f}%", flush=True)


if __name__ == "__main__":
    main(epochs=int(sys.argv[1]) if len(sys.argv) > 1 else 30)

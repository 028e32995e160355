"""Link prediction with a graph autoencoder (Kipf & Welling 2016; Table 4)."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import ConfigDict, validate_call
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.transforms import RandomLinkSplit

from dfa_bench.settings.schema import Component, DataSettings
from dfa_bench.tasks.base import Shard, Split, Watch, build
from dfa_bench.tasks.graphs.datasets import GraphDataset
from dfa_bench.tasks.graphs.graph import Graph, node_features
from dfa_bench.tasks.graphs.non_links import NonLinks


class LinkBatch(NamedTuple):
    graph: Graph  # with training edges only
    links: Tensor  # (2, n) edges
    non_links: Tensor  # (2, n) pairs of nodes without an edge


class LinkPrediction:
    """Tell a graph's held-out edges from pairs without an edge: 85% / 5% / 10% of the edges.

    The encoder sees the training edges, for testing too. The split follows the run's seed, so that seeds differ in it
    and the rules share it. Each step draws as many non-edges as there are training edges (PyG 1.5.0, which the authors
    pinned: and as there are nodes).

    Args:
        dataset, model, data, seed: see `base.Task`.
        features: "row_normalized" or "raw", as for nodes.
    """

    version: ClassVar[int] = 1
    watch: ClassVar[Watch] = Watch("auc", "higher")
    compiles: ClassVar[bool] = False  # it does not trace sparse matrices
    table: ClassVar[str] = "Table 4"

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        dataset: GraphDataset,
        model: Component,
        data: DataSettings,
        seed: int,
        features: Literal["row_normalized", "raw"],
    ) -> None:
        loaded = dataset.load(data)
        whole = Data(edge_index=loaded.edge_index, num_nodes=len(loaded.features))
        split = RandomLinkSplit(0.05, 0.1, is_undirected=True, split_labels=True, add_negative_train_samples=False)
        with _seeded(seed):
            train, val, test = split(whole)
        self.graph = Graph(node_features(loaded.features, features), train.edge_index)
        self.non_links = NonLinks(train.edge_index, self.graph.nodes)
        self.held_out = {
            name: (part.pos_edge_label_index, part.neg_edge_label_index)
            for name, part in (("val", val), ("test", test))
        }
        self.model = model

    def build_model(self) -> nn.Module:
        model: nn.Module = build(self.model, "model", features=self.graph.features.shape[1])
        return model

    def example(self) -> object:
        return self.graph

    def batches(self, epoch: int, shard: Shard) -> list[LinkBatch]:
        shard.refuse_several("links")
        return [LinkBatch(self.graph, self.graph.edge_index, self.non_links.draw())]

    def data_bytes(self) -> int:
        return self.graph.nbytes

    def move_data(self, device: torch.device) -> None:
        self.graph = self.graph.to(device)

    def loss(self, model: nn.Module, batch: LinkBatch) -> Tensor:
        latent = model(batch.graph)  # (nodes, latent)
        return (
            -F.logsigmoid(_scores(latent, batch.links)).mean() - F.logsigmoid(-_scores(latent, batch.non_links)).mean()
        )

    def edge_index(self, batch: LinkBatch) -> Tensor:
        return batch.graph.edge_index

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        latent = model(self.graph.to(next(model.parameters()).device)).cpu()
        scores = [_scores(latent, pairs) for pairs in self.held_out[split]]
        truth = torch.cat([torch.ones(len(scores[0])), torch.zeros(len(scores[1]))])
        score = torch.cat(scores).sigmoid()
        return {"auc": float(roc_auc_score(truth, score)), "ap": float(average_precision_score(truth, score))}


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed all generators that PyG draws a split from, and give them back as they were."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        yield
    random.setstate(before[0])
    np.random.set_state(before[1])


def _scores(latent: Tensor, pairs: Tensor) -> Tensor:
    """Inner product z_i · z_j of each pair, (n,)."""
    return (latent[pairs[0]] * latent[pairs[1]]).sum(dim=-1)

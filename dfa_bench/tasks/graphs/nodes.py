"""Node classification on citation graphs (Table 3)."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import ConfigDict, NonNegativeInt, validate_call
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from dfa_bench.errors import ConfigError
from dfa_bench.settings.schema import Component, DataSettings
from dfa_bench.tasks.base import Shard, Split, Watch, build
from dfa_bench.tasks.graphs.citation import CitationGraph
from dfa_bench.tasks.graphs.datasets import GraphDataset
from dfa_bench.tasks.graphs.graph import Graph, node_features


class NodeBatch(NamedTuple):
    graph: Graph
    nodes: Tensor  # (n,) indices of the nodes that the loss sees
    labels: Tensor  # (n,)


class NodeClassification:
    """Classify the nodes of one graph; an epoch is one batch, the whole graph.

    Args:
        dataset, model, data, seed: see `base.Task`.
        features: "row_normalized" (each row is divided by its sum; one that sums to less than 1 stays as it is) or
            "raw".
        split: "public", the one that comes with the data set: Planetoid's 20 nodes per class / 500 / 1000; "folds",
            five stratified folds of the labelled nodes: one to train, one to validate, three to test (DNA).
        folds_seed: of their shuffle. The released code takes the run's seed (`configs/recipe/dna.yaml`), PyG's
            examples/dna.py 55.
    """

    version: ClassVar[int] = 1
    watch: ClassVar[Watch] = Watch("accuracy", "higher")
    compiles: ClassVar[bool] = False  # it does not trace sparse matrices
    table: ClassVar[str] = "Table 3"

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        dataset: GraphDataset,
        model: Component,
        data: DataSettings,
        seed: int,
        features: Literal["row_normalized", "raw"],
        split: Literal["public", "folds"],
        folds_seed: NonNegativeInt = 55,
    ) -> None:
        loaded = dataset.load(data)
        self.graph = Graph(node_features(loaded.features, features), loaded.edge_index)
        self.labels, self.classes = loaded.labels, loaded.classes
        self.nodes = _folds(loaded, folds_seed) if split == "folds" else _public(loaded)
        if empty := [split for split, nodes in self.nodes.items() if not len(nodes)]:
            raise ConfigError(
                f"The graph has no labelled nodes for {' and '.join(empty)}. task=nodes needs labels, task=links none."
            )
        self.model = model

    def build_model(self) -> nn.Module:
        model: nn.Module = build(self.model, "model", features=self.graph.features.shape[1], classes=self.classes)
        return model

    def example(self) -> object:
        return self.graph

    def batches(self, epoch: int, shard: Shard) -> list[NodeBatch]:
        shard.refuse_several("nodes")
        train = self.nodes["train"]
        return [NodeBatch(self.graph, train, self.labels[train])]

    def data_bytes(self) -> int:
        return self.graph.nbytes

    def move_data(self, device: torch.device) -> None:
        self.graph, self.labels = self.graph.to(device), self.labels.to(device)
        self.nodes = {split: nodes.to(device) for split, nodes in self.nodes.items()}

    def loss(self, model: nn.Module, batch: NodeBatch) -> Tensor:
        return F.nll_loss(model(batch.graph)[batch.nodes], batch.labels)

    def targets(self, batch: NodeBatch) -> Tensor:
        """The class of each node that the loss sees, -1 of the others, (nodes,)."""
        return torch.full((batch.graph.nodes,), -1, device=batch.nodes.device).index_copy(0, batch.nodes, batch.labels)

    def edge_index(self, batch: NodeBatch) -> Tensor:
        return batch.graph.edge_index

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        device = next(model.parameters()).device
        predicted = model(self.graph.to(device)).argmax(dim=-1).to(self.labels.device)
        nodes = self.nodes[split]
        return {"accuracy": (predicted[nodes] == self.labels[nodes]).double().mean().item()}


def _public(graph: CitationGraph) -> dict[str, Tensor]:
    return {"train": graph.train, "val": graph.val, "test": graph.test}


def _folds(graph: CitationGraph, seed: int) -> dict[str, Tensor]:
    labelled = (graph.labels >= 0).nonzero().flatten()
    labels = graph.labels[labelled].numpy()
    if not len(labels):
        return dict.fromkeys(("train", "val", "test"), labelled)
    splitter = StratifiedKFold(n_splits=5, shuffle=True, random_state=seed)
    folds = [labelled[torch.from_numpy(chosen)] for _, chosen in splitter.split(np.zeros(len(labels)), labels)]
    return {"train": folds[0], "val": folds[1], "test": torch.cat(folds[2:])}

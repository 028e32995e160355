"""Cora, CiteSeer and PubMed with the public split of Planetoid (Yang et al. 2016), their stand-in, and own graphs."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import validate_call

from dfa_bench.data.cached import remembered
from dfa_bench.data.resolve import DataCard, Files, cache_folder, file_sha256, find, given_file
from dfa_bench.errors import CorruptData
from dfa_bench.settings.schema import DataSettings, Name
from dfa_bench.tasks.graphs.citation import CitationGraph

STAND_IN = {"nodes": 300, "classes": 4, "features": 120, "seed": 0}


@runtime_checkable
class GraphDataset(Protocol):
    """What the tasks ask of a data set."""

    def load(self, data: DataSettings) -> CitationGraph: ...


class Planetoid:
    """One of the three data sets.

    The raw files are checked by sha256 before they are unpickled, which admits arrays only; nothing is written.

    Args:
        name: "Cora", "CiteSeer" or "PubMed".
        url: folder of the official raw files.
        sha256: raw file name to checksum.
        nodes: how many the data set has.
    """

    def __init__(self, name: str, url: str, sha256: Mapping[str, str], nodes: int) -> None:
        self.name, self.nodes = name, nodes
        self.files = Files(name, f"planetoid/{name}/raw", dict(sha256), url)

    def card(self, data: DataSettings) -> DataCard:
        if data.stand_in:
            return _stand_in_card()
        return DataCard(self.name, "real", self.nodes, self.files.digest)

    def fetch(self, data: DataSettings) -> Path:
        return find(self.files, data)

    def load(self, data: DataSettings) -> CitationGraph:
        """Read the data set.

        Raises:
            MissingData, CorruptData: see `dfa_bench.data.resolve.find`.
        """
        if data.stand_in:
            return _stand_in()
        graph = _read(self.fetch(data), self.name.lower())
        if len(graph.labels) != self.nodes:
            raise CorruptData(f"{self.name} has {len(graph.labels)} nodes instead of {self.nodes}.")
        return graph


class GraphFile:
    """A user's own graph, in an .npz file; see `graph_file.read_graph` for its form.

    Args:
        name: of the data set.
        file: path, from here or below `data.root`.
    """

    @validate_call
    def __init__(self, name: Name, file: str) -> None:
        self.name, self.file = name, file

    def card(self, data: DataSettings) -> DataCard:
        if data.stand_in:
            return _stand_in_card()
        file, cache = self.fetch(data), cache_folder(data)
        rows = remembered(cache, "graph-nodes", [file], lambda: len(self.load(data).features))
        return DataCard(self.name, "real", rows, file_sha256(file, cache), whole=False)

    def fetch(self, data: DataSettings) -> Path:
        return given_file(self.file, data)

    def load(self, data: DataSettings) -> CitationGraph:
        """Read the file; raises MissingData or CorruptData."""
        if data.stand_in:
            return _stand_in()
        from dfa_bench.tasks.graphs.graph_file import read_graph

        return read_graph(self.fetch(data), self.name)


@functools.lru_cache(maxsize=3)  # a sweep in one process reads each graph once
def _read(folder: Path, prefix: str) -> CitationGraph:
    from dfa_bench.tasks.graphs.planetoid_files import read_planetoid

    return read_planetoid(folder, prefix)


def _stand_in_card() -> DataCard:
    made_of = hashlib.sha256(repr(sorted(STAND_IN.items())).encode()).hexdigest()
    return DataCard("block model", "stand-in", STAND_IN["nodes"], made_of)


def _stand_in() -> CitationGraph:
    import torch

    from dfa_bench.data.standins import block_model_graph

    features, edge_index, labels = block_model_graph(**STAND_IN)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(STAND_IN["seed"]))
    return CitationGraph(features, edge_index, labels, order[:80], order[80:150], order[150:])

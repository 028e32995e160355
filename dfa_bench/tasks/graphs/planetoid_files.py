"""The raw files of Planetoid (Yang et al. 2016): pickles of Python 2, read as data only.

The graph is that of PyG's `read_planetoid_data`, whose unpickler would execute what a file asks for.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.utils import coalesce, remove_self_loops

from dfa_bench.errors import CorruptData
from dfa_bench.tasks.graphs.citation import CitationGraph

MATRICES = ("tx", "allx", "y", "ty", "ally")  # words (x) and classes (y): of test nodes, all others, training nodes
VALIDATION = 500  # nodes, which come after those of the training set
# What the official files name: (module, name) as Python 2 had them. Numbers, texts and containers need no name.
ADMITTED = {
    ("__builtin__", "list"),
    ("collections", "defaultdict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("scipy.sparse.csr", "csr_matrix"),
}


class DataUnpickler(pickle.Unpickler):
    """Admits arrays of NumPy, sparse matrices of SciPy, dictionaries and lists."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not data")
        return super().find_class(module, name)


def read_planetoid(folder: Path, prefix: str) -> CitationGraph:
    """Read a data set from its raw files.

    Args:
        folder: with ind.cora.allx and so on.
        prefix: "cora".

    Raises:
        CorruptData: a file is no pickle of arrays, or they do not fit together.
    """
    tx, allx, y, ty, ally = (_matrix(_unpickled(folder / f"ind.{prefix}.{name}")) for name in MATRICES)
    neighbours = _unpickled(folder / f"ind.{prefix}.graph")
    tested = torch.from_numpy(np.loadtxt(folder / f"ind.{prefix}.test.index", dtype=np.int64))  # in the order of tx
    try:
        # Isolated nodes of CiteSeer's test range are in no file: they get zeros, and class 0.
        first, rows = int(tested.min()), int(tested.max()) + 1
        features, classes = allx.new_zeros(rows, allx.shape[1]), ally.new_zeros(rows, ally.shape[1])
        features[:first], classes[:first] = allx, ally
        features[tested], classes[tested] = tx, ty
        edges = [(node, other) for node, others in neighbours.items() for other in others]
        edge_index, _ = remove_self_loops(torch.tensor(edges).T.contiguous())
        return CitationGraph(
            features,
            coalesce(edge_index, num_nodes=rows, sort_by_row=False),
            classes.argmax(dim=1),
            train=torch.arange(len(y)),
            val=torch.arange(len(y), len(y) + VALIDATION),
            test=tested.sort().values,
        )
    except (RuntimeError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise CorruptData(f"The files of {folder} do not fit together ({error}).") from error


def _unpickled(path: Path) -> Any:
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SciPy's and NumPy's about pickles of 2016
            return DataUnpickler(file, encoding="latin1").load()
    except Exception as error:  # what damaged bytes make the unpickler raise is open
        raise CorruptData(f"{path} cannot be read as data: {error}.") from error


def _matrix(values: Any) -> Tensor:
    dense = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    return torch.from_numpy(dense).to(torch.float32)

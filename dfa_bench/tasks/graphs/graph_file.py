"""A user's own graph from an .npz file of NumPy: edge_index, features, and labels and a split where there are any."""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from dfa_bench.errors import CorruptData
from dfa_bench.tasks.graphs.citation import CitationGraph

SPLITS = ("train", "val", "test")
SHARES = (0.6, 0.8)  # of each class: 60% train, 20% validate, 20% test (Pei et al. 2020), where the file has no split
SPLIT_SEED = 0


def read_graph(path: Path, name: str) -> CitationGraph:
    """The graph of a file.

    Edges are taken as undirected: both directions stand in the result, each once, without loops.

    Raises:
        CorruptData: an array is missing or impossible.
    """
    arrays = _read(path)
    for key in ("edge_index", "features"):
        if key not in arrays:
            raise CorruptData(
                f"{path} has no array '{key}'. It has {', '.join(arrays)}; docs/own_data.md describes the format."
            )
    features = arrays["features"]
    if features.ndim != 2 or features.dtype.kind not in "bifu" or not features.size:
        raise CorruptData(
            f"{path}: features have shape {features.shape} ({features.dtype}); expected (nodes, features)."
        )
    if not np.isfinite(features).all():
        raise CorruptData(f"{path}: features have NaN or infinite values.")
    nodes = len(features)
    edges = _undirected(arrays["edge_index"], nodes, path)
    labels = arrays.get("labels", np.full(nodes, -1))
    if labels.shape != (nodes,) or labels.dtype.kind not in "iu" or labels.min() < -1:
        raise CorruptData(
            f"{path}: labels have shape {labels.shape} ({labels.dtype}); expected ({nodes},), whole numbers from 0, "
            f"and -1 for a node without label."
        )
    split = _split(arrays, labels, path, name)
    return CitationGraph(
        torch.from_numpy(features.astype(np.float32)),
        torch.from_numpy(edges),
        torch.from_numpy(labels.astype(np.int64)),
        **{part: torch.from_numpy(split[part].astype(np.int64)) for part in SPLITS},
    )


def _read(path: Path) -> Mapping[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptData(
            f"{path} is not an .npz file of plain arrays, or is damaged ({reason}). Write it with numpy.savez."
        ) from None


def _undirected(edges: np.ndarray, nodes: int, path: Path) -> np.ndarray:
    if edges.ndim != 2 or edges.shape[0] != 2 or edges.dtype.kind not in "iu" or not edges.size:
        raise CorruptData(
            f"{path}: edge_index has shape {edges.shape} ({edges.dtype}); expected (2, edges), whole numbers: a row of "
            f"sources and one of targets."
        )
    if edges.min() < 0 or edges.max() >= nodes:
        raise CorruptData(
            f"{path}: edge_index ranges from {edges.min()} to {edges.max()}, but features are of the {nodes} nodes "
            f"0 to {nodes - 1}."
        )
    both = np.concatenate([edges, edges[::-1]], axis=1).astype(np.int64)
    return np.unique(both[:, both[0] != both[1]], axis=1)


def _split(arrays: Mapping[str, np.ndarray], labels: np.ndarray, path: Path, name: str) -> dict[str, np.ndarray]:
    """Nodes of each part; none if there are no labels."""
    given = [part for part in SPLITS if part in arrays]
    if not given:
        if (labels >= 0).any():
            told = "60% of each class train, 20% validate, 20% test, chosen at random once"
            print(f"{name}: {path.name} has no split; {told}.", file=sys.stderr)
        return _random_split(labels)
    if len(given) < len(SPLITS):
        raise CorruptData(f"{path} has {' and '.join(given)}, but a split is train, val and test.")
    split = {part: _indices(arrays[part], len(labels), f"{path}: {part}") for part in SPLITS}
    together = np.concatenate(list(split.values()))
    if len(np.unique(together)) < len(together):
        raise CorruptData(f"{path}: a node is in two of train, val and test, or twice in one.")
    if (labels[together] < 0).any():
        raise CorruptData(f"{path}: a node of train, val or test has no label.")
    return split


def _indices(chosen: np.ndarray, nodes: int, where: str) -> np.ndarray:
    """Nodes from a mask or from their numbers."""
    if chosen.dtype == bool and chosen.shape == (nodes,):
        chosen = chosen.nonzero()[0]
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not len(chosen):
        raise CorruptData(f"{where} has shape {chosen.shape} ({chosen.dtype}); expected numbers of nodes, or a mask.")
    if chosen.min() < 0 or chosen.max() >= nodes:
        raise CorruptData(f"{where} ranges from {chosen.min()} to {chosen.max()}; nodes are 0 to {nodes - 1}.")
    return chosen


def _random_split(labels: np.ndarray) -> dict[str, np.ndarray]:
    random = np.random.default_rng(SPLIT_SEED)
    parts: dict[str, list[np.ndarray]] = {part: [] for part in SPLITS}
    for label in np.unique(labels[labels >= 0]):
        of_class = random.permutation((labels == label).nonzero()[0])
        bounds = [int(np.ceil(share * len(of_class))) for share in SHARES]
        for part, nodes in zip(SPLITS, np.split(of_class, bounds), strict=True):
            parts[part].append(nodes)
    return {part: np.sort(np.concatenate(nodes)) if nodes else np.empty(0, int) for part, nodes in parts.items()}

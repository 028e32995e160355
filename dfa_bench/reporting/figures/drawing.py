"""Drawing: arrays in, a figure as png and svg out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from dfa_bench.data.writing import atomic

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")


@dataclass(frozen=True)
class Embedding:
    """Points in the plane, one per node."""

    title: str
    position: np.ndarray  # (nodes, 2)


def draw_embeddings(embeddings: Mapping[str, Embedding], labels: np.ndarray, heading: str) -> Figure:
    """Scatter plots side by side; a class has the same colour in all of them.

    Args:
        embeddings: by panel.
        labels: (nodes,) classes from 0 on.
        heading: above all panels.
    """
    figure = Figure(figsize=(4.2 * len(embeddings), 4.6), layout="constrained")
    figure.suptitle(heading)
    for axes, embedding in zip(figure.subplots(1, len(embeddings), squeeze=False)[0], embeddings.values(), strict=True):
        for label in np.unique(labels):
            where = embedding.position[labels == label]
            axes.scatter(*where.T, s=4, linewidths=0, color=COLOURS[label % len(COLOURS)], label=f"class {label}")
        axes.set(title=embedding.title, xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), markerscale=4, frameon=False)
    return figure


def publish(paths: list[Path], folder: Path, name: str, texts: Mapping[str, str]) -> None:
    """Write what belongs to a figure that is saved, and tell of all its files.

    Args:
        paths: of the figure, see `save`.
        folder, name: as the figure's.
        texts: by ending, ".json" its numbers.
    """
    for ending, text in texts.items():
        with atomic(folder / f"{name}{ending}") as file:
            file.write(text)
    print(f"Written: {', '.join(str(path) for path in [*paths, *(folder / f'{name}{ending}' for ending in texts)])}")


def save(figure: Figure, folder: Path, name: str, vector: bool = True) -> list[Path]:
    """Write NAME.png, and NAME.svg where `vector`, each whole or not at all; the same figure gives the same bytes."""
    metadata = {folder / f"{name}.png": {"Software": None}} | (
        {folder / f"{name}.svg": {"Date": None}} if vector else {}
    )
    paths = list(metadata)
    for path, unstamped in metadata.items():
        with rc_context({"svg.hashsalt": "dfa-bench"}), atomic(path, "wb") as file:
            figure.savefig(file, format=path.suffix[1:], dpi=150, metadata=unstamped)
    return paths

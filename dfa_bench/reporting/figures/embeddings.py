"""`dfa-bench figure 2`: what graph convolutions make of Cora with BP, DFA and shallow training."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from dfa_bench.experiments.plan import file_suffix
from dfa_bench.experiments.protocol import place
from dfa_bench.experiments.schema import load_experiment
from dfa_bench.reporting.figures.drawing import Embedding, draw_embeddings, publish, save
from dfa_bench.runs.summary import RunSummary
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.rules import rules
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import build_task
from dfa_bench.tasks.graphs.nodes import NodeClassification
from dfa_bench.training.execute import execute_to_end
from dfa_bench.training.finished import with_trained_weights

HIDDEN = "activation"  # the module of `model=gcn` whose output is drawn
OWN = ["task=nodes", "model=gcn", "dataset=cora", "trainer.keep=last"]  # the released tsne.py draws the last epoch
# The released tsne.py's, for a t-SNE on the GPU (tsnecuda); that one too starts at random.
TSNE_SETTINGS: dict[str, Any] = {"perplexity": 20, "learning_rate": 100, "max_iter": 5000, "init": "random"}


def draw_figure2(folder: Path, overrides: Sequence[str], seeds: int = 1) -> None:
    """t-SNE of the hidden layer of GraphConv on Cora, one panel a rule of Table 3; silhouettes by class in the titles.

    The silhouette of the hidden layer itself stands beside that of its picture, which t-SNE flatters.

    Args:
        folder: of results.
        overrides: of all runs.
        seeds: whose silhouettes are written, 0 to seeds - 1; the first is drawn.

    Raises:
        Diverged: a run has no trained weights.
    """
    embeddings: dict[str, Embedding] = {}
    evidence = []
    labels = np.empty(0, dtype=int)
    stand_in = changed = False
    trained = load_experiment(resource_folder("experiments"), "table3").rules
    for seed, rule in itertools.product(range(seeds), trained):
        own = [f"seed={seed}"] if seed else []
        placed = place([*OWN, f"rule={rule}", *own], overrides, is_paper=True)
        settings, changed = placed.settings, changed or placed.changed
        outcome = execute_to_end(settings)
        hidden, labels = hidden_layer(settings, outcome.folder)
        stand_in = stand_in or outcome.result.stand_in
        if seed:
            evidence.append(_evidence(outcome.result, hidden, None, labels))
            continue
        print(f"{rules()[rule].label}: t-SNE of {len(hidden)} nodes", file=sys.stderr, flush=True)
        position = TSNE(random_state=0, **TSNE_SETTINGS).fit_transform(hidden)
        measured = _evidence(outcome.result, hidden, position, labels)
        evidence.append(measured)
        embeddings[rule] = Embedding(
            f"{rules()[rule].label}, silhouette {measured['silhouette_tsne']:.2f} "
            f"(hidden layer {measured['silhouette_hidden']:.2f})",
            position,
        )
    heading = "Figure 2: t-SNE of the hidden layer of GraphConv on Cora" + (" (STAND-IN DATA)" if stand_in else "")
    name = f"figure2{file_suffix(stand_in, changed)}"
    paths = save(draw_embeddings(embeddings, labels, heading), folder, name)
    publish(paths, folder, name, {".json": json.dumps(evidence, indent=2) + "\n"})


def hidden_layer(settings: RunSettings, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Activations (nodes, hidden) of a trained GraphConv in evaluation mode, and the nodes' classes."""
    task = build_task(settings)
    assert isinstance(task, NodeClassification)
    model = with_trained_weights(task.build_model(), folder)
    kept: list[torch.Tensor] = []
    handle = model.get_submodule(HIDDEN).register_forward_hook(lambda *call: kept.append(call[2]))
    with torch.no_grad():
        model(task.graph)
    handle.remove()
    return kept[0].numpy(), task.labels.numpy()


def _evidence(
    result: RunSummary, hidden: np.ndarray, position: np.ndarray | None, labels: np.ndarray
) -> dict[str, object]:
    of_picture: dict[str, object] = {}
    if position is not None:
        of_picture = {"silhouette_tsne": round(float(silhouette_score(position, labels)), 4), "tsne": TSNE_SETTINGS}
    return {
        **result.origin,
        "protocol": result.protocol,
        "test_accuracy": result.metrics["test/accuracy"],
        **of_picture,
        "silhouette_hidden": round(float(silhouette_score(hidden, labels)), 4),
    }

"""`dfa-bench figure alignment`: DFA's alignment with BP over training, a panel for each model (appendix A)."""

from __future__ import annotations

import fnmatch
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfa_bench.arguments import take
from dfa_bench.compose import compose_run, settings_of
from dfa_bench.errors import ConfigError
from dfa_bench.reporting.alignment_panels import AlignmentPanel, Layer, draw_alignment
from dfa_bench.reporting.figures import save
from dfa_bench.runs.record import ALIGNMENT, ALIGNMENT_STD, Record, atomic
from dfa_bench.training.execute import execute


@dataclass(frozen=True)
class Subject:
    """A model whose alignment is drawn.

    Args:
        name: by which `models=` chooses it.
        title: of its panel.
        run: overrides of its run, apart from the rule.
        every: epochs between measurements.
        layers: patterns of the modules that are drawn, by what each kind of layer is called.
    """

    name: str
    title: str
    run: str
    every: int
    layers: dict[str, str]


BLOCKS = {"MLP block": "mlp.blocks.[0-9]"}
DNA = {"layer": "activations.[0-9]", "first linear": "activation"}
NERF = {"coarse layer": "coarse.*.activation", "fine layer": "fine.*.activation"}
# A quarter of Table 5's tokens at scale=cpu, at the rate of its tuned columns.
TRANSFORMER = (
    "task=language model=transformer dataset=wikitext-2 recipe=transformer/beta2 recipe.lr=0.0007 "
    "trainer.max_tokens=625000 trainer.max_epochs=10"
)
SUBLAYERS = {
    "attention": "blocks.[0-9].after_attention",
    "hidden units": "blocks.[0-9].feed_forward.hidden",
    "block": "blocks.[0-9].after_feed_forward",
}
SUBJECTS = (
    Subject("cheb", "ChebConv, Cora", "task=nodes model=cheb dataset=cora", 10, {"hidden layer": "dropout"}),
    Subject("gcn", "GraphConv, Cora", "task=nodes model=gcn dataset=cora", 10, {"hidden layer": "dropout"}),
    Subject("spline", "SplineConv, Cora", "task=nodes model=spline dataset=cora", 10, {"hidden layer": "activation"}),
    Subject("gat", "GATConv, Cora", "task=nodes model=gat dataset=cora", 10, {"hidden layer": "activation"}),
    Subject("dna", "DNAConv (released), Cora", "task=nodes model=dna dataset=cora variant=released", 10, DNA),
    Subject("dna_paper", "DNAConv (paper), Cora", "task=nodes model=dna dataset=cora variant=paper", 10, DNA),
    Subject("gae", "Graph autoencoder, Cora", "task=links model=gae dataset=cora", 10, {"hidden layer": "activation"}),
    Subject("deepfm", "DeepFM, Criteo", "task=clicks model=deepfm dataset=criteo", 1, BLOCKS),
    Subject(
        "dcn",
        "Deep & Cross, Criteo",
        "task=clicks model=dcn dataset=criteo",
        1,
        {"cross layer": "cross.[0-9]", **BLOCKS, "embeddings": "embedded"},
    ),
    Subject("afn", "AFN, Criteo", "task=clicks model=afn dataset=criteo", 1, {"log layer": "log_layer", **BLOCKS}),
    Subject(
        "autoint",
        "AutoInt, Criteo",
        "task=clicks model=autoint dataset=criteo",
        1,
        {"attention": "attention.[0-9]", "attention's output": "activation", **BLOCKS, "embeddings": "embedded"},
    ),
    Subject("nerf", "NeRF, lego", "task=view_synthesis model=nerf dataset=lego", 1, NERF),
    Subject(
        "macro", "Transformer, macro, WikiText-2", f"{TRANSFORMER} feedback=macro", 1, {"block": SUBLAYERS["block"]}
    ),
    Subject("micro", "Transformer, micro, WikiText-2", f"{TRANSFORMER} feedback=micro", 1, SUBLAYERS),
)


def draw_alignment_figure(folder: Path, overrides: Sequence[str]) -> None:
    """Draw the figure and write its numbers; trains the runs that are not in the store, or lack alignment there.

    Args:
        folder: of results.
        overrides: of all runs; `models=gcn,dna` chooses some of SUBJECTS.

    Raises:
        ConfigError: there is no such model, or a run has no alignment to draw.
    """
    known = {subject.name: subject for subject in SUBJECTS}
    chosen, overrides = take(overrides, "models", ",".join(known))
    if unknown := [name for name in chosen.split(",") if name not in known]:
        raise ConfigError(f"models={unknown[0]}: there is no such panel. There are: {', '.join(known)}.")
    panels, evidence = [], []
    for name in chosen.split(","):
        panel, numbers = _panel(known[name], overrides)
        panels.append(panel)
        evidence.append(numbers)
    stand_in = any(each["data"] != "real" for each in evidence)
    heading = "Alignment of DFA's gradients with BP's over training" + (" (STAND-IN DATA)" if stand_in else "")
    title = "alignment-stand-in" if stand_in else "alignment"
    paths = save(draw_alignment(panels, heading), folder, title)
    paths.append(folder / f"{title}.json")
    with atomic(paths[-1]) as file:
        file.write(json.dumps(evidence, indent=1) + "\n")
    print(f"Written: {', '.join(str(path) for path in paths)}")


def _panel(subject: Subject, overrides: Sequence[str]) -> tuple[AlignmentPanel, dict[str, Any]]:
    every = f"trainer.alignment_every={subject.every}"
    settings = settings_of(compose_run([*subject.run.split(), every, *overrides, "rule=dfa"]))
    print(f"{subject.title}", file=sys.stderr, flush=True)
    outcome = execute(settings)
    result = outcome.result
    measured = over_training(Record(outcome.folder))
    drawn = {
        module: Layer(group, _label(group, modules, module), *measured[module])
        for group, pattern in subject.layers.items()
        for modules in [fnmatch.filter(measured, pattern)]
        for module in modules
    }
    if not drawn:
        raise ConfigError(
            f"{outcome.folder} ({result.status}) has no alignment of {', '.join(subject.layers.values())}: all its "
            f"gradients there are zero, or the pattern matches no feedback point or leaf module."
        )
    numbers = {
        "panel": subject.title,
        **result.origin,
        "scale": result.scale,
        "protocol": result.protocol,
        "drawn": list(drawn),
        "modules": {name: dict(zip(("epochs", "mean", "std"), each, strict=True)) for name, each in measured.items()},
    }
    reduced = "" if result.protocol == "paper" else " (reduced)"
    return AlignmentPanel(f"{subject.title}{reduced}", list(drawn.values())), numbers


def over_training(record: Record) -> dict[str, tuple[list[float], list[float], list[float]]]:
    """Of each module, in the order of the model: epochs trained before each measurement, means, standard deviations."""
    found: dict[str, tuple[list[float], list[float], list[float]]] = {}
    for line in record.read_metrics():
        for key, mean in line.items():
            if key.startswith(ALIGNMENT):
                name = key.removeprefix(ALIGNMENT)
                epochs, means, stds = found.setdefault(name, ([], [], []))
                epochs.append(line["epoch"] - 1)
                means.append(round(mean, 4))
                stds.append(round(line[f"{ALIGNMENT_STD}{name}"], 4))
    return found


def _label(group: str, modules: Sequence[str], module: str) -> str:
    return group if len(modules) == 1 else f"{group} {modules.index(module) + 1}"

"""`dfa-bench figure alignment`: DFA's alignment with BP over training, a panel for each model (appendix A)."""

from __future__ import annotations

import fnmatch
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from omegaconf import OmegaConf
from pydantic import Field, ValidationError

from dfa_bench.errors import ConfigError
from dfa_bench.experiments.plan import file_suffix
from dfa_bench.experiments.protocol import Placed, place
from dfa_bench.experiments.schema import ALIGNMENT_PANELS
from dfa_bench.reporting.figures.alignment_panels import LOOKS, AlignmentPanel, LayerCurve, draw_alignment
from dfa_bench.reporting.figures.drawing import publish, save
from dfa_bench.reporting.readings import read_records
from dfa_bench.runs.record import ALIGNMENT, ALIGNMENT_STD, Record
from dfa_bench.settings.overrides import key_of
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.schema import Count, RunSettings, Strict, explain
from dfa_bench.training.execute import Outcome, execute


class Subject(Strict):
    """A model whose alignment is drawn; see `experiments/alignment.yaml`."""

    title: str
    run: tuple[str, ...]
    every: Count = 1
    released: bool = False
    layers: Annotated[dict[str, str], Field(max_length=len(LOOKS))]


class Subjects(Strict):
    panels: dict[str, Subject]


def load_subjects() -> Mapping[str, Subject]:
    """The panels of the figure by name.

    Raises:
        ConfigError: the file has an unknown key or an impossible value.
    """
    try:
        values = OmegaConf.to_container(OmegaConf.load(resource_folder("experiments") / ALIGNMENT_PANELS))
        return Subjects.model_validate(values).panels
    except ValidationError as error:
        raise ConfigError(f"experiments/{ALIGNMENT_PANELS}: {explain(error)}") from None


def draw_alignment_figure(folder: Path, overrides: Sequence[str], models: Sequence[str] = (), seeds: int = 1) -> None:
    """Draw the figure and write its numbers; trains the runs that are not in the store, or lack alignment there.

    Panels that were drawn before and are not chosen now stay: the figure is drawn from its numbers.

    Args:
        folder: of results.
        overrides: of all runs.
        models: names of the panels that are drawn anew; all, if empty.
        seeds: whose numbers are written, 0 to seeds - 1; the first is drawn.

    Raises:
        ConfigError: there is no such model, or a run has no alignment to draw.
    """
    known = load_subjects()
    chosen = models or list(known)
    if unknown := [name for name in chosen if name not in known]:
        raise ConfigError(f"unknown panel '{unknown[0]}'. Panels: {', '.join(known)}.")
    placed = {(name, seed): _place(known[name], overrides, seed) for name in chosen for seed in range(seeds)}
    outcomes = [_trained(known[name], each.settings) for (name, _), each in placed.items()]
    measured = [_measure(known[name], outcome) for (name, _), outcome in zip(placed, outcomes, strict=True)]
    stand_in = any(outcome.result.stand_in for outcome in outcomes)
    name = f"alignment{file_suffix(stand_in, any(each.changed for each in placed.values()))}"
    drawn_anew = {each["panel"] for each in measured}
    before = [each for each in read_records(folder / f"{name}.json") if each.get("panel") not in drawn_anew]
    evidence: dict[str, list[Mapping[str, Any]]] = {}
    for record in (*before, *measured):
        evidence.setdefault(str(record.get("panel")), []).append(record)
    shown = [subject for subject in known.values() if subject.title in evidence]
    panels = [_panel(subject, evidence[subject.title][0]) for subject in shown]
    heading = "Alignment of DFA's gradients with BP's over training" + (" (STAND-IN DATA)" if stand_in else "")
    records = [record for subject in shown for record in evidence[subject.title]]
    paths = save(draw_alignment(panels, heading), folder, name)
    publish(paths, folder, name, {".json": json.dumps(records, indent=1) + "\n"})


def _place(subject: Subject, overrides: Sequence[str], seed: int) -> Placed:
    every = f"trainer.alignment_every={subject.every}"  # a default: how often it is measured changes no run
    chosen = any(key_of(override) == key_of(every) for override in overrides)
    own = [*subject.run, "rule=dfa", *([f"seed={seed}"] if seed else [])]
    return place(own, overrides if chosen else [every, *overrides], is_paper=subject.released)


def _trained(subject: Subject, settings: RunSettings) -> Outcome:
    """Train a model, or take its run from the store."""
    print(f"{subject.title}, seed {settings.seed}", file=sys.stderr, flush=True)
    return execute(settings)


def _measure(subject: Subject, outcome: Outcome) -> dict[str, Any]:
    """The numbers of a panel, with the run that they are from."""
    result = outcome.result
    measured = over_training(Record(outcome.folder))
    drawn = [name for pattern in subject.layers.values() for name in fnmatch.filter(measured, pattern)]
    if not drawn:
        raise ConfigError(
            f"{outcome.folder} ({result.status}) has no alignment of {', '.join(subject.layers.values())}: all its "
            f"gradients there are zero, or the pattern matches no feedback point or leaf module."
        )
    return {
        "panel": subject.title,
        **result.origin,
        "scale": result.scale,
        "protocol": result.protocol,
        "drawn": list(dict.fromkeys(drawn)),
        "modules": {name: dict(zip(("epochs", "mean", "std"), each, strict=True)) for name, each in measured.items()},
    }


def _panel(subject: Subject, numbers: Mapping[str, Any]) -> AlignmentPanel:
    layers = {}
    for group, pattern in subject.layers.items():
        modules = fnmatch.filter(numbers["modules"], pattern)
        for module in modules:
            label = group if len(modules) == 1 else f"{group} {modules.index(module) + 1}"
            layers[module] = LayerCurve(group, label, **numbers["modules"][module])
    reduced = "" if numbers["protocol"] == "paper" else " (reduced)"
    return AlignmentPanel(f"{subject.title}{reduced}", list(layers.values()))


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

"""Initial values of every parameter at the sizes of the paper, in float32, against the released constructors'."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dfa_bench.settings.compose import compose_settings
from dfa_bench.tasks.base import build
from tests.golden import names

FEW = 512  # of fewer values the distribution is not told
SPREAD = 7  # differences of two samples are within so many standard errors of one


@dataclass(frozen=True)
class Constructor:
    """A model of ours and where the released one's statistics are.

    Args:
        file: of the reference.
        path: of keys in it.
        choice: task and model, as overrides.
        names: of parameters, see names.py.
        given: what the task would tell the model of its data.
    """

    file: str
    path: tuple[str, ...]
    choice: tuple[str, ...]
    names: Mapping[str, str]
    given: Mapping[str, object]

    def released(self, golden: Path) -> dict[str, dict[str, float]]:
        found = _read(golden / f"initial-{self.file}.json")["models"]
        for key in self.path:
            found = found[key]
        return found


@functools.cache
def _read(path: Path) -> dict[str, dict]:
    return json.loads(path.read_text())


def _clicks(model: str, known: dict[str, str]) -> Constructor:
    sizes = {"fields": 39, "vocabulary": 1_086_810}
    return Constructor("clicks", (model,), ("task=clicks", f"model={model}"), known, sizes)


def _graphs(task: str, model: str, known: dict[str, str]) -> Constructor:
    # Layers of PyG 1.5.0, the pinned version, start like those of 2.8.1, whose names are those of the other tests;
    # only the older one's spline has statistics.
    version = "PyG 1.5.0 (pinned by the authors)" if model == "spline" else "PyG 2.8.1"
    given = {"features": 1433} | ({"classes": 7} if task == "nodes" else {})  # Cora's
    return Constructor("graphs", (version, model), (f"task={task}", f"model={model}"), known, given)


def _nerf(width: int) -> Constructor:
    known = {theirs.removeprefix("fine."): ours for theirs, ours in names.NERF.items() if ours.startswith("fine.")}
    given = {"near": 2.0, "far": 6.0, "white_background": True}
    choice = ("task=view_synthesis", "model=nerf", f"model.width={width}")
    return Constructor("nerf", (f"DFAFlexibleNeRFModel, width {width}",), choice, known, given)


CONSTRUCTORS = {
    "fm": _clicks("fm", names.fm()),
    "deepfm": _clicks("deepfm", names.deepfm(mlp=3)),
    "dcn": _clicks("dcn", names.dcn(cross=6, mlp=2)),
    "afn": _clicks("afn", names.afn(mlp=3)),
    "autoint": _clicks("autoint", names.autoint(attention=3, mlp=3)),
    "cheb": _graphs("nodes", "cheb", names.CHEB),
    "gcn": _graphs("nodes", "gcn", names.GCN),
    "spline": _graphs("nodes", "spline", names.SPLINE),
    "gat": _graphs("nodes", "gat", names.GAT),
    "dna": _graphs("nodes", "dna", names.dna(layers=5)),
    "gae": _graphs("links", "gae", names.GCN),
    "nerf-128": _nerf(128),
    "nerf-256": _nerf(256),
    "transformer": Constructor(
        "language",
        ("macro",),  # bp and micro draw the same
        ("task=language", "model=transformer"),
        names.transformer(layers=6),
        {"vocabulary": 32000},
    ),
}


def family(name: str) -> str:
    """A name without the numbers of equal layers, as the reference calls it: `cn.w.*.weight`."""
    return re.sub(r"(layers|self_attns|cn\.w|cn\.b|convs)\.\d+", r"\1.*", name)


def families(repeated: bool) -> list[tuple[str, str]]:
    """(model, family) of all constructors, or only those of several layers."""
    every = dict.fromkeys((model, family(name)) for model, each in CONSTRUCTORS.items() for name in each.names)
    return [each for each in every if "*" in each[1] or not repeated]


@dataclass(frozen=True)
class Spread:
    shape: list[int]
    mean: float
    std: float
    min: float
    max: float
    looks: str

    @staticmethod
    def of(values: Tensor) -> Spread:
        values = values.detach().double()
        std, mean = torch.std_mean(values, correction=0)
        low, high = values.min().item(), values.max().item()
        kurtosis = ((values - mean) ** 4).mean() / std**4
        looks = "other"
        if values.numel() == 1:
            looks = "single value"
        elif low == high:
            looks = f"constant {low:g}"
        elif values.numel() < FEW:
            looks = "few values"
        elif abs(kurtosis - 1.8) < 0.2:
            looks = "uniform"
        elif abs(kurtosis - 3) < 0.2:
            looks = "normal"
        return Spread(list(values.shape), mean.item(), std.item(), low, high, looks)


@functools.cache  # of statistics only: the tables of embeddings are large
def initial(model: str) -> tuple[dict[str, Spread], dict[str, bool]]:
    """The spread of each parameter by the released name, and whether all layers of a family are equal."""
    constructor = CONSTRUCTORS[model]
    settings = compose_settings(["variant=released", "scale=paper", *constructor.choice])
    torch.manual_seed(0)
    built: nn.Module = build(settings.model, "model", **constructor.given)
    parameters = dict(built.named_parameters())
    found = {
        theirs: parameters[ours.removesuffix(".T")].T if ours.endswith(".T") else parameters[ours]
        for theirs, ours in constructor.names.items()
    }
    layers: dict[str, list[Tensor]] = {}
    for name, values in found.items():
        layers.setdefault(family(name), []).append(values)
    equal = {name: all(torch.equal(each, first) for each in rest) for name, (first, *rest) in layers.items()}
    return {name: Spread.of(values) for name, values in found.items()}, equal


@pytest.mark.parametrize("model, parameters", families(repeated=False))
def test_a_parameter_starts_as_in_the_released_code(golden, model, parameters):
    released = CONSTRUCTORS[model].released(golden)["parameters"]
    assert set(released) == set(CONSTRUCTORS[model].names)
    spreads, _ = initial(model)
    for name in (name for name in released if family(name) == parameters):
        assert_like(name, spreads[name], Spread(**released[name]))


def assert_like(name: str, found: Spread, expected: Spread) -> None:
    """Two samples of one distribution, as far as so many values tell."""
    assert found.looks == expected.looks, f"{name} looks {found.looks}, expected {expected.looks}"
    if expected.looks == "single value":  # a scalar bias: zero or drawn
        assert (found.mean == 0) == (expected.mean == 0), name
        return
    assert found.shape == expected.shape, name
    count = torch.Size(expected.shape).numel()
    error = SPREAD * expected.std / count**0.5
    assert found.mean == pytest.approx(expected.mean, abs=error), f"{name}: mean"
    assert found.std == pytest.approx(expected.std, abs=error), f"{name}: std"
    # The extremes of a normal sample scatter by about a quarter of its std, those of a uniform one by its width / n.
    end = expected.std if expected.looks == "normal" else 4 * SPREAD * expected.std / count
    assert found.min == pytest.approx(expected.min, abs=end), f"{name}: min"
    assert found.max == pytest.approx(expected.max, abs=end), f"{name}: max"


@pytest.mark.parametrize("model, parameters", families(repeated=True))
def test_layers_start_as_copies_where_the_released_ones_do(golden, model, parameters):
    assert initial(model)[1][parameters] == CONSTRUCTORS[model].released(golden)["equal_in_all_layers"][parameters]


def test_another_spread_shows():
    uniform = Spread.of(torch.rand(1000, generator=torch.Generator().manual_seed(0)))
    wider = Spread(uniform.shape, uniform.mean * 1.2, uniform.std * 1.2, uniform.min, uniform.max * 1.2, "uniform")
    assert_like("itself", uniform, uniform)
    with pytest.raises(AssertionError, match="weight: mean"):
        assert_like("weight", wider, uniform)

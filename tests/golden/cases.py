"""Each model of the released code beside ours: built from the configuration, fed with the reference's batch."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dfa_bench.feedback import Attachment
from dfa_bench.runs.rule import build_path, build_rule
from dfa_bench.settings.compose import compose_settings
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import build, task_class
from dfa_bench.tasks.click_through.task import ClickBatch
from dfa_bench.tasks.graphs.graph import Graph, node_features
from dfa_bench.tasks.graphs.links import LinkBatch
from dfa_bench.tasks.graphs.nodes import NodeBatch
from dfa_bench.tasks.language.windows import TokenBatch
from dfa_bench.tasks.view_synthesis.rays import Rays
from dfa_bench.tasks.view_synthesis.rendering import Rendered
from dfa_bench.tasks.view_synthesis.task import RayBatch
from tests.golden import names

RULES = ("bp", "dfa", "shallow")


class Reference:
    """One file of reference values."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as stored:
            self.entries = {name: torch.from_numpy(stored[name]) for name in stored.files}

    def __getitem__(self, name: str) -> Tensor:
        return self.entries[name]

    def group(self, name: str) -> dict[str, Tensor]:
        """`param` for instance: the entries below `param/`, by the rest of their names."""
        return {
            key.removeprefix(f"{name}/"): value for key, value in self.entries.items() if key.startswith(f"{name}/")
        }


@dataclass(frozen=True)
class Case:
    """A model of the released code and ours.

    Args:
        file: of the reference, without its suffix.
        choice: task, model and feedback, as overrides.
        names: of parameters, see names.py.
        batch: as our task makes them, of the reference's inputs.
        outputs: what our model returns, as the reference calls and lays it out.
        model: settings of ours for the reference's sizes.
        given: what the task would tell the model of its data.
        points: of the configuration, which counts layers of the full size, as they are in the reference's.
        training: the mode.
        rules: that the reference has gradients of.
        error: the reference's δa_y in the layout of ours.
    """

    file: str
    choice: tuple[str, ...]
    names: Mapping[str, str]
    batch: Callable[[Reference], Any]
    outputs: Callable[[Any], dict[str, Tensor]]
    model: Mapping[str, object]
    given: Callable[[Reference], dict[str, object]]
    points: Mapping[str, str] = field(default_factory=dict)
    training: bool = False
    rules: tuple[str, ...] = RULES
    error: Callable[[Tensor], Tensor] = lambda error: error

    def settings(self, rule: str) -> RunSettings:
        sizes = tuple(f"model.{name}={value}" for name, value in self.model.items())
        settings = _composed((*self.choice, f"rule={rule}", *sizes))
        used = {point for path in settings.feedback for point in path.points}
        assert self.points.keys() <= used, f"the configuration has the points {sorted(used)}"
        paths = [
            path.model_copy(update={"points": [self.points.get(point, point) for point in path.points]})
            for path in settings.feedback
        ]
        return settings.model_copy(update={"feedback": paths})


@functools.cache
def _composed(overrides: tuple[str, ...]) -> RunSettings:
    return compose_settings(["variant=released", "scale=paper", *overrides])


@dataclass(frozen=True)
class Step:
    """What one forward and backward of ours gave, by the reference's names."""

    outputs: dict[str, Tensor]
    loss: Tensor
    gradients: dict[str, Tensor]
    errors: dict[str, Tensor]  # δa_y of each path
    attachment: Attachment


def build_model(case: Case, reference: Reference, **given: object) -> nn.Module:
    """Our model with the reference's parameters and buffers."""
    known = case.given(reference) | given
    model: nn.Module = build(case.settings("bp").model, "model", **known)
    parameters = dict(model.named_parameters())
    ours = {name.removesuffix(".T") for name in case.names.values()}
    assert set(reference.group("param")) == set(case.names)
    assert set(parameters) == ours
    with torch.no_grad():
        for theirs, value in reference.group("param").items():
            name = case.names[theirs]
            target = parameters[name.removesuffix(".T")]
            target.copy_(_laid_out(value, name).reshape(target.shape))  # a bias of shape (1,) is a scalar here
        if isinstance(getattr(model, "position", None), Tensor):  # the released table was computed in float32
            model.position.copy_(reference["buffer/pos_encoder.pe"].squeeze(1))
    return model.train(case.training)


def take_step(case: Case, reference: Reference, rule: str, model: nn.Module, matrix_factor: float = 1.0) -> Step:
    """A training step by a rule of ours, with the reference's feedback matrices."""
    settings = case.settings(rule)
    paths = [build_path(path) for path in settings.feedback]
    batch = case.batch(reference)
    attachment = build_rule(settings.rule).attach(model, paths, example=_arguments(batch))
    feedback, factors = reference.group("feedback"), reference.group("feedback_factor")
    keys = sorted(feedback) if rule == "dfa" else []  # of paths: coarse before fine
    for name, matrix in zip(keys, attachment.matrices, strict=True):
        assert matrix.shape == feedback[name].shape  # (error width, widest point)
        matrix.copy_(feedback[name] * factors[name] * matrix_factor)
    seen: list[Any] = []
    errors: dict[str, Tensor] = {}
    model.register_forward_hook(lambda module, args, output: seen.append(output))
    for name, source in zip(keys, attachment.error_sources, strict=False):  # a rule without matrices has no path
        model.get_submodule(source.name).register_forward_hook(_keep_gradient(errors, name))  # behind the rule's own
    loss = task_class(settings).loss(None, model, batch)  # a loss knows nothing of its task's data
    loss.backward()
    mine = dict(model.named_parameters())
    gradients = {
        theirs: _laid_out(gradient, name).reshape(reference[f"param/{theirs}"].shape)
        for theirs, name in case.names.items()
        if (gradient := mine[name.removesuffix(".T")].grad) is not None
    }
    returned = model(batch.inputs) if getattr(model, "takes_targets", False) else seen[-1]  # logits, not their loss
    outputs = {name: value.detach() for name, value in case.outputs(returned).items()}
    return Step(outputs, loss.detach(), gradients, errors, attachment)


def _keep_gradient(kept: dict[str, Tensor], name: str) -> Callable[..., None]:
    """A forward hook that keeps the gradient of a module's output."""

    def hook(module: nn.Module, args: object, output: Tensor) -> None:
        output.register_hook(lambda gradient: kept.update({name: gradient}))

    return hook


def factor_of(case: Case, reference: Reference, model: nn.Module) -> list[float]:
    """What our rule multiplies its raw draw with, path by path."""
    settings = case.settings("dfa")
    paths = [build_path(path) for path in settings.feedback]
    rule: Any = build_rule(settings.rule)
    drawn = []
    for each in (rule, dataclasses.replace(rule, scale=1.0)):
        with each.attach(model, paths, example=_arguments(case.batch(reference))) as attachment:
            drawn.append([matrix.abs().max().item() for matrix in attachment.matrices])
    return [scaled / raw for scaled, raw in zip(*drawn, strict=True)]


def _laid_out(value: Tensor, name: str) -> Tensor:
    return value.T if name.endswith(".T") else value


def _arguments(batch: Any) -> object:
    """The model's own part of a batch, in a tuple: `attach` would take a named one for several arguments."""
    return (batch[0],)


def _clicks(file: str, known: dict[str, str], model: dict[str, object], **more: Any) -> Case:
    deep = {} if file == "fm" else {"mlp_width": 8, "mlp_depth": 2, "dropout": 0.0}
    return Case(
        file=f"clicks-{file}",
        choice=("task=clicks", f"model={file}"),
        names=known,
        batch=lambda reference: ClickBatch(reference["input/ids"], reference["input/labels"].double()),
        outputs=lambda logit: {"logit": logit, "probability": logit.sigmoid()},
        model={"embedding": 4, **deep, **model},
        given=lambda reference: {"fields": 5, "vocabulary": 40},
        training=True,
        error=lambda error: error.squeeze(-1),
        **more,
    )


def _graph(reference: Reference) -> Graph:
    return Graph(node_features(reference["input/features"], "raw"), reference["input/edge_index"])


def _nodes(model: str, known: dict[str, str], sizes: dict[str, object]) -> Case:
    return Case(
        file=f"nodes-{model}",
        choice=("task=nodes", f"model={model}"),
        names=known,
        batch=lambda reference: NodeBatch(
            _graph(reference),
            reference["input/train_nodes"],
            reference["input/labels"][reference["input/train_nodes"]],
        ),
        outputs=lambda log_probabilities: {"log_probabilities": log_probabilities},
        model=sizes,
        given=lambda reference: {"features": 10, "classes": 3},
    )


def pixels(rendered: Rendered) -> dict[str, Tensor]:
    """What both networks see, as the reference calls it."""
    return {
        f"{network}_{theirs}": getattr(getattr(rendered, network), ours)
        for network in ("coarse", "fine")
        for theirs, ours in {
            "colour": "colours",
            "opacity": "opacities",
            "weights": "weights",
            "expected_depth": "depths",
        }.items()
    }


def _language(feedback: str) -> Case:
    return Case(
        file=f"language-{feedback}",
        choice=("task=language", "model=transformer", f"feedback={feedback}"),
        names=names.transformer(layers=2),
        batch=lambda reference: TokenBatch(reference["input/tokens"].T, reference["input/targets"].T),
        outputs=lambda logits: {"logits": logits.transpose(0, 1)},
        model={"layers": 2, "heads": 2, "width": 16, "feed_forward": 32, "dropout": 0.0, "positions": 8},
        given=lambda reference: {"vocabulary": 50},
        training=True,
        error=lambda error: error.transpose(0, 1),
    )


CASES = {
    "fm": _clicks("fm", names.fm(), {}, rules=("bp",)),
    "deepfm": _clicks("deepfm", names.deepfm(mlp=2), {}),
    "dcn": _clicks("dcn", names.dcn(cross=3, mlp=2), {"cross_depth": 3}, points={"cross.[0-4]": "cross.[01]"}),
    "afn": _clicks("afn", names.afn(mlp=2), {"log_neurons": 6}),
    "autoint": _clicks(
        "autoint",
        names.autoint(attention=3, mlp=2),
        {"attention_width": 6, "heads": 2, "attention_depth": 3},
    ),
    "cheb": _nodes("cheb", names.CHEB, {"hidden": 16}),
    "gcn": _nodes("gcn", names.GCN, {"hidden": 16}),
    "spline": _nodes("spline", names.SPLINE, {"hidden": 16}),
    "gat": _nodes("gat", names.GAT, {"hidden": 8, "heads": 8}),
    "dna": _nodes("dna", names.dna(layers=3), {"hidden": 16, "layers": 3, "heads": 4, "groups": 8}),
    "gae": Case(
        file="links-gae",
        choice=("task=links", "model=gae"),
        names=names.GAE,
        batch=lambda reference: LinkBatch(
            _graph(reference), reference["input/edge_index"], reference["input/negative_edges"]
        ),
        outputs=lambda latent: {"latent": latent},
        model={"hidden": 8, "latent": 4},
        given=lambda reference: {"features": 10},
    ),
    "nerf": Case(
        file="nerf-released",
        choice=("task=view_synthesis", "model=nerf"),
        names=names.NERF,
        batch=lambda reference: RayBatch(
            Rays(*(reference[f"input/{name}"] for name in ("origins", "directions", "view_directions"))),
            reference["input/target"],
        ),
        outputs=pixels,
        model={"width": 16, "coarse_samples": 6, "fine_samples": 8},
        given=lambda reference: {
            "near": reference["input/near"].item(),
            "far": reference["input/far"].item(),
            "white_background": True,
        },
        rules=("bp", "dfa"),
    ),
    "macro": _language("macro"),
    "micro": _language("micro"),
}

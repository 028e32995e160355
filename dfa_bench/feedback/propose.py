"""Feedback points for a model never seen before, from one look at what it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfa_bench.feedback.describe import main_tensor
from dfa_bench.feedback.errors import PointNotFound
from dfa_bench.feedback.paths import FeedbackPath, unwrap
from dfa_bench.feedback.rule import run_once

BLOCKS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)
ACTIVATIONS = "torch.nn.modules.activation"


def propose(model: nn.Module, example: object) -> FeedbackPath:
    """See `FeedbackPath.auto`."""
    model = unwrap(model)
    ran = _watch(model, example)
    head = _head(ran)
    below = [call for call in ran[: ran.index(head)] if not call.name.startswith(f"{head.name}.") or not head.name]
    chosen = _blocks(model, below) or _activations(below) or _layers(below)
    chosen = [each for each in chosen if _have_rows_of(head, each, below)] or chosen
    if not chosen:
        raise PointNotFound(
            f"{type(model).__name__} runs nothing below its head '{head.name}' that could be a feedback point."
        )
    outputs = [call for call in below if call.name in {name for _, names in chosen for name in names}]
    return FeedbackPath(
        points=[pattern for pattern, _ in chosen],
        error_at=head.name or None,
        batch_axes=1 if _is_of_images(head, outputs) else None,
        first_of_tuple=any(call.is_tuple for call in outputs),
        rows=of_sample if outputs[-1].output.ndim == 3 and head.output.ndim == 2 else None,
        normalised=_is_normalised(ran, outputs[-1]),
    )


def _is_of_images(head: _Ran, outputs: list[_Ran]) -> bool:
    """Whether the error is an image, (N, channels, height, width), and points share its samples but not its rows."""
    rows = head.output.shape[:-1]
    return len(rows) > 2 and any(call.output.shape[: len(rows)] != rows for call in outputs)


def _have_rows_of(head: _Ran, pattern: tuple[str, list[str]], below: list[_Ran]) -> bool:
    outputs = [call.output for call in below if call.name in pattern[1]]
    rows = head.output.shape[:-1]
    return all(output.shape[: min(len(rows), output.ndim - 1)] == rows[: output.ndim - 1] for output in outputs)


def of_sample(points: Tensor) -> Tensor:
    """For `FeedbackPath(rows=of_sample)`: points of shape (samples, tokens, width), an error for each sample."""
    return torch.arange(len(points), device=points.device).unsqueeze(1).expand(points.shape[:2])


@dataclass(frozen=True, eq=False)
class _Ran:
    name: str
    module: nn.Module
    inputs: tuple[int, ...]  # ids of tensors
    output: Tensor
    is_tuple: bool


def _watch(model: nn.Module, example: object) -> list[_Ran]:
    """Modules in the order in which they ended, each once, by its first name and its last call."""
    found: dict[str, _Ran] = {}
    alive: list[object] = []  # so that no id is used twice

    def hook(name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple[object, ...], output: object) -> None:
            first = None if isinstance(output, list) else main_tensor(output)
            alive.extend([args, output])
            if first is not None and first.is_floating_point() and first.ndim:
                found.pop(name, None)
                inputs = tuple(id(each) for each in args if isinstance(each, Tensor))
                found[name] = _Ran(name, module, inputs, first, isinstance(output, tuple))

        return note

    handles = [module.register_forward_hook(hook(name)) for name, module in model.named_modules()]
    try:
        run_once(model, example)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


def _head(ran: list[_Ran]) -> _Ran:
    """The innermost module with weights that returned what the model returns; else the last one with that shape."""
    if not ran or ran[-1].name:
        raise PointNotFound(
            "The model returns neither a tensor nor one named logits, so where its error is, is unknown."
        )
    learning, result = [call for call in ran if call.name and _has_weights(call.module)], ran[-1].output
    returned = [call for call in learning if call.output is result]
    alike = [call for call in learning if call.output.shape == result.shape]
    return returned[0] if returned else alike[-1] if alike else ran[-1]


def _blocks(model: nn.Module, below: list[_Ran]) -> list[tuple[str, list[str]]]:
    """The outermost lists of modules of one class, two or more, all of which ran."""
    names = {call.name for call in below}
    chosen: list[tuple[str, list[str]]] = []
    for name, module in model.named_modules():
        children = list(module.named_children())
        of_one_class = len(children) > 1 and len({type(child) for _, child in children}) == 1
        if not isinstance(module, BLOCKS) or not of_one_class or any(name.startswith(f"{p[:-1]}") for p, _ in chosen):
            continue
        inside = [f"{name}.{child}".strip(".") for child, _ in children]
        has_parts = any(True for _ in children[0][1].children())
        if has_parts and {*inside} <= names and all(_has_weights(child) for _, child in children):
            chosen.append((f"{name}.*".lstrip("."), inside))
    return chosen


def _activations(below: list[_Ran]) -> list[tuple[str, list[str]]]:
    names = [
        call.name for call in below if type(call.module).__module__ == ACTIVATIONS and not _has_weights(call.module)
    ]
    return _as_patterns(names)


def _layers(below: list[_Ran]) -> list[tuple[str, list[str]]]:
    """Modules with weights that are not made of others, or are graph convolutions."""
    convolutions = [call.name for call in below if type(call.module).__name__.endswith("Conv")]
    return _as_patterns(
        [
            call.name
            for call in below
            if _has_weights(call.module)
            and (call.name in convolutions or not list(call.module.children()))
            and not any(call.name.startswith(f"{name}.") for name in convolutions)
        ]
    )


def _as_patterns(names: list[str]) -> list[tuple[str, list[str]]]:
    """One pattern for names that differ in numbers only."""
    grouped: dict[str, list[str]] = {}
    for name in names:
        shape = ".".join("*" if part.isdigit() else part for part in name.split("."))
        grouped.setdefault(shape if "." in shape and shape.strip("*.") else name, []).append(name)
    return [(shape if len(group) > 1 else group[0], group) for shape, group in grouped.items()]


def _is_normalised(ran: list[_Ran], last: _Ran) -> bool:
    read_by = [call for call in ran if id(last.output) in call.inputs and call is not last]
    return bool(read_by) and "norm" in type(read_by[0].module).__name__.lower()


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())

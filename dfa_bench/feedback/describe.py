"""Which parameter learns from what: read off the autograd graph of one forward."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils import _pytree as pytree

BY_BACKPROP = "BP"


@dataclass(frozen=True)
class Description:
    """What each parameter of a model learns from.

    `learns_from` maps a parameter's name to the names of the points that feed it; "BP" stands for the ordinary
    gradient of the loss, and what is neither is the rule that the gradient has come through, such as "feedback
    alignment". An empty tuple: the parameter does not learn.
    """

    learns_from: dict[str, tuple[str, ...]]
    points: frozenset[str]  # those sources that are modules

    @property
    def both(self) -> list[str]:
        """Parameters that a point feeds and that BP reaches as well, past the points."""
        return [
            name for name, sources in self.learns_from.items() if BY_BACKPROP in sources and self.points & {*sources}
        ]

    def __str__(self) -> str:
        width = max((len(name) for name in self.learns_from), default=0)
        lines = [f"{name:<{width}}  {self._sentence(sources)}" for name, sources in self.learns_from.items()]
        if self.both:
            lines.append(_warning(self.both))
        return "\n".join(lines)

    def _sentence(self, sources: tuple[str, ...]) -> str:
        points = ", ".join(f"'{name}'" for name in sources if name in self.points)
        parts = [f"from {points}"] if points else []
        parts += ["by BP"] if BY_BACKPROP in sources else []
        parts += [f"through {name}" for name in sources if name not in self.points and name != BY_BACKPROP]
        return f"learns {' and '.join(parts)}" if parts else "does not learn"


def describe_graph(model: nn.Module, outputs: object) -> Description:
    """Walk the graph below `outputs` of a model with hooks, labelling each path by the point that it starts at."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, list[str]] = {name: [] for name in names.values()}
    roots = [leaf.grad_fn for leaf in tensors_in(outputs) if leaf.grad_fn]
    todo: list[tuple[Node, str]] = [(root, BY_BACKPROP) for root in roots]
    seen: set[tuple[Node, str]] = set(todo)
    while todo:
        node, label = todo.pop()
        leaf = getattr(node, "variable", None)  # of AccumulateGrad
        if leaf is not None and (name := names.get(id(leaf))) and label not in found[name]:
            found[name].append(label)
        for step in _steps(node, label):
            if step not in seen:
                seen.add(step)
                todo.append(step)
    order = {name: position for position, (name, _) in enumerate(model.named_modules(remove_duplicate=False))}
    return Description(
        {name: tuple(sorted(labels, key=lambda label: order.get(label, -1))) for name, labels in found.items()},
        frozenset(label for labels in found.values() for label in labels if label in order),
    )


def tensors_in(outputs: object) -> list[Tensor]:
    """All tensors that a module returned, in containers or in the fields of dataclasses."""
    found = []
    for leaf in pytree.tree_leaves(outputs):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, Mapping):
            found += tensors_in(list(leaf.values()))
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            found += tensors_in([getattr(leaf, field.name) for field in dataclasses.fields(leaf)])
    return found


def main_tensor(output: object) -> Tensor | None:
    """What a module returns, if that is a tensor; else its `logits`, or the first of a tuple or list."""
    logits = named(output, "logits")
    main = logits if logits is not None else output[0] if isinstance(output, (tuple, list)) and output else output
    return main if isinstance(main, Tensor) else None


def named(output: object, name: str) -> object:
    """A part of an output by its name, an attribute or a key; None if there is none."""
    return getattr(output, name, output.get(name) if isinstance(output, Mapping) else None)


def past_every_source(outputs: object) -> int:
    """How many of the tensors that a model returned learn, but not by way of an error source."""
    return sum(leaf.grad_fn is not None and not _meets_a_rule(leaf.grad_fn) for leaf in tensors_in(outputs))


def _meets_a_rule(root: Node) -> bool:
    todo, seen = [root], {root}
    while todo:
        node = todo.pop()
        if hasattr(node, "fed_by"):
            return True
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                todo.append(parent)
    return False


def warn_of_both(description: Description) -> None:
    """Warn of parameters that learn from a point and, past it, by BP as well."""
    if description.both:
        warnings.warn(_warning(description.both), stacklevel=3)


def _steps(node: Node, label: str) -> Iterable[tuple[Node, str]]:
    inputs = [parent for parent, _ in node.next_functions]
    sources = getattr(node, "fed_by", None)  # set by the autograd function of a rule: what feeds its last inputs
    if sources is None:
        return [(parent, label) for parent in inputs if parent is not None]
    fed = inputs[len(inputs) - len(sources) :]  # the first ones get the gradient that has arrived
    passed_on = [(parent, label) for parent in inputs[: len(inputs) - len(sources)]]
    return [(parent, name) for parent, name in (*passed_on, *zip(fed, sources, strict=True)) if parent is not None]


def _warning(both: list[str]) -> str:
    shown = ", ".join(both[:4]) + (", …" if len(both) > 4 else "")
    return (
        f"{len(both)} parameters learn from a point and by BP as well ({shown}): the true gradient gets past the "
        f"points, for instance over a skip connection or a tied weight. If this is not intended, put the point after "
        f"the sum."
    )

"""Proof that a rule is active: what each parameter learns from, and that no gradient sees the weights above it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from dfa_bench.feedback.alignment import alignment, as_it_is
from dfa_bench.feedback.attachment import Attachment
from dfa_bench.feedback.compiler import in_backward
from dfa_bench.feedback.describe import BY_BACKPROP, describe_graph, main_tensor
from dfa_bench.feedback.errors import FeedbackError
from dfa_bench.feedback.state import no_trace

MOST_POINTS = 8  # each takes a forward and a backward


@dataclass(frozen=True)
class CheckedParameter:
    """What was found out about one parameter."""

    learns_from: tuple[str, ...]  # as in a description, but in this backward
    cosine: float | None  # with BP's gradient; None: one of the two is zero or missing
    sees_above: bool | None  # does its gradient depend on the weights above its point? None: not tried


@dataclass(frozen=True)
class Check:
    """What was found out about a model, by parameter; `print` it."""

    parameters: Mapping[str, CheckedParameter]
    points: frozenset[str]

    @property
    def by_feedback(self) -> list[str]:
        """Parameters that learn from points, or through the layers of another rule, and in no other way."""
        found = {name: each.learns_from for name, each in self.parameters.items()}
        return [name for name, sources in found.items() if sources and BY_BACKPROP not in sources]

    @property
    def seeing_above(self) -> list[str]:
        """Parameters below points whose gradients depend on weights above."""
        return [name for name, found in self.parameters.items() if found.sees_above]

    def assert_active(self) -> None:
        """For a test of your own.

        Raises:
            FeedbackError: no parameter learns from feedback only, or the gradient of one depends on the weights above.
        """
        if not self.by_feedback:
            raise FeedbackError(f"No parameter learns from feedback only.\n{self}")
        if self.seeing_above:
            raise FeedbackError(
                f"The gradients of {', '.join(self.seeing_above[:4])} depend on the weights above their points.\n{self}"
            )

    def __str__(self) -> str:
        width = max((len(name) for name in self.parameters), default=9)
        lines = [f"{'parameter':<{width}}  {'gradient':<10} {'cosine':>7}  weights above"]
        for name, found in self.parameters.items():
            cosine = "" if found.cosine is None else f"{found.cosine:.3f}"
            above = {None: "", False: "not seen", True: "SEEN"}[found.sees_above]
            lines.append(f"{name:<{width}}  {self._kind(found):<10} {cosine:>7}  {above}".rstrip())
        return "\n".join(lines)

    def _kind(self, found: CheckedParameter) -> str:
        sources = {*found.learns_from}
        if not sources:
            return "none"
        if BY_BACKPROP in sources:
            return "BP" if sources == {BY_BACKPROP} else "both"
        return "feedback" if sources <= self.points else "rule"


def prove(attached: Attachment, backward: Callable[[], object]) -> Check:
    """Find out what every parameter really learns from, at the current weights.

    >>> found = prove(attached, lambda: loss(model(inputs), targets).backward())
    >>> print(found)
    >>> found.assert_active()

    What each parameter learns from is read off the graph of the loss that `backward` is called on: one that bypasses
    the error source is seen. There are two more proofs. The cosine with BP's gradient is 1 where a parameter learns by
    BP, and near 0 where feedback is random and training has not begun. And for each point (some of them, in a model of
    many) the weights above it are changed while the error at the source is held fixed: by DFA the gradients below stay
    what they were, by BP they do not.
    Weights, gradients, buffers and random state are afterwards as they were before.

    Args:
        attached: the rule, as `rule.attach` returned it.
        backward: as in `alignment`: forward of a batch, and `backward()` on its loss.

    Raises:
        PassesDiffer: see `alignment`.
        ShapeMismatch: rows of a point are not those of the error, only equal in number.
        FeedbackError: the rule was removed.
    """
    points = frozenset(attached.point_names)
    with as_it_is(attached):
        with no_trace(attached.model):
            attached.check_axes(backward)
        measured = alignment(attached, backward)
        learns_from = _learns_from(attached, backward)
        sees = _sees_above(attached, backward, learns_from) if points & _all(learns_from) else {}
    cosines = {name: found.cosine for name, found in measured.weights.items()}
    return Check(
        {name: CheckedParameter(sources, cosines.get(name), sees.get(name)) for name, sources in learns_from.items()},
        points,
    )


def _learns_from(attached: Attachment, backward: Callable[[], object]) -> dict[str, tuple[str, ...]]:
    found: list[dict[str, tuple[str, ...]]] = []
    run = torch.autograd.backward

    def noted(tensors: Any, *args: Any, **options: Any) -> None:
        found.append(describe_graph(attached.model, tensors).learns_from)
        run(tensors, *args, **options)

    with no_trace(attached.model), attached.unstreamed(), patch.object(torch.autograd, "backward", noted):
        backward()
    if not found:  # the loss was differentiated in another way
        return attached.describe().learns_from
    return {name: tuple(dict.fromkeys(label for each in found for label in each[name])) for name in found[0]}


def _all(learns_from: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    return frozenset(source for sources in learns_from.values() for source in sources)


def _sees_above(
    attached: Attachment, backward: Callable[[], object], learns_from: Mapping[str, tuple[str, ...]]
) -> dict[str, bool]:
    order: list[str] = []
    with _order_of_points(attached, order):
        before = _gradients(attached, backward)
    some = order[:: -(-len(order) // MOST_POINTS)]
    found = {}
    for point in some:
        until = {*order[: order.index(point) + 1]}
        above = [name for name, sources in learns_from.items() if sources and not until & {*sources}]
        below = [name for name, sources in learns_from.items() if sources == (point,)]
        if not above or not below:
            continue
        with _changed(attached.model, above):
            after = _gradients(attached, backward)
        for name in below:
            size = before[name].abs().max()
            found[name] = bool((after[name] - before[name]).abs().max() > 1e-4 * size)
    return found


def _gradients(attached: Attachment, backward: Callable[[], object]) -> dict[str, Tensor]:
    """By the rule, with an error at each source that does not depend on the loss; leaves no trace."""
    model = attached.model
    with no_trace(model), ExitStack() as hooks:
        for source in attached.error_sources:
            hooks.callback(model.get_submodule(source.name).register_forward_hook(_hold_error).remove)
        backward()
        return {
            name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
            for name, parameter in model.named_parameters()
        }


def _hold_error(module: nn.Module, args: object, output: object) -> None:
    tensor = main_tensor(output)
    if tensor is not None and tensor.requires_grad and not in_backward():
        tensor.register_hook(_same_error)


def _same_error(error: Tensor) -> Tensor:
    drawn = torch.randn(error.shape, generator=torch.Generator().manual_seed(0))
    return drawn.to(error.device, error.dtype)


@contextmanager
def _order_of_points(attached: Attachment, order: list[str]) -> Iterator[None]:
    """Inside, the names of points are added to `order` when they first run."""

    def note(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, args: object, output: object) -> None:
            if name not in order:
                order.append(name)

        return hook

    handles = [attached.model.get_submodule(name).register_forward_hook(note(name)) for name in attached.point_names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _changed(model: nn.Module, names: list[str]) -> Iterator[None]:
    parameters = dict(model.named_parameters())  # changed by `data`: no step, for rules that count them
    before = {name: parameters[name].detach().clone() for name in names}
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, values in before.items():
            noise = torch.randn(values.shape, generator=generator).to(values.device, values.dtype)
            parameters[name].data.add_(noise * (values.std(correction=0) + 0.1))
    try:
        yield
    finally:
        with torch.no_grad():
            for name, values in before.items():
                parameters[name].data.copy_(values)

"""Alignment: the angle between the gradients of a rule and of BP, at the same weights, batch and random state.

Appendix A of the paper. Two kinds. `paper`: the gradients that arrive at the outputs of feedback points and of leaf
modules, those that run no other module, compared row by row; a row is what has an error of its own (a sample, a node, a
token, a point of a ray).
`weights`: the gradients of each parameter, as one vector. A vector of zeros has no angle, so a row in which a gradient
is zero is left out, and what gets no gradient from the rule (below a cut) does not appear at all.

The released code differs in two points: it gives rows in which both gradients vanish a cosine of 1, and for graphs it
takes the loss of all nodes in evaluation mode, where here batch and mode are those of training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from dfa_bench.feedback.attachment import Attachment
from dfa_bench.feedback.errors import PassesDiffer
from dfa_bench.feedback.recording import Recording, recorded
from dfa_bench.feedback.state import State, no_trace


@dataclass(frozen=True)
class RowAlignment:
    """Cosines between two gradients at the output of a module, one per row."""

    mean: float
    std: float  # over rows
    rows: int  # that both gradients reach: those compared
    of: int  # that BP's gradient reaches


@dataclass(frozen=True)
class WeightAlignment:
    """Two gradients of a parameter."""

    cosine: float
    norm_ratio: float  # norm of the rule's, divided by that of BP's


@dataclass(frozen=True)
class Alignment:
    """The alignment of one batch: `paper` by module, `weights` by parameter, both in the order of the model."""

    paper: dict[str, RowAlignment]
    weights: dict[str, WeightAlignment]


def alignment(attached: Attachment, backward: Callable[[], object]) -> Alignment:
    """Compare the gradients of a rule with BP's.

    >>> attached = DirectFeedback(seed=0).attach(model, paths)
    >>> measured = alignment(attached, lambda: loss(model(inputs), targets).backward())
    >>> measured.paper["layers.0.activation"].mean

    The model is not copied. `backward` runs twice, by the rule and by BP, from the same random state; then gradients,
    buffers and random state are put back, so that training goes on as if nothing had been measured.

    Args:
        attached: the rule, as `rule.attach` returned it.
        backward: runs the forward of one batch and calls `backward()` on its loss; it must do the same both times,
            except for what is drawn from the generators of Python and PyTorch.

    Raises:
        PassesDiffer: the two passes cannot be compared, or `backward` sends no gradient.
        FeedbackError: the rule was removed.
    """
    with no_trace(attached.model), as_it_is(attached):
        comparison = GradientComparison(attached)
        with comparison.by_rule():
            backward()
        return comparison.with_bp(backward)


class GradientComparison:
    """Compares a training step's own forward and backward with BP's, which takes one more of each and nothing else.

    >>> comparison = GradientComparison(attached)
    >>> with comparison.by_rule():
    ...     loss(model(inputs), targets).backward()
    >>> measured = comparison.with_bp(lambda: loss(model(inputs), targets).backward())

    Made before the forward, since it keeps the state that BP starts from. Modules must not be compiled.
    """

    def __init__(self, attached: Attachment) -> None:
        self._attached, self._model = attached, attached.model
        self._before = State(self._model)
        self._rule = Recording()

    @contextmanager
    def by_rule(self) -> Iterator[None]:
        with self._attached.unstreamed(), recorded(self._model) as self._rule:
            yield

    def with_bp(self, backward: Callable[[], object]) -> Alignment:
        """Run `backward` once more, by BP, and compare; leaves no trace. Raises: see `alignment`."""
        with no_trace(self._model):
            self._before.restore()
            with self._attached.paused(), recorded(self._model) as by_bp:
                backward()
        return self._compare(by_bp)

    def _compare(self, by_bp: Recording) -> Alignment:
        if not self._rule.parameters or not by_bp.parameters:
            raise PassesDiffer(
                f"No parameter of {type(self._model).__name__} got a gradient. The function that is passed must run "
                f"the model that the rule is attached to, and call backward() on its loss."
            )
        batches = self._batches(by_bp)
        paper = {name: self._at_output(name, by_bp, batches) for name in self._measured(by_bp)}
        weights = {name: self._of_weight(name, by_bp) for name, _ in self._model.named_parameters()}
        return Alignment(
            {name: found for name, found in paper.items() if found is not None},
            {name: found for name, found in weights.items() if found is not None},
        )

    def _measured(self, by_bp: Recording) -> list[str]:
        """Names of the points and of the leaves among the modules that ran, in the order of the model."""
        ran = by_bp.outputs.keys()
        parents = {name[:dot] for name in ran for dot, letter in enumerate(name) if letter == "."}
        points = {self._name(point) for point in self._attached.point_names}
        names = [name for name, _ in self._model.named_modules() if name in ran]
        return [name for name in names if name and (name in points or name not in parents)]

    def _name(self, name: str) -> str:
        """The first name of a module, by which it is recorded, if it has several."""
        wanted = self._model.get_submodule(name)
        return next(first for first, module in self._model.named_modules() if module is wanted)

    def _batches(self, by_bp: Recording) -> list[torch.Size]:
        """Shapes of the axes that have an error of their own, one per path and call."""
        found = []
        for source in self._attached.error_sources:
            for error in by_bp.outputs.get(self._name(source.name), []):
                if error is not None:
                    found.append(error.shape[: source.batch_axes(error)])
        return found

    def _at_output(self, name: str, by_bp: Recording, batches: Sequence[torch.Size]) -> RowAlignment | None:
        ours, theirs = self._rule.outputs.get(name, []), by_bp.outputs.get(name, [])
        if len(ours) != len(theirs):
            raise PassesDiffer(
                f"'{name}' ran {len(ours)} times by the rule and {len(theirs)} times by BP. The function that is "
                f"passed must do the same at each call."
            )
        cosines, reached = [], 0
        for our, their in zip(ours, theirs, strict=True):
            if their is None:
                continue
            rows = _rows(their, batches)
            reached += int((_largest(rows) > 0).sum())
            if our is not None:
                _check_shapes(name, our, their)
                cosines.append(_cosines(_rows(our, batches), rows))
        every = torch.cat(cosines) if cosines else torch.empty(0)
        if not len(every):
            return None
        return RowAlignment(float(every.mean()), float(every.std(correction=0)), len(every), reached)

    def _of_weight(self, name: str, by_bp: Recording) -> WeightAlignment | None:
        ours, theirs = self._rule.parameters.get(name), by_bp.parameters.get(name)
        if ours is None or theirs is None:
            return None
        _check_shapes(name, ours, theirs)
        our, their = _dense(ours).reshape(1, -1), _dense(theirs).reshape(1, -1)
        cosine = _cosines(our, their)
        if not len(cosine):
            return None
        return WeightAlignment(float(cosine), float(our.norm() / their.norm()))


@contextmanager
def as_it_is(attached: Attachment) -> Iterator[None]:
    """What the rule draws inside, or learns in a backward, is put back afterwards; rules change no buffer in place."""
    before = [
        (module, name, buffer, buffer.grad if buffer.is_leaf else None)
        for module in attached.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    for _, _, buffer, gradient in before:
        if gradient is not None:
            buffer.grad = None  # which a backward would add to in place
    try:
        yield
    finally:
        for module, name, buffer, gradient in before:
            module._buffers[name] = buffer
            if buffer.is_leaf:
                buffer.grad = gradient


def _rows(gradient: Tensor, batches: Sequence[torch.Size]) -> Tensor:
    """(rows, width): a row for each error, the rest flattened; without such axes in front, vectors of the last axis."""
    for batch in batches:
        if gradient.shape[: len(batch)] == batch:
            return gradient.reshape(batch.numel(), -1)
    return gradient.reshape(-1, gradient.shape[-1] if gradient.ndim else 1)


def _cosines(ours: Tensor, theirs: Tensor) -> Tensor:
    """Cosine of each pair of rows, (rows where neither is zero or infinite,)."""
    sizes = _largest(ours), _largest(theirs)
    defined = torch.stack([torch.isfinite(size) & (size > 0) for size in sizes]).all(dim=0)
    return (_unit(ours[defined]) * _unit(theirs[defined])).sum(dim=1).clamp(-1, 1)


def _largest(rows: Tensor) -> Tensor:
    return _wide(rows).abs().amax(dim=1)


def _unit(rows: Tensor) -> Tensor:
    """Rows of length 1; divided by their largest entry first, since squares of small gradients vanish."""
    scaled = _wide(rows) / _largest(rows).unsqueeze(1)
    return scaled / scaled.norm(dim=1, keepdim=True)


def _wide(rows: Tensor) -> Tensor:
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def _dense(gradient: Tensor) -> Tensor:
    return gradient.to_dense() if gradient.layout != torch.strided else gradient


def _check_shapes(name: str, ours: Tensor, theirs: Tensor) -> None:
    if ours.shape != theirs.shape:
        raise PassesDiffer(
            f"The gradient at '{name}' has shape {tuple(ours.shape)} by the rule and {tuple(theirs.shape)} by BP. "
            f"The function that is passed must take the same batch at each call."
        )

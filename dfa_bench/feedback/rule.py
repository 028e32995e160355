"""What all learning rules have in common.

How to add one: a file with a frozen dataclass that inherits from `Rule`, whose fields are its settings, and whose
`build` hooks a model through an `Attachment` of its own; and `configs/rule/NAME.yaml`, which makes it known under a
name and says how it is drawn. Nothing else changes: the trainer, tables, curves, alignment and the report ask these
two. Rules that send the error straight to points build on `DirectFeedback` (`target_projection.py` is an example),
those that go layer by layer on `LayerwiseRule` (`sign_symmetry.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from dfa_bench.feedback.attachment import Attachment, attachment_of, is_hooked
from dfa_bench.feedback.compiler import without_compiler
from dfa_bench.feedback.errors import AlreadyAttached
from dfa_bench.feedback.paths import FeedbackPath, resolve, unwrap
from dfa_bench.feedback.state import State


class Rule(ABC):
    """How a model learns: `attach` makes it so."""

    # Some parameters may get no gradient at all, for which plain DistributedDataParallel would wait.
    leaves_parameters_out: ClassVar[bool] = True
    # Whether the model runs again in the backward: see `streaming.py`.
    streaming: bool = False

    def attach(
        self, model: nn.Module, paths: FeedbackPath | Iterable[FeedbackPath] = (), example: object = None
    ) -> Attachment:
        """Make a model learn by this rule; the model itself stays unchanged.

        Attach first, then compile, wrap in DDP or hand over to Fabric.

        Args:
            model: any module.
            paths: where feedback comes from and goes to.
            example: a batch for one forward, after which buffers and random state are restored: it draws the feedback
                matrices at once and lets `describe()` answer. A tuple gives the positional arguments of the model, a
                dict the named ones, anything else the only one.

        Raises:
            TypeError: a path is not a FeedbackPath.
            PointNotFound, PointsOverlap, AlreadyAttached: see their docstrings.
            PointNotReached, PointAboveSource, ShapeMismatch, NotATensor: here if there is an example, else at the first
                forward.
        """
        model = unwrap(model)
        if attachment_of(model) is not None or any(map(is_hooked, model.modules())):
            raise AlreadyAttached(
                f"{type(model).__name__} already learns by a rule, active or paused. Call .remove() on its attachment "
                f"first (dfa_bench.feedback.attachment_of(model) finds it; it may be that of a module around this one)."
            )
        paths = [paths] if isinstance(paths, FeedbackPath) else list(paths)
        for each in paths:
            if not isinstance(each, FeedbackPath):
                raise TypeError(f"paths: give FeedbackPath(points=[...]) or several of them, not {each!r}.")
        resolve(model, paths)  # every rule checks them, so that one switch changes the rule
        attachment = self.build(model, paths, example)
        try:
            attachment.start()
            if example is not None:
                with attachment.unstreamed():
                    run_once(model, example)
                    attachment.check_axes(lambda: run_once(model, example))
                    attachment.warn_of_other_rows(example, partial(run_once, model))
                attachment.forget_example()
        except BaseException:
            attachment.remove()
            raise
        return attachment

    @abstractmethod
    def build(self, model: nn.Module, paths: Sequence[FeedbackPath], example: object) -> Attachment:
        """Hook the model; `attach` has unwrapped it and checked the paths, and runs the example afterwards."""

    @abstractmethod
    def outcome(self, paths: Sequence[FeedbackPath]) -> dict[str, Any]:
        """Everything in the rule's settings and the paths that can change gradients, except defaults.

        Its values can be written as JSON: two runs that agree in it, and in all but the rule, are one run.
        """


def differing(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, as JSON has them."""
    values = {field.name: _plain(getattr(settings, field.name)) for field in fields(settings)}
    defaults = {field.name: _plain(field.default) for field in fields(settings)}
    return {name: value for name, value in values.items() if value != defaults[name]}


def _plain(value: Any) -> Any:
    if callable(value):
        return getattr(value, "__qualname__", None) or repr(value)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def run_once(model: nn.Module, example: object) -> None:
    """One forward, eager and with gradients, that leaves buffers and random state as they were."""
    before = State(model)
    with torch.enable_grad(), without_compiler():
        try:
            if isinstance(example, tuple):
                model(*example)
            elif isinstance(example, dict):
                model(**example)
            else:
                model(example)
        finally:
            before.restore()

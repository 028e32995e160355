"""A training step as one CUDA graph, which the device repeats without Python (PyTorch's notes on CUDA graphs)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.utils._pytree import tree_flatten, tree_unflatten

from dfa_bench.feedback import Attachment
from dfa_bench.settings.schema import RunSettings

WARM_UP = 3  # steps on a side stream before the capture: they make the optimizer's state and choose kernels


def why_not(
    settings: RunSettings, device: torch.device, processes: int, optimizer: Optimizer, attachment: Attachment
) -> str | None:
    """Why the steps of a run cannot be captured; None: they may be."""
    kind, recipe = type(attachment), settings.recipe
    if device.type != "cuda":
        return f"capture needs a CUDA device, and this run is on {device.type}"
    if processes > 1:
        return f"{processes} processes exchange gradients"
    if recipe.optimizer == "lazy_adam":
        return "recipe.optimizer=lazy_adam touches other rows at each step"
    if not isinstance(optimizer, Adam):
        return f"recipe.optimizer={recipe.optimizer} is not Adam, which alone is captured"
    if recipe.schedule.name == "one_cycle":
        return "recipe.schedule.name=one_cycle changes the momentum of Adam at each step"
    if attachment.streams:
        return "with rule.streaming=true the model runs again in the backward"
    if attachment.runs_layers_again:
        return f"rule={settings.rule.name} runs layers of this model again in the backward"
    is_still = kind.begin_step is Attachment.begin_step and kind.end_step is Attachment.end_step
    if attachment.changes_matrices or not is_still:
        return f"rule={settings.rule.name} does work of its own at each step"
    return None


class CapturedStep:
    """A step that is captured once it has run a few times, and repeated from then on.

    A batch of another shape, the smaller last one of an epoch for instance, runs uncaptured. So do all if the capture
    fails, which is reported in one line. Random numbers come from the device's default generator: a graph reads its
    seed and counts on as the uncaptured step does, so that seeding it between steps works.

    Args:
        step: batch on the device to loss, detached: forward, backward and the optimizer's step. It does the same for
            every batch of one shape, reads no value back from the device, and copies none there from Python.
        optimizer: Adam, fused; its learning rates may change between steps.
        device: CUDA.
    """

    def __init__(self, step: Callable[[Any], Tensor], optimizer: Optimizer, device: torch.device) -> None:
        self._step, self._optimizer, self._device = step, optimizer, device
        self._stream = torch.cuda.Stream(device)
        self._rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]
        self._form: Any = None  # of the batches that the graph is for: the largest before it is captured
        self._size = -1  # numbers in one of them
        self._steps = 0  # of that form
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Any] = []  # which the graph reads: each batch is copied there
        self._loss: Tensor | None = None
        self._failed = False

    @property
    def is_captured(self) -> bool:
        return self._graph is not None

    def __call__(self, batch: Any) -> Tensor:
        """Take one step; the loss is overwritten by the next one."""
        leaves, structure = tree_flatten(batch)
        form = (structure, [_form(leaf) for leaf in leaves])
        size = sum(leaf.numel() for leaf in leaves if isinstance(leaf, Tensor))
        if self._graph is None and not self._failed and size > self._size:
            self._form, self._size, self._steps = form, size, 0
            self._inputs = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        if self._failed or form != self._form:
            return self._step(batch)
        self._steps += 1
        for mine, given in zip(self._inputs, leaves, strict=True):
            if isinstance(mine, Tensor):
                mine.copy_(given, non_blocking=True)
        inputs = tree_unflatten(self._inputs, structure)
        if self._steps <= WARM_UP:
            return self._beside(inputs)  # with their strides too, on which compiled models depend
        if self._graph is None and not self._capture(inputs):
            return self._step(batch)
        return self._replay()

    def _beside(self, batch: Any) -> Tensor:
        """A step on the side stream, where it will be captured: gradients must not be bound to another one."""
        main = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(main)
        with torch.cuda.stream(self._stream):
            loss = self._step(batch)
        main.wait_stream(self._stream)
        return loss

    def _capture(self, batch: Any) -> bool:
        graph, random = torch.cuda.CUDAGraph(), torch.cuda.get_rng_state(self._device)
        stream = torch.cuda.current_stream(self._device)
        try:
            with (
                self._capturable(),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                self._loss = self._step(batch)
        except RuntimeError as error:
            cause = error.__context__ or error  # ending a broken capture fails too, and says less
            reason = (str(cause).splitlines() or [type(cause).__name__])[0]
            print(f"trainer.capture: the step could not be captured ({reason}). Steps run uncaptured.", file=sys.stderr)
            self._failed, self._inputs, self._loss = True, [], None
            self._optimizer.zero_grad()
            torch.cuda.set_stream(stream)  # ending a broken capture leaves the side stream the current one
            # The generator still thinks that it is being captured: its state is exchanged for another one.
            generator = torch.Generator(self._device)
            generator.set_state(random)
            index = self._device.index or 0
            torch.cuda.default_generators[index].graphsafe_set_state(generator.graphsafe_get_state())
            return False
        self._graph = graph
        return True

    def _replay(self) -> Tensor:
        assert self._graph is not None
        assert self._loss is not None
        for rate, group in zip(self._rates, self._optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self._graph.replay()
        return self._loss

    @contextmanager
    def _capturable(self) -> Iterator[None]:
        """Adam as it has to be within a graph: learning rates are tensors, which each replay reads.

        Outside they stay numbers, so that schedules, logs and checkpoints are those of an uncaptured run.
        """
        groups = self._optimizer.param_groups
        before = [(group["lr"], group["capturable"]) for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"], group["capturable"] = rate, True
        try:
            yield
        finally:
            for group, (rate, capturable) in zip(groups, before, strict=True):
                group["lr"], group["capturable"] = rate, capturable


def _form(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf

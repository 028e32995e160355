"""What a forward depends on, and may change, besides weights: random state, autocast and buffers."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from dfa_bench.feedback.compiler import without_compiler


class GeneratorStates:
    """State of Python's and of PyTorch's generators, on the CPU and on CUDA devices, as it is now."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._devices = {device for device in devices if device.type == "cuda"}
        self._python = random.getstate()
        self._cpu = torch.get_rng_state()
        self._cuda = {device: torch.cuda.get_rng_state(device) for device in self._devices}

    def restore(self) -> None:
        random.setstate(self._python)
        torch.set_rng_state(self._cpu)
        for device, state in self._cuda.items():
            torch.cuda.set_rng_state(state, device)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Inside, the same numbers are drawn as after this state was taken; outside, none of them were."""
        now = GeneratorStates(self._devices)
        self.restore()
        try:
            yield
        finally:
            now.restore()


class Autocast:
    """Whether, and to which dtype, operations on some kinds of devices are cast now."""

    def __init__(self, devices: Iterable[str]) -> None:
        known = [kind for kind in devices if torch.amp.is_autocast_available(kind)]
        self._states = [(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) for kind in known]

    @contextmanager
    def as_it_was(self) -> Iterator[None]:
        with ExitStack() as contexts:
            for kind, dtype, enabled in self._states:
                contexts.enter_context(torch.autocast(kind, dtype, enabled))
            yield


class State:
    """Buffers of a model and random state, as they are now; `restore` puts them back, in place."""

    def __init__(self, model: nn.Module) -> None:
        self._random = GeneratorStates(parameter.device for parameter in model.parameters())
        self._buffers = [
            (module, name, buffer, buffer.clone())
            for module in model.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None and not torch.nn.parameter.is_lazy(buffer)
        ]

    def restore(self) -> None:
        self._random.restore()
        with torch.no_grad():
            for module, name, buffer, values in self._buffers:
                module._buffers[name] = buffer.copy_(values)


@contextmanager
def no_trace(model: nn.Module) -> Iterator[None]:
    """Inside, parameters begin without gradient and code is not compiled; afterwards all is as it was."""
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    state = State(model)
    try:
        for parameter, _ in gradients:
            parameter.grad = None
        with without_compiler():
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        state.restore()

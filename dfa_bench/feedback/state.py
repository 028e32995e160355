"""What a forward changes besides gradients: buffers and random state."""

from __future__ import annotations

import random

import torch
from torch import nn


class State:
    """Buffers of a model and random state, as they are now; `restore` puts them back, in place.

    Random state is that of Python's and of PyTorch's generators, on the CPU and on the model's CUDA devices.
    """

    def __init__(self, model: nn.Module) -> None:
        devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
        self._python = random.getstate()
        self._cpu = torch.get_rng_state()
        self._cuda = {device: torch.cuda.get_rng_state(device) for device in devices}
        self._buffers = [
            (module, name, buffer, buffer.clone())
            for module in model.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None and not torch.nn.parameter.is_lazy(buffer)
        ]

    def restore(self) -> None:
        random.setstate(self._python)
        torch.set_rng_state(self._cpu)
        for device, state in self._cuda.items():
            torch.cuda.set_rng_state(state, device)
        with torch.no_grad():
            for module, name, buffer, values in self._buffers:
                module._buffers[name] = buffer.copy_(values)

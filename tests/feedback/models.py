"""Small models that the tests share, and references that know nothing of the library's internals."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Linear, then activation: the point of most tests is the activation."""

    def __init__(self, fan_in: int, fan_out: int, activation: nn.Module | None = None, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(fan_in, fan_out, bias=bias)
        self.activation = activation or nn.Tanh()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.activation(self.linear(inputs))


class Mlp(nn.Module):
    """Blocks in `layers`, then a linear `head`. `widths`: of the input, of each layer, of the output."""

    def __init__(self, widths: Sequence[int] = (5, 8, 6, 3), activation: nn.Module | None = None) -> None:
        super().__init__()
        *sizes, classes = widths
        self.layers = nn.ModuleList(Block(a, b, activation) for a, b in itertools.pairwise(sizes))
        self.head = nn.Linear(sizes[-1], classes)

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self.layers:
            inputs = layer(inputs)
        return self.head(inputs)


def mlp_and_batch(seed: int = 0, rows: int = 7, widths: Sequence[int] = (5, 8, 6, 3)) -> tuple[Mlp, Tensor, Tensor]:
    torch.manual_seed(seed)
    model = Mlp(widths).double()
    return model, torch.randn(rows, widths[0]).double(), torch.randn(rows, widths[-1]).double()


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum()


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same(actual: dict[str, Tensor | None], expected: dict[str, Tensor | None], atol: float = 1e-10) -> None:
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        found = actual[name]
        assert (found is None) == (gradient is None), f"{name}: {found} is not {gradient}"
        if found is not None and gradient is not None:
            torch.testing.assert_close(found, gradient, atol=atol, rtol=1e-5 if atol > 1e-8 else 0, msg=f"of {name}")


def feedback(error: Tensor, matrix: Tensor, activation: Tensor, batch_axes: int = 1) -> Tensor:
    """B δa_y in the shape of one point's output; `matrix` begins with the columns of this point."""
    width = math.prod(activation.shape[batch_axes:])
    rows = error.reshape(math.prod(error.shape[:batch_axes]), matrix.shape[0])
    return (rows @ matrix[:, :width].to(rows.dtype)).view(activation.shape).to(activation.dtype)


def backward_per_block(loss: Tensor, output: Tensor, points: Sequence[Tensor], matrix: Tensor, axes: int = 1) -> None:
    """The reference: `points` end blocks that begin at detached inputs; each gets the projected error."""
    (error,) = torch.autograd.grad(loss, output, retain_graph=True)
    projected = [feedback(error, matrix, point, axes) for point in points]
    torch.autograd.backward([loss, *points], [None, *projected])


def chain_reference(
    model: nn.Module,
    blocks: Sequence[Callable[[Tensor], Tensor]],
    head: Callable[[Tensor], Tensor],
    inputs: Tensor,
    loss: Callable[[Tensor], Tensor],
    matrix: Tensor,
    axes: int = 1,
) -> dict[str, Tensor | None]:
    """Gradients of a bare model that is a chain of blocks, each of which ends in a point."""
    model.zero_grad()
    points = []
    for block in blocks:
        points.append(block(inputs))
        inputs = points[-1].detach()
    output = head(inputs)
    backward_per_block(loss(output), output, points, matrix, axes)
    return gradients(model)


def mlp_reference(model: Mlp, inputs: Tensor, targets: Tensor, matrix: Tensor) -> dict[str, Tensor | None]:
    """Of a bare `Mlp` with squared error: a point at each activation."""
    axes = inputs.ndim - 1
    return chain_reference(
        model, list(model.layers), model.head, inputs, lambda out: squared_error(out, targets), matrix, axes
    )

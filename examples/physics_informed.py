"""A physics-informed network without weight transport: python examples/physics_informed.py

It solves u'' = -π² sin(πx) with u(0) = u(1) = 0, whose solution is sin(πx). The usual way takes u'' by automatic
differentiation with respect to the input. With a rule attached, that gradient is feedback and no derivative, so the
network learns another equation (the library warns). Two ways out: finite differences, which need forwards only, or
`paused()` around the whole step, which is BP.
"""

import math
import sys
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dfa_bench.feedback import Backprop, DirectFeedback, FeedbackPath, Rule


def by_differences(network: nn.Module, x: Tensor, step: float = 0.02) -> tuple[Tensor, Tensor]:
    """u and u'' at x, (points, 1), from one forward of three times as many points."""
    left, middle, right = network(torch.cat([x - step, x, x + step])).chunk(3)
    return middle, (left - 2 * middle + right) / step**2


def by_autograd(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    u = network(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    return u, curvature


def error(rule: Rule, derivatives: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]], steps: int) -> float:
    """Largest distance of the trained network from the solution."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
    x, ends = torch.linspace(0, 1, 41).unsqueeze(1), torch.tensor([[0.0], [1.0]])
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with rule.attach(network, FeedbackPath(["1", "3"], error_at="4"), example=x):
        for _ in range(steps):
            optimizer.zero_grad()
            _, curvature = derivatives(network, x)
            residual = curvature + math.pi**2 * torch.sin(math.pi * x)
            (residual.square().mean() + 100 * network(ends).square().mean()).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return float((network(x) - torch.sin(math.pi * x)).abs().max())


def main(steps: int) -> None:
    warnings.simplefilter("ignore")  # the third line is what the library warns of
    print(f"BP,  automatic differentiation  {error(Backprop(), by_autograd, steps):.4f}")
    print(f"DFA, finite differences         {error(DirectFeedback(), by_differences, steps):.4f}")
    print(f"DFA, automatic differentiation  {error(DirectFeedback(), by_autograd, steps):.4f}")


if __name__ == "__main__":
    main(steps=int(sys.argv[1]) if len(sys.argv) > 1 else 3000)

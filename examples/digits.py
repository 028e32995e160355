"""Rules compared on scikit-learn's digits: python examples/digits.py [epochs] [perceptron strided pooled transformer]

A perceptron learns well by every rule, and a small vision transformer learns too. Convolutions are where DFA is known
to fail (Bartunov et al. 2018; Launay et al. 2019): `pooled`, whose kernels see every place of the image alike, up to a
mean over all places, hardly learns by DFA. `strided` has 2 × 2 places at its last convolution, and all of them go into
the head: on images this small it is nearly a perceptron, and learns.
"""

import sys
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from dfa_bench.feedback import (
    Backprop,
    DirectFeedback,
    DirectKolenPollack,
    FeedbackAlignment,
    FeedbackPath,
    KolenPollack,
    Rule,
    Shallow,
    SignSymmetry,
    TargetProjection,
)

RULES = {
    "BP": Backprop(),
    "Kolen–Pollack": KolenPollack(),
    "sign-symmetry": SignSymmetry(),
    "feedback alignment": FeedbackAlignment(),
    "DFA": DirectFeedback(),
    "direct Kolen–Pollack": DirectKolenPollack(),
    "target projection": TargetProjection(),
    "shallow": Shallow(),
}


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 10)
    )


def strided() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(64, 10)),
    )


def pooled() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(16, 10)),
    )


class VisionTransformer(nn.Module):
    """Patches of 2 × 2 pixels, pre-norm blocks, the mean of the tokens."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches, self.position = nn.Conv2d(1, width, 2, stride=2), nn.Parameter(torch.randn(16, width) * 0.1)
        options = {"dropout": 0.0, "batch_first": True, "norm_first": True}
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(width, 4, 2 * width, **options) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.position  # (batch, 16, width)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens).mean(dim=1))


NETWORKS = {"perceptron": perceptron, "strided": strided, "pooled": pooled, "transformer": VisionTransformer}


def digits() -> tuple[Tensor, Tensor]:
    loaded = load_digits()
    order = torch.randperm(len(loaded.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(loaded.images, dtype=torch.float32).unsqueeze(1) / 16  # (1797, 1, 8, 8)
    return images[order], torch.tensor(loaded.target)[order]


def accuracy(network: str, rule: Rule, epochs: int) -> float:
    """Of a network trained by a rule, on the last 300 digits."""
    images, labels = digits()
    torch.manual_seed(0)
    model = NETWORKS[network]()
    path = FeedbackPath.auto(model, images[:2])
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with rule.attach(model, path, example=images[:2]) as attached:
        attached.follow(optimizer)
        for epoch in range(epochs):
            order = torch.randperm(1497, generator=torch.Generator().manual_seed(epoch))
            for rows in order.split(64):
                if "targets" in attached.needs:
                    attached.begin_step(targets=labels[rows])
                optimizer.zero_grad()
                F.cross_entropy(model(images[rows]), labels[rows]).backward()
                optimizer.step()
    with torch.no_grad():
        return float((model(images[1497:]).argmax(dim=1) == labels[1497:]).float().mean())


def main(epochs: int, networks: Sequence[str]) -> None:
    print(f"{'accuracy (%)':<22}" + "".join(f"{network:>15}" for network in networks))
    for name, rule in RULES.items():
        found = [accuracy(network, rule, epochs) for network in networks]
        print(f"{name:<22}" + "".join(f"{100 * each:>15.1f}" for each in found), flush=True)


if __name__ == "__main__":
    main(epochs=int(sys.argv[1]) if len(sys.argv) > 1 else 10, networks=sys.argv[2:] or list(NETWORKS))

"""From a model to a plot of its alignment with backpropagation: python examples/alignment_plot.py [alignment.png]

The paper's idea in one picture: feedback is random, and the layers below the head turn their weights until it helps.
"""

import sys

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from dfa_bench.feedback import DirectFeedback, FeedbackPath, alignment

STEPS, EVERY = 240, 20

loaded = load_digits()
images = torch.tensor(loaded.data, dtype=torch.float32) / 16  # (1797, 64)
labels = torch.tensor(loaded.target)

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 10))
path = FeedbackPath.auto(model, images[:2])  # its activations, and its last layer
attached = DirectFeedback(seed=0).attach(model, path, example=images[:2])
attached.check(lambda: F.cross_entropy(model(images[:64]), labels[:64]).backward()).assert_active()


def loss() -> torch.Tensor:
    rows = torch.randint(len(images), (64,))
    return F.cross_entropy(model(images[rows]), labels[rows])


optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
curves: dict[str, list[float]] = {point: [] for point in attached.point_names}
for step in range(STEPS):
    if step % EVERY == 0:
        measured = alignment(attached, lambda: loss().backward())
        for point, curve in curves.items():
            curve.append(measured.paper[point].mean)
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()

accuracy = (model(images).argmax(dim=1) == labels).float().mean()
for point, curve in curves.items():
    plt.plot(range(0, STEPS, EVERY), curve, marker="o", label=f"output of '{point}'")
plt.axhline(0, color="grey", linewidth=0.5)
plt.xlabel("step")
plt.ylabel("cosine with BP's gradient, mean over samples")
plt.title(f"DFA on digits, accuracy {accuracy:.2f}")
plt.legend()
plt.savefig(sys.argv[1] if len(sys.argv) > 1 else "alignment.png", dpi=120)
print(", ".join(f"'{point}' {curve[0]:.2f} -> {curve[-1]:.2f}" for point, curve in curves.items()))

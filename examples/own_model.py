"""Train your own model with Direct Feedback Alignment: python examples/own_model.py"""

import torch
from torch import nn

from dfa_bench.feedback import DirectFeedback, FeedbackPath

torch.manual_seed(0)
model = nn.Sequential(
    nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
)  # any nn.Module, unchanged
inputs = torch.randn(512, 2)
targets = (inputs[:, 0] * inputs[:, 1] > 0).long()  # not linearly separable

attached = DirectFeedback(seed=0).attach(model, FeedbackPath(points=["1", "3"]), example=inputs)
print(attached.describe())  # which parameter learns from what

optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(200):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
print(f"accuracy {(model(inputs).argmax(-1) == targets).float().mean():.3f}")

attached.remove()  # the model is as it was, and trained

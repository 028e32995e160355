"""Why DFA needs `normalised=True` on a pre-norm transformer: python examples/pre_norm_language_model.py

A small character-level model on the text of Python's own help. Every block of a pre-norm transformer reads the residual
stream through a layer norm, so the loss does not depend on how large the stream is, and its true gradient never makes
it larger. Random feedback knows nothing of it, and the stream grows until single tokens no longer show in it.
"""

import itertools
import sys
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfa_bench.feedback import Backprop, DirectFeedback, FeedbackPath, Rule, Shallow

WIDTH, CONTEXT, BATCH = 64, 48, 16
TEXT = torch.tensor(list("".join(topics[name] for name in sorted(topics))[:400_000].encode("ascii", "replace")))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.feed_forward = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, stream: Tensor) -> Tensor:  # (batch, tokens, WIDTH)
        later = torch.triu(torch.ones(stream.shape[1], stream.shape[1], dtype=torch.bool), 1)
        read = self.norm1(stream)
        stream = stream + self.attention(read, read, read, attn_mask=later, need_weights=False)[0]
        return stream + self.feed_forward(self.norm2(stream))


class LanguageModel(nn.Module):
    def __init__(self, depth: int = 4) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(128, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 128)

    def forward(self, tokens: Tensor) -> Tensor:
        stream = self.embedding(tokens) + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            stream = block(stream)
        return self.head(self.norm(stream))  # (batch, tokens, 128)


def windows(begin: float, end: float, seed: int, steps: int) -> list[Tensor]:
    """Random windows of a part of the text, (BATCH, CONTEXT + 1) for each step."""
    text = TEXT[int(begin * len(TEXT)) : int(end * len(TEXT))]
    starts = torch.randint(len(text) - CONTEXT - 1, (steps, BATCH), generator=torch.Generator().manual_seed(seed))
    return [torch.stack([text[start : start + CONTEXT + 1] for start in row]) for row in starts]


def cross_entropy(model: nn.Module, window: Tensor) -> Tensor:
    return F.cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())


def train(rule: Rule, path: FeedbackPath, lr: float, steps: int) -> tuple[float, float]:
    """Loss on the held-out end of the text, in nats a character, and mean length of the stream above the blocks."""
    torch.manual_seed(0)
    model = LanguageModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    with rule.attach(model, path):
        for window in windows(0, 0.9, 0, steps):
            optimizer.zero_grad()
            cross_entropy(model, window).backward()
            optimizer.step()
    streams: list[Tensor] = []
    model.blocks[-1].register_forward_hook(lambda module, args, output: streams.append(output.norm(dim=-1).mean()))
    with torch.no_grad():
        losses = [cross_entropy(model.eval(), window) for window in windows(0.9, 1, 1, 10)]
    return float(torch.stack(losses).mean()), float(torch.stack(streams).mean())


PLAIN = FeedbackPath(["blocks.*"], error_at="head")
NORMALISED = FeedbackPath(["blocks.*"], error_at="head", normalised=True)
RULES = {
    "BP": (Backprop(), PLAIN),
    "DFA, normalised": (DirectFeedback(seed=0), NORMALISED),
    "DFA": (DirectFeedback(seed=0), PLAIN),
    "shallow": (Shallow(), PLAIN),
}


def main(steps: int) -> None:
    print(f"{'rule':<16} {'rate':>6} {'held-out loss':>14} {'stream':>8}")
    for lr, (name, (rule, path)) in itertools.product([1e-3, 3e-3], RULES.items()):
        loss, stream = train(rule, path, lr, steps)
        print(f"{name:<16} {lr:>6g} {loss:>14.2f} {stream:>8.0f}", flush=True)


if __name__ == "__main__":
    main(steps=int(sys.argv[1]) if len(sys.argv) > 1 else 100)

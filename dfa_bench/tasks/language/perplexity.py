"""How well a model predicts a text: loss, perplexity per token, and per word, which compares across vocabularies."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from dfa_bench.tasks.base import ALONE, Shard
from dfa_bench.tasks.language.tokenizer import Tokens
from dfa_bench.tasks.language.windows import Windows, window_count


@torch.no_grad()
def perplexities(
    model: nn.Module, text: Tokens, streams: int, context: int, limit: int | None, shard: Shard = ALONE
) -> dict[str, float]:
    """Loss −Σ log p / n, n tokens, and perplexities exp(−Σ log p / n), over all tokens but the first of each stream.

    Of a perplexity, n is the number of predicted tokens, or of the words that begin among them: with `<eos>` for the
    end of a line, as word-level language models count.

    Args:
        model: (N, T) tokens to (N, T, vocabulary) logits; in evaluation mode.
        text: a split.
        streams, context: N and T; see `Windows`. Each window is predicted from its own tokens only.
        limit: at most so many tokens from the start of the text.
        shard: which windows this process predicts; the sums are over those of all.
    """
    first = torch.from_numpy(text.begins_word)
    device = next(model.parameters()).device
    ids = text.ids[:limit]
    mine = Windows(ids, streams, context, shard.share(range(window_count(len(ids), streams, context))))
    losses, counts = [], []
    for inputs, targets in mine:
        logits = model(inputs.to(device)).float()  # (N, T, vocabulary)
        losses.append(F.cross_entropy(logits.flatten(0, 1), targets.flatten().to(device), reduction="sum"))
        counts.append((targets.numel(), int(first[targets].sum())))
    values = torch.stack(losses).tolist() if losses else []  # read once: each look waits for the device
    found = shard.gather([(loss, *count) for loss, count in zip(values, counts, strict=True)])
    loss, tokens, words = (sum(each) for each in zip(*found, strict=True))
    return {
        "loss": loss / tokens,
        "perplexity": exponential(loss / tokens),
        "word_perplexity": exponential(loss / max(words, 1)),
    }


def exponential(mean: float) -> float:
    """e to the power of a mean loss; infinite where that is too large for a number, NaN for NaN."""
    return math.inf if mean > 700 else math.exp(mean)

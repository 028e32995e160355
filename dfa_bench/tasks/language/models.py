"""The causal Transformer of Table 5: Vaswani et al. 2017, the encoder's layers with a causal mask.

Where feedback goes is configuration (configs/feedback/macro.yaml, micro.yaml): every block ends in a named identity,
and so does its attention part, so that a point there cuts the residual stream as well.
"""

from __future__ import annotations

import copy
import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import validate_call
from torch import Tensor, nn

from dfa_bench.settings.schema import Count, Fraction
from dfa_bench.tasks.language.cross_entropy import mean_cross_entropy


class Attention(nn.Module):
    """Causal self-attention over several heads; initial values are those of PyTorch's MultiheadAttention."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.queries_keys_values.weight)  # as one (3 width, width) map
        nn.init.zeros_(self.queries_keys_values.bias)
        nn.init.zeros_(self.mix.bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        split = self.queries_keys_values(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)  # each (batch, heads, length, width / heads)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return self.mix(mixed.transpose(1, 2).reshape(batch, length, width))


class FeedForward(nn.Module):
    """Linear, ReLU, dropout, linear; `hidden` is what stands between the linear layers."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.hidden = nn.Sequential(nn.ReLU(), nn.Dropout(dropout))
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(self.hidden(self.expand(x)))


class PostNormBlock(nn.Module):
    """Layer normalisation behind each sum, as in Vaswani et al. 2017 and in the released code."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.after_attention = nn.Identity()
        self.feed_forward = FeedForward(width, feed_forward, dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.after_feed_forward = nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.after_attention(self.attention_norm(x + self.dropout(self.attention(x))))
        return self.after_feed_forward(self.feed_forward_norm(x + self.dropout(self.feed_forward(x))))


class PreNormBlock(PostNormBlock):
    """Layer normalisation in front of each part, so that the residual stream runs through unnormalised."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.after_attention(x + self.dropout(self.attention(self.attention_norm(x))))
        return self.after_feed_forward(x + self.dropout(self.feed_forward(self.feed_forward_norm(x))))


BLOCKS = {"post": PostNormBlock, "pre": PreNormBlock}


class Transformer(nn.Module):
    """Tokens to logits of the next token, from the left only.

    The last hidden state, `last_hidden`, is the paper's error source: above it is only the vocabulary projection, which
    learns by BP. Where the paper is silent, this is the released code: embeddings and vocabulary projection start
    uniform in ±0.1, the bias at zero; embeddings are multiplied by sqrt(width); all blocks start as copies of one, with
    PyTorch's initial values.

    Args:
        vocabulary: number of tokens.
        layers, heads, width, feed_forward: sizes (d_model is `width`).
        dropout: on embeddings, attention weights, hidden units of the feed-forward part, and sublayers' outputs.
        positions: the longest sequence; sinusoidal encoding (Vaswani et al. 2017, section 3.5).
        norm: "post", as in the paper, or "pre", with a further norm behind the last block.
        tied: the vocabulary projection is the embedding's weight, without bias: an option of the released code.
    """

    takes_targets: ClassVar[bool] = True  # so that the logits of a training step need not be whole
    position: Tensor  # (positions, width)

    @validate_call
    def __init__(
        self,
        vocabulary: Count,
        layers: Count,
        heads: Count,
        width: Count,
        feed_forward: Count,
        dropout: Fraction,
        positions: Count,
        norm: Literal["post", "pre"],
        tied: bool = False,
    ) -> None:
        super().__init__()
        if width % heads or width % 2:
            raise ValueError(f"width={width} must be even and a multiple of heads={heads}.")
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.register_buffer("position", sinusoids(positions, width), persistent=False)
        self.dropout = nn.Dropout(dropout)
        block = BLOCKS[norm](width, heads, feed_forward, dropout)
        self.blocks = nn.ModuleList(copy.deepcopy(block) for _ in range(layers))
        self.last_hidden = nn.LayerNorm(width) if norm == "pre" else nn.Identity()
        self.vocabulary = nn.Linear(width, vocabulary, bias=not tied)
        if tied:
            self.vocabulary.weight = self.embedding.weight
        else:
            nn.init.uniform_(self.vocabulary.weight, -0.1, 0.1)
            nn.init.zeros_(self.vocabulary.bias)

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Tensor:
        """Logits (batch, length, vocabulary) of tokens (batch, length); position t has seen tokens up to t.

        With targets (batch, length): their mean cross-entropy instead, a scalar.

        Raises:
            ValueError: the sequences are longer than the model has positions.
        """
        length, positions = tokens.shape[1], self.position.shape[0]
        if length > positions:
            raise ValueError(f"Sequences of {length} tokens do not fit model.positions={positions}.")
        x = self.embedding(tokens.long()) * math.sqrt(self.embedding.embedding_dim)  # (batch, length, width)
        x = self.dropout(x + self.position[:length])
        for block in self.blocks:
            x = block(x)
        hidden = self.last_hidden(x)
        if targets is None:
            return self.vocabulary(hidden)
        return mean_cross_entropy(hidden, self.vocabulary, targets)


def sinusoids(positions: int, width: int) -> Tensor:
    """Sines in even columns, cosines in odd ones, of geometrically falling frequency; (positions, width)."""
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))  # (width / 2,)
    angle = torch.arange(positions).unsqueeze(1) * frequency  # (positions, width / 2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)

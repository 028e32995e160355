"""From one array of tokens to batches: parallel streams in successive windows, or shuffled chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dfa_bench.tasks.indices import sent


class TokenBatch(NamedTuple):
    inputs: Tensor  # (N, T)
    targets: Tensor  # (N, T), the next token of each


class Windows:
    """Some windows of a text cut into contiguous streams of equal length, in a given order.

    Stream n of window w goes on where it stopped in window w − 1; no state is carried (the released code's `batchify`).
    What is left when the text does not divide into the streams is passed over.

    Args:
        ids: (tokens,) the text: an array, read from the memory map as needed, or a tensor on the device of the batches.
        streams: N.
        context: T, tokens of a window; the last window of a text may be shorter.
        order: of the windows; by default all, from the first to the last.
        mine: streams that this process trains on; by default all.

    Raises:
        ValueError: the text is shorter than one token and its successor for each stream.
    """

    def __init__(
        self,
        ids: np.ndarray | Tensor,
        streams: int,
        context: int,
        order: Sequence[int] | None = None,
        mine: slice = slice(None),
    ) -> None:
        length = len(ids) // streams
        self._streams = ids[: length * streams].reshape(streams, length)[mine]  # (N, length), a view
        self._context = context
        self._order = range(window_count(len(ids), streams, context)) if order is None else order

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[TokenBatch]:
        for window in self._order:
            start = window * self._context
            yield as_batch(self._streams[:, start : start + self._context + 1])


class Chunks:
    """Chunks of a text in a given order, each with its next token; a last batch that is not full is passed over.

    Args:
        ids: (tokens,) the text; see `Windows`.
        order: of the chunks: chunk c is tokens c·T to c·T + T.
        size: N, chunks in a batch.
        context: T.
    """

    def __init__(self, ids: np.ndarray | Tensor, order: np.ndarray, size: int, context: int) -> None:
        self._ids, self._order, self._size, self._context = ids, order, size, context

    def __len__(self) -> int:
        return len(self._order) // self._size

    def __iter__(self) -> Iterator[TokenBatch]:
        within = np.arange(self._context + 1)
        for first in range(0, len(self) * self._size, self._size):
            starts = self._order[first : first + self._size, None] * self._context
            yield as_batch(_pick(self._ids, starts + within))


def as_batch(ids: np.ndarray | Tensor) -> TokenBatch:
    """(N, T + 1) tokens as inputs and targets."""
    tokens = ids.long() if isinstance(ids, Tensor) else torch.from_numpy(ids.astype(np.int64))
    return TokenBatch(tokens[:, :-1], tokens[:, 1:])


def window_count(tokens: int, streams: int, context: int) -> int:
    """Number of windows of a text, the last one maybe shorter.

    Raises:
        ValueError: the text is too short for any.
    """
    if tokens < 2 * streams:
        raise ValueError(f"{tokens} tokens are too few for {streams} streams: each needs two.")
    return math.ceil((tokens // streams - 1) / context)


def _pick(ids: np.ndarray | Tensor, places: np.ndarray) -> np.ndarray | Tensor:
    return ids[sent(torch.from_numpy(places), ids.device)] if isinstance(ids, Tensor) else ids[places]

"""DFA through an optical processor (arXiv 2012.06373; Wang et al. 2024, arXiv 2409.12965), modelled.

Light is scattered by a medium that multiplies by a large fixed random matrix. A mirror array puts the error in, with
three values; a camera reads the projection, with few bits and noise. In place of B_i δa_y a point gets

    Q_b(B_i T_t(δa_y) + ε)

with T_t(e) = sign(e) where |e| > t rms(e) and 0 elsewhere, times the factor that keeps the root mean square of e; ε
is Gaussian, with a size relative to the projection's; and Q_b rounds to the nearest of 2^b − 1 equally spaced levels
from −m to m, m being the largest magnitude in the batch. Each of the three can be left out.

The thresholds in the papers are absolute, for errors of a known size; here they are relative, since a mean over the
batch makes errors smaller the larger the batch is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from dfa_bench.feedback.broadcast_attachment import BroadcastAttachment
from dfa_bench.feedback.direct import DirectFeedback, ProjectedRoute
from dfa_bench.feedback.paths import ResolvedPath


@dataclass(frozen=True)
class Optics:
    """The projection itself; its fields are those of `OpticalFeedback`."""

    threshold: float | None = 0.5
    bits: int | None = 8
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold < float("inf"):
            raise ValueError(f"threshold={self.threshold}: give a number from 0, or null to leave errors as they are.")
        if self.bits is not None and not 2 <= self.bits <= 24:
            raise ValueError(f"bits={self.bits}: give a whole number from 2 to 24, or null for an exact read-out.")
        if not 0 <= self.noise < float("inf"):
            raise ValueError(f"noise={self.noise}: give a number from 0.")

    def __call__(self, error: Tensor, matrix: Tensor) -> Tensor:
        if self.threshold is not None:
            error = ternary(error, self.threshold)
        projected = error @ matrix
        if self.noise:
            projected = projected + self.noise * _size(projected) * torch.randn_like(projected)
        return projected if self.bits is None else read_out(projected, self.bits)


def ternary(error: Tensor, threshold: float) -> Tensor:
    """T_t of a batch of errors, (rows, error width): three values, with the error's root mean square."""
    signs = error.sign() * (error.abs() > threshold * _size(error))
    size = _size(signs)
    return signs * torch.where(size > 0, _size(error) / size, size)


def read_out(projected: Tensor, bits: int) -> Tensor:
    """Q_b of a batch of projections, (rows, columns)."""
    if not projected.numel():
        return projected
    largest, levels = projected.abs().amax(), 2 ** (bits - 1) - 1
    step = largest / levels
    return torch.where(largest > 0, (projected / step).round() * step, projected)


def _size(values: Tensor) -> Tensor:
    return values.square().mean().sqrt()


@dataclass(frozen=True)
class OpticalFeedback(DirectFeedback):
    """DFA whose projection is that of an optical processor: ternary errors, a matrix, a read-out of few bits, noise.

    Args:
        seed, distribution, scale, shared, density: those of the matrix, as in DirectFeedback.
        threshold: t, relative to the error's root mean square: below it an error counts as 0, above it as its sign;
            None: the error goes in as it is.
        bits: b, of the read-out; None: exact.
        noise: standard deviation of ε, relative to the projection's root mean square.
    """

    threshold: float | None = 0.5
    bits: int | None = 8
    noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.optics()
        for name in ("projection", "rank"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name}={getattr(self, name)!r}: OpticalFeedback has a projection of its own.")

    def optics(self) -> Optics:
        return Optics(self.threshold, self.bits, self.noise)

    def attachment(self, model: nn.Module, found: Sequence[ResolvedPath]) -> BroadcastAttachment:
        return BroadcastAttachment(model, found, self, partial(ProjectedRoute, self.optics()))

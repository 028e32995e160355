"""Fixed sparse matrices: bag-of-words features and normalised adjacencies, multiplied by their non-zeros only.

PyTorch multiplies a CSR matrix fast but differentiates the product slowly: its backward transposes the matrix again
each time. Here the transpose is kept beside the matrix.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """A constant sparse matrix in compressed rows, with the rows of its transpose.

    `matrix @ dense` is differentiable with respect to `dense`: (rows, columns) @ (columns, width).
    """

    shape: tuple[int, int]
    crow: Tensor  # (rows + 1,) where each row begins
    col: Tensor  # (non-zeros,) column of each value
    values: Tensor  # (non-zeros,)
    transposed_crow: Tensor  # (columns + 1,)
    transposed_col: Tensor  # (non-zeros,)
    transposed_order: Tensor  # (non-zeros,) position in `values` of each value of the transpose

    @classmethod
    def from_coordinates(cls, row: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int]) -> SparseMatrix:
        """Build from the row, column and value of each non-zero, in any order; several at one place add up."""
        by_row = torch.argsort(row * shape[1] + col)
        row, col, values = row[by_row], col[by_row], values[by_row]
        by_column = torch.argsort(col, stable=True)
        return cls(
            shape,
            _compress(row, shape[0]),
            col.int(),
            values,
            _compress(col[by_column], shape[1]),
            row[by_column].int(),
            by_column,
        )

    @classmethod
    def from_dense(cls, dense: Tensor) -> SparseMatrix:
        row, col = dense.nonzero(as_tuple=True)
        return cls.from_coordinates(row, col, dense[row, col], (dense.shape[0], dense.shape[1]))

    @property
    def nbytes(self) -> int:
        tensors = (getattr(self, field.name) for field in fields(self))
        return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))

    def __matmul__(self, dense: Tensor) -> Tensor:
        return _Product.apply(self, dense.to(self.values.dtype))

    def dropout(self, probability: float) -> SparseMatrix:
        """Inverted dropout of the non-zeros: a dropped zero stays zero, so this is dropout of the whole matrix."""
        if probability == 0:
            return self
        return replace(self, values=F.dropout(self.values, probability))

    def row_normalized(self) -> SparseMatrix:
        """Rows divided by their sum; a row without values stays empty (as PyG's NormalizeFeatures)."""
        counts = (self.crow[1:] - self.crow[:-1]).long()
        row = torch.repeat_interleave(torch.arange(self.shape[0], device=self.values.device), counts)
        sums = torch.zeros(self.shape[0], device=self.values.device).index_add_(0, row, self.values)
        return replace(self, values=self.values / sums.clamp(min=1.0)[row])

    def to_dense(self) -> Tensor:
        return self._rows.to_dense()

    def to(self, device: torch.device, **options: Any) -> SparseMatrix:
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return SparseMatrix(**{name: part.to(device) if name != "shape" else part for name, part in parts.items()})

    def with_values(self, values: Tensor) -> SparseMatrix:
        """The same places with other values, (non-zeros,)."""
        return replace(self, values=values)

    @functools.cached_property
    def _rows(self) -> Tensor:
        return _csr(self.crow, self.col, self.values, self.shape)

    @functools.cached_property  # gathering the values takes as long as a product
    def _columns(self) -> Tensor:
        shape = (self.shape[1], self.shape[0])
        return _csr(self.transposed_crow, self.transposed_col, self.values[self.transposed_order], shape)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: SparseMatrix, dense: Tensor) -> Tensor:
        ctx.matrix = matrix
        with _no_autocast(dense):
            return matrix._rows @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, ctx.matrix._columns @ gradients[0].contiguous()


def sampled_product(places: SparseMatrix, left: Tensor, right: Tensor) -> Tensor:
    """left @ right.T at the places of a sparse matrix only; differentiable in left and right.

    Args:
        places: (rows, columns); its values do not matter.
        left: (rows, width).
        right: (columns, width).

    Returns:
        (non-zeros,), in the order of `places.values`.
    """
    dtype = places.values.dtype
    return _SampledProduct.apply(places, left.to(dtype), right.to(dtype))


def weighted_sum(places: SparseMatrix, weights: Tensor, summands: Tensor) -> Tensor:
    """Sparse matrix times dense; differentiable in both.

    Args:
        places: (rows, columns); its values do not matter.
        weights: (non-zeros,), in the order of `places.values`.
        summands: (columns, width).

    Returns:
        (rows, width).
    """
    dtype = places.values.dtype
    return _WeightedSum.apply(places, weights.to(dtype), summands.to(dtype))


class _SampledProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, places: SparseMatrix, left: Tensor, right: Tensor) -> Tensor:
        ctx.places = places
        ctx.save_for_backward(left, right)
        with _no_autocast(left):
            return _sample(places, left, right)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:
        left, right = ctx.saved_tensors
        weighted = ctx.places.with_values(gradients[0].contiguous())
        return None, weighted._rows @ right, weighted._columns @ left


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, places: SparseMatrix, weights: Tensor, summands: Tensor) -> Tensor:
        ctx.places = places
        ctx.save_for_backward(weights, summands)
        with _no_autocast(summands):
            return places.with_values(weights)._rows @ summands

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:
        weights, summands = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        return None, _sample(ctx.places, gradient, summands), ctx.places.with_values(weights)._columns @ gradient


def _no_autocast(tensor: Tensor) -> torch.autocast:
    """Sparse products exist in full precision only."""
    return torch.autocast(tensor.device.type, enabled=False)


def _sample(places: SparseMatrix, left: Tensor, right: Tensor) -> Tensor:
    return torch.sparse.sampled_addmm(places._rows, left, right.t(), beta=0).values()


def drop(features: Tensor | SparseMatrix, probability: float, training: bool) -> Tensor | SparseMatrix:
    """Dropout of dense or sparse features."""
    if isinstance(features, SparseMatrix):
        return features.dropout(probability) if training else features
    return F.dropout(features, probability, training)


def _compress(sorted_row: Tensor, rows: int) -> Tensor:
    counts = torch.bincount(sorted_row, minlength=rows)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()


def _csr(crow: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(crow, col, values, shape, check_invariants=False)

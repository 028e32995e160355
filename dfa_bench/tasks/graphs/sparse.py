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
        """Rows divided by their sum; a row whose sum is below 1 stays as it is (as with PyG's NormalizeFeatures)."""
        counts = (self.crow[1:] - self.crow[:-1]).long()
        row = torch.repeat_interleave(torch.arange(self.shape[0], device=self.values.device), counts)
        sums = torch.zeros(self.shape[0], device=self.values.device).index_add_(0, row, self.values)
        return replace(self, values=self.values / sums.clamp(min=1.0)[row])

    def to_dense(self) -> Tensor:
        return self._rows.to_dense()

    def to(self, device: torch.device, **options: Any) -> SparseMatrix:
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return SparseMatrix(**{name: part.to(device) if name != "shape" else part for name, part in parts.items()})

    def blocks(self, heads: int) -> SparseMatrix:
        """Copies of the matrix along the diagonal of a larger one, made once."""
        if heads not in self._blocks:
            head = torch.arange(heads, device=self.col.device).unsqueeze(1)
            counts = (self.crow[1:] - self.crow[:-1]).long()
            row = torch.repeat_interleave(torch.arange(self.shape[0], device=counts.device), counts)
            self._blocks[heads] = SparseMatrix.from_coordinates(
                (row + head * self.shape[0]).flatten(),
                (self.col.long() + head * self.shape[1]).flatten(),
                self.values.repeat(heads),
                (heads * self.shape[0], heads * self.shape[1]),
            )
        return self._blocks[heads]

    @functools.cached_property
    def _blocks(self) -> dict[int, SparseMatrix]:
        return {}

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
    """left @ right.T at the places of a sparse matrix only, for several heads; differentiable in left and right.

    Args:
        places: (rows, columns); its values do not matter.
        left: (heads, rows, width).
        right: (heads, columns, width).

    Returns:
        (heads, non-zeros), in the order of `places.values`.
    """
    dtype = places.values.dtype
    return _SampledProduct.apply(places, left.to(dtype), right.to(dtype))


def weighted_sum(places: SparseMatrix, weights: Tensor, summands: Tensor) -> Tensor:
    """Sparse matrix times dense, for several heads that have weights of their own; differentiable in both.

    Args:
        places: (rows, columns); its values do not matter.
        weights: (heads, non-zeros), in the order of `places.values`.
        summands: (heads, columns, width).

    Returns:
        (heads, rows, width).
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
        weights = gradients[0].contiguous()
        return None, _rows_times(ctx.places, weights, right), _columns_times(ctx.places, weights, left)


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, places: SparseMatrix, weights: Tensor, summands: Tensor) -> Tensor:
        ctx.places = places
        ctx.save_for_backward(weights, summands)
        with _no_autocast(summands):
            return _rows_times(places, weights, summands)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:
        weights, summands = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        return None, _sample(ctx.places, gradient, summands), _columns_times(ctx.places, weights, gradient)


def _no_autocast(tensor: Tensor) -> torch.autocast:
    """Sparse products exist in full precision only."""
    return torch.autocast(tensor.device.type, enabled=False)


# On a GPU, where launching a kernel takes longer than such a product, all heads share one, as blocks of one matrix.
# On a CPU one after the other is as fast.


def _sample(places: SparseMatrix, left: Tensor, right: Tensor) -> Tensor:
    if left.is_cuda:
        return _sample_at_once(places, left, right)
    pattern = places._rows
    products = left.new_empty(left.shape[0], places.values.shape[0])
    for values, a, b in zip(products, left, right, strict=True):
        values.copy_(torch.sparse.sampled_addmm(pattern, a, b.t(), beta=0).values())
    return products


def _sample_at_once(places: SparseMatrix, left: Tensor, right: Tensor) -> Tensor:
    blocks, flat = places.blocks(len(left)), right.flatten(0, 1).t()
    values = torch.sparse.sampled_addmm(blocks._rows, left.flatten(0, 1), flat, beta=0).values()
    return values.view(len(left), -1)


def _rows_times(places: SparseMatrix, weights: Tensor, dense: Tensor) -> Tensor:
    """For each head: its weights (heads, non-zeros) at the places, times its (columns, width)."""
    if dense.is_cuda:
        return _rows_times_at_once(places, weights, dense)
    return _per_head(places.crow, places.col, weights, dense, places.shape)


def _rows_times_at_once(places: SparseMatrix, weights: Tensor, dense: Tensor) -> Tensor:
    blocks = replace(places.blocks(len(dense)), values=weights.flatten())
    return (blocks._rows @ dense.flatten(0, 1)).view(len(dense), places.shape[0], -1)


def _columns_times(places: SparseMatrix, weights: Tensor, dense: Tensor) -> Tensor:
    """The same with the transpose, times (rows, width)."""
    if dense.is_cuda:
        return _columns_times_at_once(places, weights, dense)
    ordered = weights.index_select(1, places.transposed_order)
    return _per_head(places.transposed_crow, places.transposed_col, ordered, dense, (places.shape[1], places.shape[0]))


def _columns_times_at_once(places: SparseMatrix, weights: Tensor, dense: Tensor) -> Tensor:
    blocks = replace(places.blocks(len(dense)), values=weights.flatten())
    return (blocks._columns @ dense.flatten(0, 1)).view(len(dense), places.shape[1], -1)


def _per_head(crow: Tensor, col: Tensor, weights: Tensor, dense: Tensor, shape: tuple[int, int]) -> Tensor:
    products = dense.new_empty(dense.shape[0], shape[0], dense.shape[2])
    for product, values, block in zip(products, weights, dense, strict=True):  # in place: a stack would copy them
        torch.addmm(product, _csr(crow, col, values, shape), block, beta=0, out=product)
    return products


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

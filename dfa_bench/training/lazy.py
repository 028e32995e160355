"""Adam that leaves alone the rows of embedding tables that a batch does not look up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Adam, Optimizer, SparseAdam


class LazyAdam(Optimizer):
    """PyTorch's `SparseAdam` for embedding tables, `Adam` for the rest, as one optimizer.

    Adam moves every row at every step, by its momentum also those that no example names, and its time grows with the
    table. The lazy form touches looked-up rows only: faster on large tables, and another algorithm.

    Args:
        tables: weights with sparse gradients.
        rest: the other parameters, at least one.
        lr, betas, eps: as in Adam.
    """

    def __init__(
        self, tables: Sequence[Tensor], rest: Sequence[Tensor], lr: float, betas: tuple[float, float], eps: float
    ) -> None:
        self._parts: list[Optimizer] = [SparseAdam(tables, lr, betas, eps), Adam(rest, lr, betas, eps)]
        super().__init__([*tables, *rest], {"lr": lr})
        self._share_groups()

    def _share_groups(self) -> None:
        """Schedulers set the rate in these very dictionaries."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


def sparse_tables(model: nn.Module) -> list[Tensor]:
    """Make the embedding tables of a model give sparse gradients, and return their weights."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    for table in tables:
        table.sparse = True
    return [table.weight for table in tables]

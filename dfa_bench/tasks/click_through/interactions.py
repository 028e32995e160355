"""The compact form of a click log: memory-mapped ids and labels, and the fixed split of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dfa_bench.errors import CorruptData

Vocabulary = Literal["all", "training"]  # rows over which categories are counted

SPLIT_SEED = 42  # as the released code has, which draws other rows with it, by torch.utils.data.random_split
SHARES = {"train": 0.8, "val": 0.1}  # the rest is the test split


@dataclass(frozen=True)
class Interactions:
    """Rows of categories with a click or none; may be larger than memory.

    Args:
        name: of the data set.
        ids: (rows, fields) int32; each field has its own range of ids, so that one embedding table serves all.
        labels: (rows,) uint8, 0 or 1.
        vocabulary: number of ids over all fields.
    """

    name: str
    ids: np.ndarray
    labels: np.ndarray
    vocabulary: int

    @property
    def fields(self) -> int:
        return int(self.ids.shape[1])

    def split(self) -> dict[str, np.ndarray]:
        """Row numbers of the random 80/10/10 split, which is the same for every run.

        Raises:
            CorruptData: a split has no rows, or all of its labels are equal, so that its AUC is undefined.
        """
        parts = split_rows(len(self.labels))
        for part, rows in parts.items():
            clicks = int(self.labels[rows].sum())
            if clicks in (0, len(rows)):
                raise CorruptData(
                    f"{self.name}: the {len(rows)} rows of the {part} split hold {clicks} clicks, so that its AUC is "
                    f"undefined. Each split needs rows with label 0 and with label 1."
                )
        return parts


def split_rows(rows: int) -> dict[str, np.ndarray]:
    """Row numbers by split, each in the order of one random permutation (as PyTorch's `random_split` leaves them)."""
    order = np.random.default_rng(SPLIT_SEED).permutation(rows).astype(np.int32 if rows < 2**31 else np.int64)
    train, val = (int(rows * share) for share in SHARES.values())
    return {"train": order[:train], "val": order[train : train + val], "test": order[train + val :]}

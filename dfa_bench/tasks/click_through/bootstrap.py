"""How sure a difference of AUCs is, given so many test rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score


@dataclass(frozen=True)
class Difference:
    """AUC of one side minus AUC of the other, on the same rows, as a mean over seeds.

    Args:
        mean: of the difference over seeds.
        low, high: percentile interval (95%) over resampled rows.
        error: standard error over rows.
        rows: in the split.
    """

    mean: float
    low: float
    high: float
    error: float
    rows: int

    def rows_to_decide(self, margin: float) -> int:
        """Test rows that bring the interval's half width (1.96 standard errors) down to `margin`."""
        return math.ceil(self.rows * (1.96 * self.error / margin) ** 2)


def paired_bootstrap(
    labels: np.ndarray, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], draws: int, seed: int
) -> Difference:
    """Resample the rows with replacement, the same ones for both sides and all seeds.

    Args:
        labels: (rows,) 0 or 1, both among them.
        ours, theirs: per seed the scores (rows,) of each side.
        draws: number of resamplings.
        seed: of the generator.
    """
    random = np.random.default_rng(seed)
    everywhere = np.arange(len(labels))
    differences: list[float] = []
    while len(differences) < draws:
        rows = random.integers(0, len(labels), len(labels))
        if 0 < labels[rows].sum() < len(labels):  # an AUC needs both labels
            differences.append(_difference(labels, ours, theirs, rows))
    low, high = np.quantile(differences, [0.025, 0.975])
    mean = _difference(labels, ours, theirs, everywhere)
    return Difference(mean, float(low), float(high), float(np.std(differences, ddof=1)), len(labels))


def _difference(
    labels: np.ndarray, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], rows: np.ndarray
) -> float:
    pairs = zip(ours, theirs, strict=True)
    return float(
        np.mean([roc_auc_score(labels[rows], a[rows]) - roc_auc_score(labels[rows], b[rows]) for a, b in pairs])
    )

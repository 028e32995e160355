"""How well scores rank, on the device where they are."""

from __future__ import annotations

import math

from torch import Tensor


def roc_auc(positive: Tensor, scores: Tensor) -> float:
    """Area under the ROC curve: how often a positive stands above a negative; a tie counts half (Mann & Whitney 1947).

    From exact ranks, in float64; NaN where a score is NaN, or all rows are of one kind.

    Args:
        positive: (rows,) bool.
        scores: (rows,), on the same device.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives or scores.isnan().any():
        return math.nan
    order = scores.argsort()
    _, group, sizes = scores[order].unique_consecutive(return_inverse=True, return_counts=True)
    ranks = sizes.cumsum(0).double() - (sizes.double() - 1) / 2  # of each group of equal scores, counted from 1
    above = ranks[group][positive[order]].sum() - positives * (positives + 1) / 2
    return float(above) / (positives * negatives)

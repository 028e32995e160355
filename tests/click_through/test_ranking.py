import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from dfa_bench.tasks.ranking import roc_auc


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=30))
def test_auc_is_scikit_learns_with_ties_and_nan_where_there_is_one_kind(rows):
    positive, scores = torch.tensor([p for p, _ in rows]), torch.tensor([float(s) for _, s in rows])
    if positive.all() or not positive.any():
        assert math.isnan(roc_auc(positive, scores))
    else:
        assert roc_auc(positive, scores) == pytest.approx(roc_auc_score(positive, scores), abs=1e-15)


def test_a_score_that_is_nan_has_no_rank():
    assert math.isnan(roc_auc(torch.tensor([True, False, True]), torch.tensor([0.1, math.nan, 0.3])))


def test_many_rows_are_counted_exactly():
    """In float32, 2^24 + 1 is 2^24: sums of ranks would be wrong."""
    scores = torch.arange(200_000, dtype=torch.float32) // 2
    positive = torch.arange(200_000) % 3 == 0
    assert roc_auc(positive, scores) == pytest.approx(roc_auc_score(positive, scores), abs=1e-14)

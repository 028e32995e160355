"""The comparison itself: what it notices, and what it lets pass."""

import math

import pytest
import torch

from tests.golden.compare import assert_same, difference


def test_a_difference_is_relative_to_the_largest_value():
    assert difference(torch.tensor([100.0, 1.1]), torch.tensor([100.0, 1.0])) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    "found, expected, by",
    [([1e-17], [-3e-15], 0), ([0.0], [0.0], 0), ([1e-3], [0.0], math.inf), ([0.0], [1e-3], 1)],
    ids=["rounding in both", "zeros", "not zero", "zero"],
)
def test_only_rounding_counts_as_zero(found, expected, by):
    assert difference(torch.tensor(found), torch.tensor(expected)) == by


@pytest.mark.parametrize(
    "found",
    [{}, {"a": torch.tensor([1.0, math.nan])}, {"a": torch.ones(2), "b": torch.ones(1)}, {"a": torch.ones(2, 1)}],
    ids=["missing", "NaN", "one more", "another shape"],
)
def test_what_is_not_the_same_is_noticed(found):
    assert_same({"a": torch.ones(2)}, {"a": torch.ones(2)})
    with pytest.raises(AssertionError):
        assert_same(found, {"a": torch.ones(2)})


def test_nothing_to_compare_is_no_agreement():
    with pytest.raises(AssertionError, match="nothing to compare"):
        assert_same({}, {})

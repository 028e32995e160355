"""Tensor by tensor: the largest difference over the largest value."""

from collections.abc import Mapping

from torch import Tensor

NOISE = 1e-13  # entries below it in both are rounding: a bias in front of a batch normalisation has gradient zero


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference of two tensors over the largest expected value; infinite if only that is zero."""
    assert found.shape == expected.shape, f"shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    both_noise = (found.abs() < NOISE) & (expected.abs() < NOISE)
    gap = (found - expected).abs().masked_fill(both_noise, 0).max()
    return 0.0 if gap == 0 else (gap / expected.abs().max()).item()


def differences(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, float]:
    """That of each tensor by name; the names must be the same, and some."""
    assert expected, "nothing to compare with"
    assert set(found) == set(expected)
    return {name: difference(found[name], expected[name]) for name in expected}


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = 1e-9) -> None:
    off = {name: by for name, by in differences(found, expected).items() if not by <= tolerance}  # NaN is off too
    assert not off

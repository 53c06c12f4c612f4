"""The Hadamard transform: equal to its matrix, its own inverse, and exact where float32 is."""

from __future__ import annotations

import numpy as np
import pytest

from fp4num import DataError, hadamard
from fp4num.hadamard import SIZES, TE_SIGNS, matrix


@pytest.mark.parametrize("size", SIZES)
def test_sylvester_matrix(size: int) -> None:
    h = matrix(size)
    np.testing.assert_array_equal(h, h.T)
    np.testing.assert_array_equal(h @ h, size * np.eye(size))
    assert h[size - 1, 1] == -1 and h[1, 1] == -1 and (h[0] == 1).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_equals_the_matrix_product_exactly_on_integers(size: int, axis: int) -> None:
    """Sums of small integers are exact in float32 in any order, so butterflies and matrix agree to the bit."""
    random = np.random.default_rng(size)
    x = random.integers(-128, 128, (2 * size, 3 * size)).astype(np.float32)
    signs = random.choice([-1, 1], size).astype(np.float32)
    moved = np.moveaxis(x, axis, -1)
    groups = moved.reshape(moved.shape[0], -1, size) * signs
    wanted = (groups @ matrix(size)) * np.float32(size**-0.5)
    wanted = np.moveaxis(wanted.reshape(moved.shape), -1, axis)
    np.testing.assert_array_equal(hadamard(x, size, axis, signs), wanted)


def test_close_to_the_matrix_product_on_floats() -> None:
    x = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
    wanted = x.reshape(64, -1, 16).astype(np.float64) * TE_SIGNS @ matrix(16).astype(np.float64) / 4
    got = hadamard(x, 16, signs=TE_SIGNS)
    bound = 4 * 2.0**-24 * np.abs(x).reshape(64, -1, 16).sum(axis=-1, keepdims=True)
    assert (np.abs(got.reshape(wanted.shape) - wanted) <= bound).all()


@pytest.mark.parametrize("size", [16, 64])
def test_twice_is_the_identity(size: int) -> None:
    x = np.random.default_rng(1).integers(-99, 99, (4, size)).astype(np.float32)
    np.testing.assert_array_equal(hadamard(hadamard(x, size), size), x)


def test_named_errors() -> None:
    with pytest.raises(DataError, match="has a size of 2, 4, 8"):
        hadamard(np.zeros((4, 24), np.float32), 24)
    with pytest.raises(DataError, match="does not divide the axis of 24"):
        hadamard(np.zeros((4, 24), np.float32), 16)
    with pytest.raises(DataError, match=r"shape \(16,\), not \(8,\)"):
        hadamard(np.zeros((4, 32), np.float32), 16, signs=np.ones(8))

"""Fast sums (docs/numerics.md): what the reference allows them, and inputs whose fast sums are exact."""

from __future__ import annotations

import numpy as np
import pytest

from fp4rt.reference.products import FAST_EXACT, FAST_LOSS, FAST_STEP, Terms, fast_exact

KEPT = 13  # bits below the leading one, measured on an H100


def summed(left: np.ndarray, right: np.ndarray) -> float:
    """A row's sum as the tensor core makes it: 33 terms aligned to the largest, cut toward zero; f32 every 128."""
    total = 0.0
    for first in range(0, left.size, FAST_STEP):
        partial = 0.0
        for k in range(first, min(first + FAST_STEP, left.size), 32):
            terms = np.append(left[k : k + 32] * right[k : k + 32], partial)
            unit = 2.0 ** (np.frexp(np.abs(terms).max())[1] - 1 - KEPT)
            partial = float(np.trunc(terms / unit).sum() * unit)
            lead = 2.0 ** (np.frexp(abs(partial))[1] - 1 - KEPT)
            partial = float(np.trunc(partial / lead) * lead)
        total = float(np.float32(total + partial))
    return total


@pytest.mark.parametrize("kind", ["normal", "positive", "wide"])
@pytest.mark.parametrize("depth", [32, 128, 200, 1024])
def test_within_the_bound(kind: str, depth: int) -> None:
    rng = np.random.default_rng(depth)
    for _ in range(20):
        left, right = rng.standard_normal((2, depth))
        if kind == "positive":
            left, right = np.abs(left), np.abs(right)
        if kind == "wide":
            left = np.ldexp(left, rng.integers(-8, 9, depth))
        left, right = (np.round(x * 64) / 64 for x in (left, right))
        room = (FAST_LOSS + depth * 2.0**-23) * (np.abs(left) @ np.abs(right))
        assert abs(summed(left, right) - left @ right) <= room


def test_exact_where_it_says_so() -> None:
    rng = np.random.default_rng(1)
    seen = {True: 0, False: 0}
    for bound in (3, 7, 8, 9, 12, 15):
        for _ in range(20):
            left, right = rng.integers(-bound, bound + 1, (2, 384)).astype(np.float64)
            (says,) = fast_exact([Terms(left[None], right[:, None])]).ravel()
            seen[bool(says)] += 1
            if says:
                assert summed(left, right) == left @ right
    assert min(seen.values()) > 0


def test_a_lost_bit_is_not_called_exact() -> None:
    left, right = np.zeros((1, 128)), np.ones((128, 1))
    left[0, :2] = FAST_EXACT, 1.0
    assert not fast_exact([Terms(left, right)]).any()
    left[0, 1], left[0, 0] = 0.0, FAST_EXACT
    assert fast_exact([Terms(left, right)]).all()

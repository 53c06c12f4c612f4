"""The functions against mpmath, and the arithmetic they are written in against exact rational numbers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from fp4num import f32, functions

mpmath.mp.prec = 100

TRUTH: dict[str, Callable[[Any], Any]] = {
    "exp": mpmath.exp,
    "log": mpmath.log,
    "rsqrt": lambda x: 1 / mpmath.sqrt(x),
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "tanh": mpmath.tanh,
    "erf": mpmath.erf,
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x / (1 + mpmath.exp(-2 * mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))),
}

CASES = [
    ("exp", -103.0, 88.7, 1.1),
    ("exp", -1.0, 1.0, 1.1),
    ("log", 1e-45, 1e-37, 1.0),
    ("log", 0.5, 2.0, 1.0),
    ("log", 2.0, 1e38, 1.0),
    ("rsqrt", 1e-40, 1e-30, 1.5),
    ("rsqrt", 0.25, 4.0, 1.5),
    ("sigmoid", -103.0, 30.0, 2.5),
    ("sigmoid", -4.0, 4.0, 2.5),
    ("silu", -111.0, 40.0, 3.0),
    ("silu", -110.0, -87.0, 3.0),
    ("silu", -4.0, 4.0, 3.0),
    ("tanh", -1.0, 1.0, 2.5),
    ("tanh", -11.0, 11.0, 2.5),
    ("erf", -1.1, 1.1, 1.5),
    ("erf", -6.0, 6.0, 1.5),
    ("gelu", -1.0, 1.0, 4.5),
    ("gelu", -6.0, 8.0, 4.5),
    ("gelu_tanh", -1.0, 8.0, 3.0),
    ("gelu_tanh", -11.0, -1.0, 200.0),
]


def ulps(name: str, x: NDArray[np.float32]) -> float:
    """The largest error over x, in units of the last place of the true value."""
    got = getattr(functions, name)(x).astype(np.float64)
    worst = 0.0
    for point, value in zip(x.tolist(), got.tolist(), strict=True):
        true = TRUTH[name](mpmath.mpf(point))
        magnitude = abs(float(true))
        unit = 2.0**-149 if magnitude < 2.0**-126 else 2.0 ** (np.floor(np.log2(magnitude)) - 23)
        worst = max(worst, float(abs(mpmath.mpf(value) - true)) / unit)
    return worst


@pytest.mark.parametrize(("name", "low", "high", "bound"), CASES)
def test_error_is_within_the_stated_ulp(name: str, low: float, high: float, bound: float) -> None:
    rng = np.random.default_rng(7)
    even = rng.uniform(low, high, 1500)
    top = float(np.log2(max(abs(low), abs(high))))
    small = rng.choice([-1.0, 1.0], 1500) * 2.0 ** rng.uniform(top - 40, top, 1500)
    x = np.concatenate([even, small]).astype(np.float32)
    x = x[(x >= np.float32(low)) & (x <= np.float32(high)) & (x != 0)]
    assert ulps(name, x) <= bound


@pytest.mark.parametrize("name", sorted(TRUTH))
def test_nan_stays_nan(name: str) -> None:
    assert np.isnan(getattr(functions, name)(np.float32("nan")))


def test_limits() -> None:
    infinity = np.float32("inf")
    assert functions.exp(infinity) == infinity
    assert functions.exp(-infinity) == 0
    assert functions.log(infinity) == infinity
    assert functions.log(0.0) == -infinity
    assert np.isnan(functions.log(-1.0))
    assert functions.tanh(infinity) == 1
    assert functions.tanh(-infinity) == -1
    assert np.signbit(functions.tanh(-0.0))
    assert functions.sigmoid(infinity) == 1
    assert functions.sigmoid(-infinity) == 0
    assert functions.erf(infinity) == 1
    assert functions.erf(-infinity) == -1
    assert functions.gelu(infinity) == infinity
    assert functions.gelu(-100.0) == 0
    assert functions.silu(-infinity) == 0
    assert functions.gelu_tanh(-infinity) == 0
    assert functions.rsqrt(0.0) == infinity


def test_fma_rounds_once() -> None:
    rng = np.random.default_rng(3)
    words = rng.integers(0, 2**32, (3, 4000), dtype=np.uint32)
    # Addends that nearly cancel the product or lie at its last place are where a second rounding would show.
    a, b, c = (w.view(np.float32) for w in words)
    a, b, c = (v[np.isfinite(v)][:3500] for v in (a, b, c))
    size = min(map(len, (a, b, c)))
    a, b, c = a[:size], b[:size], c[:size]
    product = a.astype(np.float64) * b
    near = f32.f32(-product * (1 + rng.choice([-1, 0, 1], size) * 2.0**-24))
    far = f32.f32(product * 2.0**-24)
    for addend in (c, near, far):
        got = f32.fma(a, b, addend)
        for x, y, z, r in zip(a, b, addend, got, strict=True):
            if not (np.isfinite(z) and np.isfinite(r)):
                continue
            exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
            below, above = np.nextafter(r, np.float32("-inf")), np.nextafter(r, np.float32("inf"))
            distance = abs(Fraction(float(r)) - exact)
            for other in (below, above):
                if np.isfinite(other):
                    gap = abs(Fraction(float(other)) - exact)
                    assert distance < gap or (distance == gap and (r.view(np.int32) & 1) == 0)


def test_min_and_max_drop_nan_and_order_zeros() -> None:
    nan = np.float32("nan")
    assert f32.minimum(nan, 1.0) == 1
    assert f32.maximum(1.0, nan) == 1
    assert np.signbit(f32.minimum(0.0, -0.0))
    assert not np.signbit(f32.maximum(-0.0, 0.0))
    assert np.isnan(f32.at_most(nan, 1.0))
    assert np.isnan(f32.at_least(nan, -1.0))

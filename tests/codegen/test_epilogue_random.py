"""Stochastic rounding and random numbers: by logical index, so the same in every schedule."""

from __future__ import annotations

import numpy as np
import pytest

from .pipeline import Built, build, run

SPEC = """
kernel k(L, M, N, K) {
    in x : nvfp4[L, M, K]; in w : nvfp4[L, N, K]; in b : f32[N]; in rng : u64[2]; in ts : f32[]
    param p : f32 = 0.25
    out y : f32[L, M, N]; out q : nvfp4[L, M, N]; out q8 : mxfp8_e5m2[L, M, N]; out qt : nvfp4[L, N, M]
    out q6 : mxfp6[L, N, M]; out q9 : mxfp8[L, N, M]; out q5 : mxfp6_e2m3[L, M, N]
    h = tanh(x @ w.T + b)
    y = where(uniform(rng, stream = 1) >= p, h / (1 - p), 0)
    q = quantize(h, tensor_scale = ts, rounding = stochastic(rng, stream = 0))
    q8 = quantize(h, rounding = stochastic(rng, stream = 2))
    qt = quantize(h.T, tensor_scale = ts, rounding = stochastic(rng, stream = 3))
    q6 = quantize(h.T, rounding = stochastic(rng, stream = 65535))
    q9 = quantize(h.T, rounding = stochastic(rng, stream = 5))
    q5 = quantize(h, rounding = stochastic(rng, stream = 6))
}
schedule k on sm_100a { tile 128 x 64 x 256 }
"""


@pytest.fixture(scope="module")
def rounded() -> Built:
    return build(SPEC)


@pytest.mark.parametrize("dims", [(1, 128, 128, 64), (3, 96, 96, 32)])
def test_stochastic_rounding(rounded: Built, dims: tuple[int, int, int, int]) -> None:
    sizes = dict(zip(("L", "M", "N", "K"), dims, strict=True))
    for state in ([0, 0], [2**64 - 1, 2**63 + 5]):
        for comparison in run(rounded, sizes, rng=np.array(state, np.uint64)):
            assert comparison.equal, str(comparison)


def test_random_numbers_of_rows_that_are_not_aligned() -> None:
    built = build("""
kernel k(M, N, K) {
    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in rng : u64[2]
    out y : f32[M, N]; out z : f32[M, N]
    y = uniform(rng, stream = 1) + 0 * (x @ w.T)
    z = uniform(rng, stream = 2) - uniform(rng, stream = 1) + 0 * (x @ w.T)
}
""")
    for columns in (1, 30, 67, 129):
        for comparison in run(built, {"M": 37, "N": columns, "K": 32}):
            assert comparison.equal, f"{columns}: {comparison}"

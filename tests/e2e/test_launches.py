"""Outputs with one scale for a row, a column or a matrix: two launches, the second after every plan of the first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Check = Callable[..., None]

FORMATS = """
format whole { element e5m2; scale f32 per all x all; layout linear; quantizer absmax }
format powers { element e2m1 pack low_first; scale e8m0 per 1 x all; layout linear; quantizer mx_floor }
"""
PRODUCT = (
    FORMATS
    + """
kernel tokens(L, M, N, K) {
    in a : nvfp4[L, M, K]; in b : nvfp4[N, K]; in rng : u64[2]; in bias : f32[N]
    out y : bf16[L, M, N]; out top : f32[L, M]; out total : f32[L]
    out p : fp8_token[L, M, N]; out pt : fp8_token[L, N, M]; out q : whole[L, M, N]; out r : powers[L, M, N]
    h = a @ b.T + bias
    y = h
    p = quantize(bf16(h))
    pt = quantize(h.T, rounding = stochastic(rng, stream = 3))
    q = quantize(h)
    r = quantize(h)
    top = max(h, over = N)
    total = sum(h, over = (M, N))
}
"""
)
ELEMENTS = (
    FORMATS
    + """
kernel elements(L, M, N) {
    in x : bf16[L, M, N]; in s : f32[L, M]
    inout z : f32[L, M, N]
    out p : fp8_token[L, M, N]; out pt : fp8_token[L, N, M]; out q : whole[L, N, M]; out r : powers[L, N, M]
    out total : f32[L, M]
    h = silu(x) * s + z
    z = h
    p = quantize(h)
    pt = quantize(h.T)
    q = quantize(h.T)
    r = quantize(h.T)
    total = sum(h, over = N)
}
"""
)


@pytest.mark.parametrize(
    "fields",
    [pytest.param("tile 128 x 128 x 256; cluster 1 x 1", marks=pytest.mark.slow), "tile 256 x 64 x 256; cluster 2 x 2"],
)
def test_a_product(check: Check, fields: str) -> None:
    """Random numbers by logical index: rows of odd length start anywhere in a group of them."""
    text = PRODUCT + f"schedule tokens on sm_100a {{ {fields} }}\n"
    check(text, L=2, M=131, N=72, K=64, sms=4)
    check(text, L=1, M=260, N=66, K=32, mode="delayed", seed=1)


def test_a_second_launch_after_each_variant(check: Check) -> None:
    text = PRODUCT + (
        "schedule tokens on sm_100a when M <= 64 { tile 128 x 64 x 256 }\n"
        "schedule tokens on sm_100a { tile 128 x 256 x 256 }\n"
    )
    check(text, L=1, M=8, N=66, K=32)
    check(text, L=1, M=65, N=66, K=32)


@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_no_product(check: Check, target: str) -> None:
    check(ELEMENTS, target, L=2, M=66, N=72, sms=2)
    check(ELEMENTS, target, L=1, M=2, N=204)


def test_a_product_on_hopper(check: Check) -> None:
    check(PRODUCT, "sm_90a", L=1, M=130, N=72, K=64)


@pytest.mark.parametrize("m", [1, 130])
def test_numbers_that_are_none(compiler: object, m: int) -> None:
    """Rows of NaN only, infinities, zeros: amax leaves NaN out, the exponent rules do not."""
    text = FORMATS + (
        "kernel k(M, N) { in x : f32[M, N]; out p : fp8_token[M, N]; out q : whole[M, N]; out r : powers[M, N]\n"
        "p = quantize(x); q = quantize(x); r = quantize(x) }\n"
    )
    artifact = compiler.artifact(text)  # type: ignore[attr-defined]
    rng = np.random.default_rng(3)
    x = rng.standard_normal((m, 40)).astype(np.float32)
    x[0] = np.nan
    x[m // 2, 3] = np.nan
    x[m // 3, 5] = -np.inf
    x[-1] = 0 if m > 1 else x[-1]
    found, expected = (artifact.load_kernel(device)(x=x) for device in ("emulator", "reference"))
    for name in ("p", "q", "r"):
        assert np.array_equal(found[name].codes, expected[name].codes)
        assert np.array_equal(found[name].scales.view(np.uint8), expected[name].scales.view(np.uint8))


#: Two accumulators on sm_90a have tiles of 64 columns.
WIDE = """
kernel wide(L, M, N, K) {
    in x : mxfp4[L, M, K]; in w : mxfp4[N, K]; in v : mxfp8[N, K]; in rng : u64[2]; in amax : f32[]; in r : f32[N]
    inout z : bf16[L, M, N]; out y : bf16[L, M, N]; out p : ds_act[L, M, N]; out pt : ds_weight[L, N, M]
    out q : nvfp4[L, M, N]; out top : f32[L, M]; out t : f32[L, N, M]
    h = bf16(silu(x @ w.T) * (x @ v.T)) + 0.5 * z
    z = h
    y = h
    p = quantize(h)
    pt = quantize(h.T, rounding = stochastic(rng, stream = 1))
    s = hadamard(h, over = N, size = 128) * r
    q = quantize(bf16(s), amax = amax)
    top = max(abs(s), over = N)
    t = s.T
}
"""
#: Halves of a tile of 128 columns.
GATED = """
kernel gated(M, N, K, F = N / 2) {
    in x : ds_act[M, K]; in w : ds_weight[N, K]; in amax : f32[]
    out y : ds_act[M, F]; out q : nvfp4[M, F]; out total : f32[F]
    g, u = unzip(x @ w.T, N -> F, group = 16)
    h = swiglu(g, u)
    y = quantize(h)
    q = quantize(h, amax = amax)
    total = sum(h, over = M)
}
"""


def test_what_is_wider_than_a_tile(check: Check) -> None:
    """What the second launch needs is left once; what is as narrow as tiles is stored by the first."""
    check(WIDE, "sm_90a", L=1, M=128, N=256, K=96, sms=2)


@pytest.mark.parametrize("target", [pytest.param("sm_100a", marks=pytest.mark.slow), "sm_90a"])
def test_halves_narrower_than_blocks(check: Check, target: str) -> None:
    check(GATED, target, M=140, N=512, K=256)

"""Quantized outputs on the emulator against the reference: codes, scales and padding, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from fp4cc.codegen.emit import emit
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source

from .pipeline import Built, build, run

LAYOUTS = """
layout odd { coords row : 6, k : 3; atom ((2, 3), 3) : ((9, 3), 1); order row, k, batch; pad 7 }
layout across { coords batch : 2, row : 4; atom (2, 4) : (1, 2); order batch, k, row; pad 3 }
format mx8      { element e4m3; scale e8m0 per 1 x 32; layout linear; quantizer mx_rceil }
format ct       extends nvfp4 { layout blocked_8x4; tensor_scale f32 divides; quantizer nvfp4_ct }
format odd5     { element e5m2; scale e8m0 per 1 x 32; layout odd; quantizer mx_even }
format floats   { element e4m3; scale f32 per 1 x 32; layout blocked_128x4; quantizer absmax }
format modelopt extends nvfp4 { quantizer nvfp4_modelopt }
format torchao  extends modelopt { layout across; quantizer nvfp4_torchao }
format tall     extends nvfp4 { scale e4m3 per 16 x 16 }
"""

PRELUDE = """
kernel k(M, N, K) {
    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in ts : f32[]; in amax : f32[]
    out q : nvfp4[M, N]; out q8 : mxfp8[M, N]; out q6 : mxfp6[M, N]; out q4 : mxfp4[M, N]
    out qt : nvfp4[N, M]; out qt6 : mxfp6_e2m3[N, M]
    h = silu(x @ w.T)
    q = quantize(h, tensor_scale = ts)
    q8 = quantize(h)
    q6 = quantize(h)
    q4 = quantize(h * 2)
    qt = quantize(h.T, amax = amax)
    qt6 = quantize(h.T)
}
schedule k on sm_100a { tile 128 x 64 x 256 }
"""

USERS = (
    LAYOUTS
    + """
kernel k(L, M, N, K) {
    in x : mxfp4[L, M, K]; in w : mxfp8[L, N, K]; in ts : f32[]
    out a : mx8[L, M, N]; out b : ct[L, M, N]; out c : odd5[L, N, M]; out d : floats[L, M, N]
    out e : nvfp4_2d[L, M, N]; out f : modelopt[L, N, M]; out g : torchao[L, M, N]; out i : tall[L, N, M]
    h = x @ w.T
    a = quantize(h)
    b = quantize(h, tensor_scale = ts * 2)
    c = quantize(h.T)
    d = quantize(h)
    e = quantize(h, tensor_scale = ts)
    f = quantize(h.T, amax = ts)
    g = quantize(h, tensor_scale = ts)
    i = quantize(h.T, tensor_scale = ts)
}
"""
)


@pytest.fixture(scope="module")
def prelude() -> Built:
    return build(PRELUDE)


@pytest.fixture(scope="module")
def users() -> Built:
    return build(USERS)


@pytest.mark.parametrize("dims", [(32, 32, 32), (160, 96, 64), (288, 544, 64)])
def test_formats_of_the_prelude(prelude: Built, dims: tuple[int, int, int]) -> None:
    for comparison in run(prelude, dict(zip(("M", "N", "K"), dims, strict=True))):
        assert comparison.equal, str(comparison)


@pytest.mark.parametrize("dims", [(1, 32, 96, 128), (3, 96, 160, 128)])
def test_formats_of_users(users: Built, dims: tuple[int, int, int, int]) -> None:
    for comparison in run(users, dict(zip(("L", "M", "N", "K"), dims, strict=True))):
        assert comparison.equal, str(comparison)


@pytest.mark.parametrize("scale", [0.0, float("inf"), float("nan"), 1e-40])
def test_degenerate_tensor_scales(prelude: Built, scale: float) -> None:
    given = np.array(scale, np.float32)
    for comparison in run(prelude, {"M": 32, "N": 64, "K": 32}, ts=given, amax=given):
        assert comparison.equal, str(comparison)


def test_blocks_with_special_values() -> None:
    built = build("""
kernel k(M, N, K) {
    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in r : f32[M, N]; in ts : f32[]
    out q : nvfp4[M, N]; out q8 : mxfp8_e5m2[M, N]; out q4 : mxfp4[N, M]
    h = r + 0 * (x @ w.T)
    q = quantize(h, tensor_scale = ts)
    q8 = quantize(h)
    q4 = quantize(h.T)
}
""")
    rng = np.random.default_rng(4)
    r = rng.integers(0, 2**32, (64, 64), dtype=np.uint32).view(np.float32)
    r[:8] = rng.choice(np.array([0, -0.0, np.nan, np.inf, -np.inf, 1, 1e-45, 3e38], np.float32), (8, 64))
    r[8:16] = 0
    for comparison in run(built, {"M": 64, "N": 64, "K": 32}, r=r, ts=np.array(0.75, np.float32)):
        assert comparison.equal, str(comparison)


@pytest.mark.parametrize(
    ("fmt", "pairs"),
    [
        ("nvfp4", True),
        ("ct", True),
        ("tall", False),
        ("torchao", False),
        ("mxfp4", False),
        ("odd5", False),
        ("floats", False),
    ],
)
def test_scales_of_a_byte_are_stored_by_twos_where_the_layout_keeps_them_together(fmt: str, pairs: bool) -> None:
    amax = "" if fmt in ("mxfp4", "odd5", "floats") else ", amax = top"
    text = f"kernel k(M, N) {{ in x : bf16[M, N]; in top : f32[]; out q : {fmt}[M, N]; q = quantize(x{amax}) }}"
    source = Source("k.fp4", LAYOUTS + text)
    emitted = emit(lower(analyze(source, None).raise_errors().kernels[0], "sm_90a"))
    body = emitted[emitted.index("def store_q_scales") :].partition("\n\n\n")[0]
    assert ('store_word("b16"' in body) == pairs

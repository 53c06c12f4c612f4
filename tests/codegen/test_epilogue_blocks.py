"""Outputs quantized in blocks larger than a thread's line, with scales that are given, and by rules that try two.

Codes, scale bytes and padding on the emulator against the reference, for one CTA and for pairs.
"""

from __future__ import annotations

import numpy as np
import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.passes import lower

from .pipeline import build, parse, run

ONE, PAIR = "tile 128 x 128 x 256", "tile 256 x 256 x 256; cluster 2 x 1"
#: One of them among the slow tests.
PAIR_FIRST = [pytest.param(ONE, marks=pytest.mark.slow), PAIR]

FORMATS = """
format wide     { element e4m3; scale f32 per 1 x 64; layout linear; quantizer absmax }
format widest   { element e5m2; scale e8m0 per 1 x 256; layout linear; quantizer mx_floor }
format repeated { element e4m3; scale e8m0 per 1 x 128 stored 1 x 32; layout blocked_128x4; quantizer mx_rceil }
format halved   extends nvfp4 { scale e4m3 per 1 x 32 stored 1 x 16 }
format square   { element e4m3; scale f32 per 64 x 64; layout linear; quantizer absmax }
format low      extends nvfp4 { scale e4m3 per 4 x 64 }
format tall     { element e5m2; scale e8m0 per 128 x 32; layout blocked_8x4; quantizer mx_even }
"""
BLOCKS = """
kernel blocks(L, M, N, K) {
    in a : nvfp4[L, M, K]; in b : nvfp4[N, K]; in ts : f32[]
    %s
    h = a @ b.T
    %s
}
schedule blocks on sm_100a { %s }
"""
NAMES = ("wide", "widest", "repeated", "halved", "square", "low", "tall", "ds_act", "ds_weight")


def blocks(names: tuple[str, ...], *, transposed: bool, tile: str) -> str:
    """A kernel with an output of each of these formats."""
    axes, value = ("L, N, M", "h.T") if transposed else ("L, M, N", "h")
    outputs = "; ".join(f"out o_{name} : {name}[{axes}]" for name in names)
    given = {"halved": ", tensor_scale = ts", "low": ", tensor_scale = ts"}
    stores = "\n    ".join(f"o_{name} = quantize({value}{given.get(name, '')})" for name in names)
    return FORMATS + BLOCKS % (outputs, stores, tile)


@pytest.mark.parametrize("tile", PAIR_FIRST)
def test_blocks_of_every_shape(tile: str) -> None:
    """Blocks of 256 columns fit in tiles of 256 only."""
    names = NAMES if "256 x 256 x" in tile else tuple(name for name in NAMES if name != "widest")
    built = build(blocks(names, transposed=False, tile=tile))
    for m, n in ((130, 256), (300, 512)):
        for comparison in run(built, {"L": 1 if m == 300 else 2, "M": m, "N": n, "K": 64}):
            assert comparison.equal, str(comparison)


@pytest.mark.slow
@pytest.mark.parametrize("tile", [ONE, PAIR])
def test_blocks_of_every_shape_along_the_rows(tile: str) -> None:
    """The columns of a block lie along M: up to the 128 rows of a CTA."""
    built = build(blocks(tuple(n for n in NAMES if n != "widest"), transposed=True, tile=tile))
    for m, n in ((128, 130), (384, 300)):
        for comparison in run(built, {"L": 1 if m == 384 else 2, "M": m, "N": n, "K": 64}):
            assert comparison.equal, str(comparison)


RULES = """
format mse      extends nvfp4 { quantizer nvfp4_4over6_mse }
format mae_256  extends nvfp4 { quantizer nvfp4_4over6_mae_256 }
format tiles    extends nvfp4 { scale e4m3 per 16 x 16 stored 1 x 16; quantizer nvfp4_4over6_mae }
format encoded  extends nvfp4 { tensor_scale f32 divides; quantizer nvfp4_4over6_mse_256 }
kernel rules(M, N, K) {
    in a : nvfp4[M, K]; in b : nvfp4[N, K]; in ts : f32[]; in amax : f32[]; in x : f32[M, N]
    out p : mse[M, N]; out pt : mae_256[N, M]; out q : tiles[M, N]; out qt : encoded[N, M]; out r : mse[M, N]
    out fake : f32[M, N]
    h = x + silu(a @ b.T)
    p = quantize(h, amax = amax)
    pt = quantize(h.T, amax = amax)
    q = quantize(h, tensor_scale = ts)
    qt = quantize(h.T, tensor_scale = ts)
    r = quantize(h, tensor_scale = ts)
    fake = dequantize(quantize(h, amax = amax, format = mae_256))
}
schedule rules on sm_100a { %s }
"""


@pytest.mark.slow
@pytest.mark.parametrize("tile", [ONE, PAIR])
def test_four_over_six(tile: str) -> None:
    built = build(RULES % tile)
    rng = np.random.default_rng(7)
    for m, n in ((128, 16), (144, 272)):
        x = rng.standard_normal((m, n)).astype(np.float32)
        x[:16] = 0
        x[16, :16] = [np.nan, np.inf, -np.inf, 0, -0.0, 1e-45, 3e38, 6, 4, 3, -6, -4, 448, 5, 1, 2]
        for comparison in run(built, {"M": m, "N": n, "K": 64}, x=x, amax=np.array(6, np.float32)):
            assert comparison.equal, str(comparison)


GIVEN = """
format whole { element e5m2; scale f32 per all x all; layout linear; quantizer absmax }
kernel given(L, M, N, K) {
    in a : nvfp4[L, M, K]; in b : nvfp4[N, K]; in r : f32[L, M]; in c : f32[N]; in s : f32[]; in rng : u64[2]
    out p : fp8_token[L, M, N]; out pt : fp8_token[L, N, M]; out q : whole[L, M, N]; out qt : fp8_token[L, N, M]
    h = a @ b.T
    p = quantize(h, scale = 2 * r)
    pt = quantize(h.T, scale = abs(s), rounding = stochastic(rng, stream = 3))
    q = quantize(h, scale = s)
    qt = quantize((h + c).T, scale = s)
}
kernel columns(M, N, K) {
    in a : nvfp4[M, K]; in b : nvfp4[N, K]; in c : f32[N]
    out q : fp8_token[N, M]
    q = quantize((a @ b.T).T, scale = abs(c) + 1)
}
schedule given on sm_100a { %s }
schedule columns on sm_100a { %s }
"""


@pytest.mark.parametrize(
    ("kernel", "tile"),
    [
        ("given", ONE),
        ("columns", PAIR),
        pytest.param("given", PAIR, marks=pytest.mark.slow),
        pytest.param("columns", ONE, marks=pytest.mark.slow),
    ],
)
def test_scales_that_are_given(kernel: str, tile: str) -> None:
    built = build(parse(GIVEN % (tile, tile), kernel))
    for m, n in ((64, 48), (272, 304)):
        for comparison in run(built, {"M": m, "N": n, "K": 64, **({"L": 2} if kernel == "given" else {})}):
            assert comparison.equal, str(comparison)


def test_a_block_that_fits_no_panel_is_refused() -> None:
    odd = "format odd { element e4m3; scale f32 per 1 x 96; layout linear; quantizer absmax }\n"
    text = odd + "kernel k(M, N) { in x : f32[M, N]; out q : odd[M, N]; q = quantize(x) }"
    with pytest.raises(DiagnosticError, match="FP4025"):
        lower(parse(text), "sm_100a")

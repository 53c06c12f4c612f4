"""Quantizers whose rows lanes share, on the emulator against the reference: at edges of tiles, rows and 16 bytes."""

from __future__ import annotations

import pytest

from fp4rt.devices.emulator import EmulatorDevice

from .pipeline import build, run

#: Two inputs of two types, a batch, a tensor scale, stochastic bits and a transform; blocks of 16 and 32.
SPEC = """
kernel k(L, M, N) {
    in x : bf16[L, M, N]; in g : e4m3[L, M, N]; in top : f32[]; in rng : u64[2]; in s : f32[16]
    param gain : f32 = 1.5
    out a : nvfp4[L, M, N]
    out b : mxfp8[L, M, N]
    out c : mxfp4[L, M, N]
    a = quantize(hadamard(x, over = N, size = 16, signs = s), amax = top)
    b = quantize(gelu(x) * g + gain)
    c = quantize(x - g, rounding = stochastic(rng, stream = 3))
}
"""
#: Rows of 16 columns: codes of nvfp4 start on 8 bytes, and each row of g has 16.
NARROW = """
kernel k(M, N) {
    in x : f16[M, N]; in g : e4m3[M, N]; in top : f32[]
    out a : nvfp4[M, N]
    a = quantize(x + g, amax = top)
}
"""
#: Blocks of one row and 32, 16 or 8 columns, in plain layouts.
FORMATS = """
format small { element e2m1 pack low_first; scale e8m0 per 1 x 8; layout linear; quantizer mx_rceil }
format eights { element e5m2; scale e8m0 per 1 x 16; layout linear; quantizer mx_rceil }
kernel k(M, N) {
    in x : bf16[M, N]
    out a : eights[M, N]; out b : small[M, N]
    a = quantize(x); b = quantize(x)
}
"""


def test_edges_of_tiles() -> None:
    built = build(SPEC, "sm_90a")
    assert built.lowered.epilogue.by_lanes
    for batches, rows, columns in ((2, 130, 160), (1, 1, 32), (3, 7, 288)):
        for comparison in run(built, {"L": batches, "M": rows, "N": columns}, seed=rows):
            assert comparison.equal, str(comparison)


def test_rows_that_start_anywhere() -> None:
    built = build(NARROW, "sm_90a")
    for rows, columns in ((129, 16), (3, 144), (5, 48), (33, 64)):
        for comparison in run(built, {"M": rows, "N": columns}, seed=columns):
            assert comparison.equal, str(comparison)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_90a", "sm_100a"])
def test_other_formats_and_both_targets(target: str) -> None:
    """And no order of the threads matters."""
    for text in (SPEC, NARROW, FORMATS):
        built = build(text, target)
        assert built.lowered.epilogue.by_lanes
        for rows, columns in ((40, 32), (129, 96), (257, 160), (2, 416)):
            dims = {"L": 2, "M": rows, "N": columns} if text == SPEC else {"M": rows, "N": columns}
            for seed in range(2):
                for comparison in run(built, dims, seed, EmulatorDevice(mode="delayed", seed=seed)):
                    assert comparison.equal, str(comparison)

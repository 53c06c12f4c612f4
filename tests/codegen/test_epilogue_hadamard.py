"""Hadamard transforms: in a GEMM's epilogue and in kernels without a product."""

from __future__ import annotations

import numpy as np
import pytest

from .pipeline import build, run

GEMM = """
kernel transformed(M, N, K) {
    in a : nvfp4[M, K]
    in b : nvfp4[N, K]
    in signs : f32[16]
    in amax : f32[]
    out y : f32[M, N]
    out q : nvfp4[M, N]
    out qt : nvfp4[N, M]
    h = a @ b.T
    y = hadamard(h, over = N, size = 32)
    q = quantize(bf16(hadamard(2 * h, over = N, size = 16, signs = signs)), amax = amax)
    qt = quantize(bf16(hadamard(h.T, over = M, size = 16, signs = signs)), amax = amax)
}
"""
POINTS = """
kernel points(M, N) {{
    in x : f32[M, N]
    out y : f32[M, N]
    y = hadamard(x, over = {axis}, size = {size})
}}
"""


def test_transforms_the_product() -> None:
    built = build(GEMM)
    for m, n in ((16, 32), (144, 160)):
        assert all(c.equal for c in run(built, {"M": m, "N": n, "K": 64}))


#: tests/e2e/test_constructs.py has the same numbers of points along the other axes.
HERE = {(16, "M"), (32, "N"), (64, "M"), (128, "N")}


@pytest.mark.parametrize(
    ("size", "axis"),
    [
        pytest.param(size, axis, marks=[] if (size, axis) in HERE else [pytest.mark.slow])
        for size in (16, 32, 64, 128)
        for axis in ("M", "N")
    ],
)
def test_is_its_definition(size: int, axis: str) -> None:
    built = build(POINTS.format(axis=axis, size=size))
    x = np.random.default_rng(0).integers(-8, 8, (128, 256)).astype(np.float32)
    y = built.artifact.load_kernel("emulator")(x=x)["y"]
    h = np.ones((1, 1))
    while len(h) < size:
        h = np.block([[h, h], [h, -h]])
    runs = x.reshape(128, -1, size) if axis == "N" else x.T.reshape(256, -1, size)
    expected = ((runs @ h).astype(np.float32) * np.float32(size**-0.5)).reshape(128 if axis == "N" else 256, -1)
    assert np.array_equal(y, expected if axis == "N" else expected.T)


MANY = {
    "both axes": """
    out y : f32[M, N]; out z : bf16[M, N]
    y = hadamard(h, over = N, size = 128, signs = t)
    z = hadamard(2 * h, over = M, size = 64, signs = s)
""",
    "one after the other, and quantized": """
    out q : nvfp4[M, N]; out qt : nvfp4[N, M]; out r : ds_act[M, N]
    g = bf16(hadamard(h, over = N, size = 64, signs = s))
    q = quantize(g, amax = amax)
    qt = quantize(hadamard(g.T, over = M, size = 128), amax = amax)
    r = quantize(h)
""",
}


@pytest.mark.parametrize(
    "tile", [pytest.param("128 x 128 x 256", marks=pytest.mark.slow), "256 x 256 x 256; cluster 2 x 1"]
)
@pytest.mark.parametrize("body", MANY.values(), ids=MANY.keys())
def test_more_points_than_a_thread_has(body: str, tile: str) -> None:
    built = build(
        "kernel k(M, N, K) {\n"
        "    in a : nvfp4[M, K]; in b : nvfp4[N, K]; in s : f32[64]; in t : f32[128]; in amax : f32[]\n"
        f"    h = a @ b.T{body}}}\nschedule k on sm_100a {{ tile {tile} }}\n"
    )
    for m, n in ((128, 128), (256, 384)):
        assert all(c.equal for c in run(built, {"M": m, "N": n, "K": 64}))

"""Gated activations: the columns of products, inputs and random numbers unzipped into two halves."""

from __future__ import annotations

from typing import Any

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.passes import lower

from .pipeline import build, parse, run

SWIGLU = """
kernel swiglu_up(M, N, K, F = N / 2) {
    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in b : f32[F]; in r : bf16[M, F]; in ts : f32[]; in rows : f32[M]
    out y : bf16[M, F]; out q : nvfp4[M, F]; out qt : mxfp8[F, M]
    g, u = unzip(rows * (x @ w.T), N -> F, group = GROUP)
    h = silu(g) * u + b
    y = h + r
    q = quantize(h, tensor_scale = ts)
    qt = quantize(h.T)
}
"""
INPUTS = """
kernel up(M, N, K, F = N / 2) {
    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in b : bf16[N]; in s : f32[N]; in r : bf16[M, N]; in t : f32[N, M]
    in rng : u64[2]; in ts : f32[]; out y : f32[M, F]; out q : nvfp4[F, M]; out top : f32[M]
    h = (x @ w.T * s + b + r) * t.T
    keep = uniform(rng, stream = 1, like = h) >= 0.25
    g, u = unzip(where(keep, h / 0.75, 0), N -> F, group = GROUP)
    v = swiglu(g, u)
    y = v
    q = quantize(v.T, tensor_scale = ts)
    top = max(abs(v), over = F)
}
"""
ELEMENTWISE = """
kernel up(L, M, N, F = N / 2) {
    in x : bf16[L, M, N]; in b : f32[N]; in rng : u64[2]; in ts : f32[]
    out y : bf16[L, M, F]; out q : nvfp4[L, M, F]; out qt : mxfp8[L, F, M]
    g, u = unzip(where(uniform(rng, stream = 2) >= 0.5, x + b, 0), N -> F, group = GROUP)
    h = swiglu(g, u)
    y = h
    q = quantize(h, tensor_scale = ts)
    qt = quantize(h.T)
}
"""


def slow(*groups: str) -> list[Any]:
    return [pytest.param(group, marks=pytest.mark.slow) for group in groups]


@pytest.mark.parametrize("group", ["1", "F", *slow("16", "64")])
def test_swiglu(group: str) -> None:
    built = build(SWIGLU.replace("GROUP", group))
    assert "silu(mul(rows, mul(product1, scale)))" in built.python
    wide = 1152 if group != "F" else 768  # the scales of halves apart start on an atom each
    for dims in ({"M": 160, "N": 384 if group != "F" else 256, "K": 64}, {"M": 32, "N": wide, "K": 32}):
        for comparison in run(built, dims):
            assert comparison.equal, f"{dims}: {comparison}"


@pytest.mark.slow
@pytest.mark.parametrize("group", ["1", "8", "32", "128", "F"])
def test_halves_of_inputs_and_random_numbers(group: str) -> None:
    built = build(INPUTS.replace("GROUP", group))
    for dims in ({"M": 160, "N": 512, "K": 64}, {"M": 32, "N": 256, "K": 32}):
        for comparison in run(built, dims):
            assert comparison.equal, f"{dims}: {comparison}"


@pytest.mark.parametrize("group", ["F", *slow("1", "4", "16", "32", "96")])
def test_without_a_product(group: str) -> None:
    built = build(ELEMENTWISE.replace("GROUP", group))
    for dims in ({"L": 2, "M": 160, "N": 192}, {"L": 1, "M": 32, "N": 576}):
        for comparison in run(built, dims):
            assert comparison.equal, f"{dims}: {comparison}"


@pytest.mark.parametrize("group", ["1", "F"])
def test_one_scale_a_row(group: str) -> None:
    """A walk over all of a row measures it before another one stores it."""
    built = build(
        "kernel k(M, N, F = N / 2) { in x : bf16[M, N]; out y : fp8_token[M, F]\n"
        f"g, u = unzip(x, N -> F, group = {group}); y = quantize(silu(g) * u) }}\n"
    )
    for comparison in run(built, {"M": 70, "N": 544}):
        assert comparison.equal, str(comparison)


def test_rows_of_any_length() -> None:
    """Elements that no vector load and no TMA can reach, and random numbers that start within a group of four."""
    for group in ("1", "F"):
        built = build(
            "kernel k(M, N, F = N / 2) { in x : bf16[M, N]; in b : bf16[N]; in rng : u64[2]; out y : bf16[M, F]\n"
            f"g, u = unzip((x + b) * uniform(rng), N -> F, group = {group}); y = relu(g) * u }}\n"
        )
        for columns in (2, 74, 272):
            for comparison in run(built, {"M": 33, "N": columns}):
                assert comparison.equal, f"{group}, {columns}: {comparison}"


def test_vectors_and_columns_first() -> None:
    """A kernel on vectors works on one row; halves along the rows of what is read are the columns all the same."""
    vectors = "kernel k(N, F = N / 2) { in x : f32[N]; out y : f32[F]; g, u = unzip(x, N -> F, group = F); y = g * u }"
    transposed = (
        "kernel k(M, N, F = N / 2) { in x : bf16[N, M]; out y : bf16[F, M]; out z : f32[M, F]\n"
        "g, u = unzip(x, N -> F, group = F); y = g * u; z = (g - u).T }\n"
    )
    for text, dims in ((vectors, {"N": 300}), (transposed, {"M": 72, "N": 140})):
        for comparison in run(build(text), dims):
            assert comparison.equal, f"{dims}: {comparison}"


def test_an_input_in_two_ways_and_one_half_of_a_product() -> None:
    built = build(
        "kernel k(M, N, K, F = N / 2) { in x : mxfp4[M, K]; in w : mxfp4[N, K]; in r : f32[M, N]; out y : f32[M, F]\n"
        "g, _ = unzip(x @ w.T, N -> F, group = 2); a, b = unzip(r, N -> F, group = 1)\n"
        "c, d = unzip(r, N -> F, group = F); y = relu(g) + a * d - b * c }\n"
    )
    for comparison in run(built, {"M": 40, "N": 160, "K": 32}):
        assert comparison.equal, str(comparison)


def test_a_tile_holds_whole_groups() -> None:
    text = SWIGLU.replace("GROUP", "64") + "schedule swiglu_up on sm_100a { tile 128 x 64 x 256 }\n"
    with pytest.raises(DiagnosticError) as caught:
        lower(parse(text), "sm_100a")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "FP5010"
    assert "128, 256" in str(diagnostic.help)

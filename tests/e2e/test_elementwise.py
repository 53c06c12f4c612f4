"""Kernels without a product: elementwise functions and quantizers, byte for byte."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Check = Callable[..., None]
SHAPES = [(1, 32), (130, 208), (257, 96)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mode", ["immediate", "delayed"])
def test_quantizes_rows(check: Check, shape: tuple[int, int], mode: str) -> None:
    text = """kernel rows(M, N) {
        in x : bf16[M, N]
        in amax : f32[]
        out q : nvfp4[M, N]
        q = quantize(x, amax = amax)
    }"""
    check(text, M=shape[0], N=shape[1], sms=2, mode=mode)


@pytest.mark.parametrize("shape", [(32, 1), (208, 130), (96, 257)], ids=str)
def test_quantizes_columns_and_rows(check: Check, shape: tuple[int, int]) -> None:
    text = """kernel both(M, N) {
        in x : f16[M, N]
        in ts : f32[]
        out q : mxfp8_e4m3[M, N]
        out qt : nvfp4[N, M]
        q = quantize(x)
        qt = quantize(x.T, tensor_scale = ts)
    }"""
    m, n = shape
    check(text, M=-(-m // 16) * 16, N=-(-n // 32) * 32)


@pytest.mark.parametrize("fmt", ["mxfp4", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3"])
def test_quantizes_to_mx(check: Check, fmt: str) -> None:
    text = f"""kernel mx(M, N) {{
        in x : f32[M, N]
        out q : {fmt}[M, N]
        q = quantize(x)
    }}"""
    check(text, M=65, N=160)


def test_quantizes_blocks_of_two_dimensions(check: Check) -> None:
    text = """kernel weights(M, N) {
        in w : f32[M, N]
        in amax : f32[]
        out q : nvfp4_2d[M, N]
        out qt : nvfp4_2d[N, M]
        q = quantize(w, amax = amax)
        qt = quantize(w.T, amax = amax)
    }"""
    check(text, M=144, N=208)


@pytest.mark.parametrize("shape", [(1, 1), (5, 33), (129, 136)], ids=str)
def test_computes_elements(check: Check, shape: tuple[int, int]) -> None:
    text = """kernel elements(M, N) {
        in x : bf16[M, N]
        in r : f32[N, M]
        in bias : f32[N]
        in scale : f32[M]
        param gain : f32 = 2.0
        out y : bf16[M, N]
        out z : f32[N, M]
        h = gain * x * scale + bias
        y = relu(h)
        z = (h + r.T).T
    }"""
    check(text, M=shape[0], N=shape[1])


def test_updates_in_place_by_batch(check: Check) -> None:
    text = """kernel update(L, M, N) {
        in x : f32[L, M, N]
        param beta : f32 = 0.5
        inout y : f32[L, M, N]
        y = x + beta * y
    }"""
    check(text, L=3, M=70, N=40, sms=1)


def test_takes_vectors(check: Check) -> None:
    text = """kernel vectors(N) {
        in x : f32[N]
        in amax : f32[]
        out y : f32[N]
        out q : nvfp4[N]
        y = x * 2
        q = quantize(x, amax = amax)
    }"""
    check(text, N=176)

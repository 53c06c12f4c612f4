"""Kernels without a product: elementwise functions and quantizers, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fp4rt.compare import compare_outputs

Check = Callable[..., None]
TARGETS = ["sm_100a", "sm_90a"]
SHAPES = [(1, 32), (130, 208), (257, 96)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mode", [pytest.param("immediate", marks=pytest.mark.slow), "delayed"])
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


def test_batches_that_lie_nearer_than_rows(check: Check) -> None:
    """The place of a scale then depends on how many batches there are."""
    text = """
    layout near { coords row : 8, k : 4, batch : 2; atom (8, 4, 2) : (8, 2, 1); order batch, k, row; pad 0 }
    format f extends nvfp4 { layout near }
    kernel rows(L, M, N) { in x : bf16[L, M, N]; in s : f32[]; out q : f[L, M, N]; q = quantize(x, tensor_scale = s) }
    """
    check(text, L=3, M=40, N=160)


@pytest.mark.parametrize("target", TARGETS)
def test_quantizes_to_every_format(check: Check, target: str) -> None:
    text = """kernel formats(M, N) {
        in x : f32[M, N]
        in rng : u64[2]
        in amax : f32[]
        out a : nvfp4[M, N]
        out b : mxfp4[M, N]
        out c : mxfp8_e5m2[M, N]
        out d : mxfp6_e3m2[M, N]
        out e : mxfp6_e2m3[M, N]
        out f : mxfp4[M, N]
        out g : mxfp8_e4m3[M, N]
        out h : mxfp6_e3m2[M, N]
        a = quantize(x, amax = amax)
        b = quantize(x)
        c = quantize(x)
        d = quantize(x)
        e = quantize(x)
        f = quantize(x, rounding = stochastic(rng, stream = 1))
        g = quantize(x, rounding = stochastic(rng, stream = 2))
        h = quantize(x, rounding = stochastic(rng, stream = 3))
    }"""
    check(text, target, M=65, N=160)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(16, 3), (272, 200)], ids=str)
def test_quantizes_transposed_with_hadamard_and_stochastic_rounding(
    check: Check, target: str, shape: tuple[int, int]
) -> None:
    text = """kernel quantize_dy_t(M, N) {
        in dy : bf16[M, N]
        in signs : f32[16]
        in rng : u64[2]
        in amax : f32[]
        out q : nvfp4[N, M]
        h = bf16(hadamard(dy.T, over = M, size = 16, signs = signs))
        q = quantize(h, amax = amax, rounding = stochastic(rng, stream = 0))
    }"""
    check(text, target, M=shape[0], N=shape[1])


@pytest.mark.parametrize(
    ("mode", "target"),
    [
        ("immediate", "sm_90a"),
        ("delayed", "sm_100a"),
        pytest.param("immediate", "sm_100a", marks=pytest.mark.slow),
        pytest.param("delayed", "sm_90a", marks=pytest.mark.slow),
    ],
)
def test_reduces(check: Check, mode: str, target: str) -> None:
    text = """kernel reductions(M, N) {
        in x : bf16[M, N]
        out amax : f32[]
        out rows : f32[M]
        out columns : f32[N]
        out sums : f32[M]
        out square : f32[N]
        out total : f32[]
        amax = max(abs(x), over = all)
        rows = min(x, over = N)
        columns = max(x, over = M)
        sums = sum(x, over = N)
        square = mean_square(x, over = M)
        total = sum(x, over = all)
    }"""
    check(text, target, M=190, N=167, sms=3, mode=mode)


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


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(128, 128), (256, 384)], ids=str)
def test_quantizes_blocks_as_wide_as_a_tile(check: Check, target: str, shape: tuple[int, int]) -> None:
    text = """kernel deepseek(M, N) {
        in x : bf16[M, N]
        out a : ds_act[M, N]
        out at : ds_act[N, M]
        out w : ds_weight[M, N]
        out wt : ds_weight[N, M]
        a = quantize(x)
        at = quantize(x.T)
        w = quantize(x)
        wt = quantize(x.T)
    }"""
    check(text, target, M=shape[0], N=shape[1], sms=2)


def test_wide_blocks_need_not_fill_their_last_rows(check: Check) -> None:
    text = """format wide4 extends nvfp4 { scale e4m3 per 1 x 128 }
    kernel wide(L, M, N) {
        in x : f32[L, M, N]
        in amax : f32[]
        out w : ds_weight[L, M, N]
        out a : wide4[L, M, N]
        w = quantize(x)
        a = quantize(x, amax = amax)
    }"""
    check(text, L=2, M=200, N=256)


@pytest.mark.parametrize("shape", [(1, 1), (150, 203), (129, 64)], ids=str)
def test_quantizes_with_a_scale_a_row(check: Check, shape: tuple[int, int]) -> None:
    text = """kernel tokens(M, N) {
        in x : bf16[M, N]
        out q : fp8_token[M, N]
        q = quantize(x + 1)
    }"""
    check(text, M=shape[0], N=shape[1])


@pytest.mark.parametrize("target", TARGETS)
def test_quantizes_by_the_standard_deviation(check: Check, target: str) -> None:
    text = """format quartet extends mxfp4 { quantizer quest_mxfp4 }
    kernel forward(M, K) {
        in x : bf16[M, K]
        out q : quartet[M, K]
        out qt : quartet[K, M]
        q = quantize(hadamard(x, over = K, size = 32))
        qt = quantize(x.T)
    }"""
    check(text, target, M=96, K=224)


@pytest.mark.parametrize("target", TARGETS)
def test_quantizes_in_place(check: Check, target: str) -> None:
    text = """kernel fake_quantize(M, K) {
        in  x    : bf16[M, K]
        in  amax : f32[]
        out y    : bf16[M, K]
        out z    : f32[M, K]
        out a    : f32[M, K]
        out b    : f32[M, K]
        out c    : f32[M, K]
        y = dequantize(quantize(x, amax = amax, format = nvfp4))
        z = dequantize(quantize(2 * x, format = mxfp4)) + x
        a = dequantize(quantize(x, format = mxfp6_e3m2))
        b = dequantize(quantize(x, format = mxfp6_e2m3))
        c = dequantize(quantize(x, format = mxfp8_e5m2))
    }"""
    check(text, target, M=65, K=224)


def test_padding_of_f32_scales_is_bytes(check: Check) -> None:
    """Where the kernel writes it (`own`), and where the runtime fills the buffer before (`tall`)."""
    text = """
    layout own { coords row : 8, k : 4; atom (8, 4) : (4, 1); pad 200 }
    layout tall { coords row : 300, k : 3; atom (300, 3) : (3, 1); pad 7 }
    format f extends ds_act { scale f32 per 1 x 32; layout own }
    format g extends ds_act { scale f32 per 1 x 32; layout tall }
    kernel k(M, N) { in x : bf16[M, N]; out q : f[M, N]; out r : g[M, N]; q = quantize(x); r = quantize(x) }
    """
    check(text, M=45, N=160)


def test_extremes_of_zeros_and_nans(compiler: Any) -> None:
    """-0 is below +0 whatever the order, and a NaN of any kind counts only among NaNs."""
    text = """kernel k(M, N) {
        in x : f32[M, N]
        out a : f32[M]; out b : f32[M]; out c : f32[N]; out d : f32[N]; out e : f32[]; out f : f32[M, N]
        a = max(x, over = N); b = min(x, over = N); c = max(x, over = M); d = min(x, over = M)
        e = max(x, over = all); f = max(x, 0) + relu(x) + silu(-90 * x)
    }"""
    artifact = compiler.artifact(text)
    words = np.array([0, 0x80000000, 0x7FC00000, 0xFF800001, 0x7F800001, 0x3F800000], np.uint32)
    rng = np.random.default_rng(0)
    rows = [rng.choice(words[:kinds], (40, 70)) for kinds in (1, 2, 3, 5, 6)] + [rng.choice(words[2:5], (4, 70))]
    x = np.concatenate([*rows, rng.choice(words[1:2], (8, 70))]).view(np.float32)
    found, expected = (artifact.load_kernel(device)(x=x) for device in ("emulator", "reference"))
    assert [str(c) for c in compare_outputs(artifact.manifest, found, expected) if not c.equal] == []
    assert {np.signbit(v).item() for v in found["a"] if v == 0} == {True, False}

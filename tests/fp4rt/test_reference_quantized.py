"""The reference interpreter's quantized values against the quantizers."""

from __future__ import annotations

import numpy as np
import pytest

import fp4num
import fp4rt
from fp4num import FORMATS
from fp4rt.typed import Arg, Axis, Store, Value

from .test_reference import Load, axes, build, normal


@pytest.mark.parametrize("mode", ["tensor_scale", "amax", "none"])
def test_quantized_outputs(reference: Load, mode: str) -> None:
    fmt = FORMATS["mxfp4" if mode == "none" else "nvfp4"]
    operands = (0,) if mode == "none" else (0, 1)
    kernel = build(
        [Arg("x", "in", "f32", axes("M", "N")), Arg("s", "in", "f32", ()), Arg("q", "out", fmt, axes("M", "N"))],
        [
            Value("arg", (), "f32", ("M", "N"), {"name": "x"}),
            Value("arg", (), "f32", (), {"name": "s"}),
            Value("quantize", operands, fmt, ("M", "N"), {"mode": mode, "rounding": "nearest"}),
        ],
        [Store("q", 2)],
    )
    x, s = normal(130, 96), np.array(0.01 if mode == "tensor_scale" else 5.0, np.float32)
    q = reference(kernel)(x=x, s=s)["q"]
    expected = fp4num.quantize(x, fmt, **({} if mode == "none" else {mode: s}))
    np.testing.assert_array_equal(q.codes, expected.codes)
    np.testing.assert_array_equal(q.scales, expected.scales)
    if mode == "tensor_scale":
        assert q.tensor_scale is s  # the output shares the input's
    if mode == "amax":
        assert q.tensor_scale == expected.tensor_scale


def test_transposed_quantized_output(reference: Load) -> None:
    fmt = FORMATS["mxfp8_e4m3"]
    kernel = build(
        [Arg("x", "in", "bf16", axes("M", "N")), Arg("q", "out", fmt, axes("N", "M"))],
        [
            Value("arg", (), "bf16", ("M", "N"), {"name": "x"}),
            Value("transpose", (0,), "bf16", ("N", "M")),
            Value("quantize", (1,), fmt, ("N", "M"), {"mode": "none", "rounding": "nearest"}),
        ],
        [Store("q", 2)],
    )
    x = fp4num.encode(normal(64, 40), "bf16")
    q = reference(kernel)(x=x)["q"]
    expected = fp4num.quantize(fp4num.decode(x, "bf16").T, fmt)
    np.testing.assert_array_equal(q.codes, expected.codes)
    np.testing.assert_array_equal(q.scales, expected.scales)


def test_stochastic_rounding_takes_the_state(reference: Load) -> None:
    fmt = FORMATS["mxfp4"]
    kernel = build(
        [
            Arg("x", "in", "f32", axes("M", "N")),
            Arg("rng", "in", "u64", (Axis(None, 2),)),
            Arg("q", "out", fmt, axes("M", "N")),
        ],
        [
            Value("arg", (), "f32", ("M", "N"), {"name": "x"}),
            Value("arg", (), "u64", (), {"name": "rng"}),
            Value("quantize", (0, 1), fmt, ("M", "N"), {"mode": "none", "rounding": "stochastic", "stream": 3}),
        ],
        [Store("q", 2)],
    )
    x, rng = normal(16, 64), np.array([7, 9], np.uint64)
    expected = fp4num.quantize(x, fmt, rounding="stochastic", rng=rng, stream=3)
    np.testing.assert_array_equal(reference(kernel)(x=x, rng=rng)["q"].codes, expected.codes)


def test_dequantize_uses_the_tensor_scale(reference: Load) -> None:
    fmt = FORMATS["nvfp4"]
    kernel = build(
        [Arg("x", "in", fmt, axes("M", "N")), Arg("y", "out", "f32", axes("M", "N"))],
        [Value("arg", (), fmt, ("M", "N"), {"name": "x"}), Value("dequantize", (0,), "f32", ("M", "N"))],
        [Store("y", 1)],
    )
    q = fp4rt.quantize(normal(8, 32), fmt)
    np.testing.assert_array_equal(reference(kernel)(x=q)["y"], fp4num.dequantize(q))


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("times", [1, 2, 3])
def test_quantized_values_turned(reference: Load, name: str, times: int) -> None:
    """`q.T` is what `dequantize(q).T` is, as often as it is turned."""
    fmt = FORMATS[name]
    names = ("M", "N") if times % 2 == 0 else ("N", "M")
    turned = [Value("transpose", (i,), fmt, ("N", "M") if i % 2 == 0 else ("M", "N")) for i in range(times)]
    kernel = build(
        [Arg("q", "in", fmt, axes("M", "N")), Arg("y", "out", "f32", axes(*names))],
        [
            Value("arg", (), fmt, ("M", "N"), {"name": "q"}),
            *turned,
            Value("dequantize", (times,), "f32", names),
        ],
        [Store("y", times + 1)],
    )
    q = fp4num.quantize(normal(40, 128), fmt)
    expected = fp4num.dequantize(q)
    np.testing.assert_array_equal(reference(kernel)(q=q)["y"], expected if times % 2 == 0 else expected.T)

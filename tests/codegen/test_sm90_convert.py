"""The conversions that sm_90 has no instruction for, run in Python on numpy arrays, against `fp4num`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fp4cc.resources import templates_dir
from fp4num.codecs import encode


class _Arrays:
    """`cutlass` and the helpers of an emitted file, on arrays of f32 and i32."""

    max = staticmethod(np.maximum)
    min = staticmethod(np.minimum)


def _bits(x: Any) -> Any:
    return np.asarray(x, np.float32).view(np.int32)


def _truncate(_text: str, _constraints: str, x: Any) -> Any:
    return np.clip(np.nan_to_num(x), -(2.0**31), 2.0**31 - 128).astype(np.int64).astype(np.int32)


def _multiply(a: Any, b: float) -> Any:
    """A product; one that is NaN has the bits of CUDA's (CUDA C++ programming guide, floating-point standard)."""
    product = np.multiply(a, np.float32(b), dtype=np.float32)
    return np.where(np.isnan(product), np.uint32(0x7FFFFFFF).view(np.float32), product)


def _fma(a: Any, b: float, c: float) -> Any:
    """Of numbers whose product and sum f64 holds."""
    return (np.asarray(a, np.float64) * b + c).astype(np.float32)


def _pack_e4m3(x: Any) -> Any:
    codes = [encode(value, "e4m3").astype(np.uint32) << np.uint32(8 * i) for i, value in enumerate(x)]
    return (codes[0] | codes[1] | codes[2] | codes[3]).view(np.int32)


@pytest.fixture(scope="module")
def helpers() -> dict[str, Any]:
    names: dict[str, Any] = {
        "cutlass": _Arrays,
        "Float32": np.asarray,
        "Int32": np.int32,
        "bits": _bits,
        "from_bits": lambda i: np.asarray(i, np.int32).view(np.float32),
        "minimum": lambda a, b: np.fmin(a, np.float32(b)),
        "fma": _fma,
        "pack_e4m3": _pack_e4m3,
        "absolute": np.abs,
        "add": lambda a, b: np.add(a, b, dtype=np.float32),
        "mul": _multiply,
        "both": np.logical_and,
        "where_int": np.where,
        "word_asm": _truncate,
    }
    exec((templates_dir() / "sm90" / "convert.py").read_text(), names)  # noqa: S102
    return names


def values() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Every upper half of a float with some lower halves, and random ones near the formats' ranges."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    near = np.random.default_rng(0).uniform(-64, 64, 100_000).astype(np.float32)
    return np.concatenate([(upper[:, None] | lower).reshape(-1).view(np.float32), near])


def test_eight_e2m1_to_nearest(helpers: dict[str, Any]) -> None:
    """Each value at each of the eight places of a word, beside others."""
    x = values()
    wanted = encode(x, "e2m1").astype(np.uint32)
    for turn in range(0, 8, 3):
        lists = [np.roll(x, i + 1000 * turn) for i in range(8)]
        with np.errstate(all="ignore"):
            found = helpers["pack_e2m1"](lists).view(np.uint32)
        for i in range(8):
            assert np.array_equal(found >> np.uint32(4 * i) & np.uint32(15), np.roll(wanted, i + 1000 * turn))


@pytest.mark.slow
def test_every_float_of_the_range_of_e2m1(helpers: dict[str, Any]) -> None:
    """All patterns from 2^-4 to 8 with either sign, where codes change, and NaN, infinities and subnormals."""
    for first in range(0x3D800000, 0x41000000 + 1, 1 << 22):
        magnitudes = np.arange(first, first + (1 << 22), dtype=np.uint32)
        x = np.concatenate([magnitudes, magnitudes | np.uint32(1 << 31)]).view(np.float32)
        lists = list(x.reshape(8, -1))
        wanted = encode(x, "e2m1").reshape(8, -1)
        with np.errstate(all="ignore"):
            found = helpers["pack_e2m1"](lists).view(np.uint32)
        for i in range(8):
            assert np.array_equal(found >> np.uint32(4 * i) & np.uint32(15), wanted[i])


@pytest.mark.parametrize("element", ["e3m2", "e2m3"])
def test_to_nearest(helpers: dict[str, Any], element: str) -> None:
    x = values()
    with np.errstate(all="ignore"):
        assert np.array_equal(helpers[f"encode_{element}"](x), encode(x, element))


@pytest.mark.parametrize("element", ["e2m1", "e4m3", "e5m2", "e3m2", "e2m3"])
def test_stochastically(helpers: dict[str, Any], element: str) -> None:
    x = values()
    noise = np.random.default_rng(1).integers(0, 256, x.shape, np.uint8)
    with np.errstate(all="ignore"):
        found = helpers["dithered_code"](element, x, noise.astype(np.int32))
    assert np.array_equal(found, encode(x, element, "stochastic", random=noise))


def test_scales_up_to_a_power_of_two(helpers: dict[str, Any]) -> None:
    x = np.abs(values())
    assert np.array_equal(helpers["encode_e8m0_up"](x), encode(x, "e8m0", "up"))

"""cvt against ml_dtypes and numpy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

E4M3, E5M2 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
E2M1, E2M3, E3M2, E8M0 = (
    ml_dtypes.float4_e2m1fn,
    ml_dtypes.float6_e2m3fn,
    ml_dtypes.float6_e3m2fn,
    ml_dtypes.float8_e8m0fnu,
)
NARROW = {
    "e4m3": (E4M3, 448.0, 0x7F),
    "e5m2": (E5M2, 57344.0, 0x7F),
    "e2m1": (E2M1, 6.0, 0x7),
    "e2m3": (E2M3, 7.5, 0x1F),
    "e3m2": (E3M2, 28.0, 0x1F),
}


def values(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Values of every magnitude, ties of all the formats, specials."""
    every8 = np.arange(256, dtype=np.uint8)
    grids = [
        every8.view(E4M3),
        every8.view(E5M2),
        np.arange(16, dtype=np.uint8).view(E2M1),
        np.arange(64, dtype=np.uint8).view(E2M3),
        np.arange(64, dtype=np.uint8).view(E3M2),
    ]
    exact = [np.unique(g.astype(np.float32)[np.isfinite(g.astype(np.float32))]) for g in grids]
    ties = [(g[1:] + g[:-1]) / 2 for g in exact]
    near = [np.nextafter(t, d).astype(np.float32) for t in ties for d in (np.float32(-np.inf), np.float32(np.inf))]
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3e38, -3e38], np.float32)
    random = rng.normal(0, 1, 500).astype(np.float32) * np.exp2(rng.integers(-20, 20, 500)).astype(np.float32)
    return np.concatenate([*exact, *ties, *near, special, random]).astype(np.float32)


def encode(x: Any, name: str) -> Any:
    """cvt.rn.satfinite from ml_dtypes: clamp first, NaN by hand."""
    dtype, limit, nan = NARROW[name]
    with np.errstate(all="ignore"):
        codes = np.clip(x, -limit, limit).astype(dtype).view(np.uint8).astype(np.uint32)
    return np.where(np.isnan(x), nan, codes)


@pytest.mark.parametrize("name", ["e4m3", "e5m2"])
def test_narrow_8_bit(name: str, lanes: Any, rng: np.random.Generator) -> None:
    x = values(rng)
    y = rng.permutation(x)
    got = lanes(f"cvt.rn.satfinite.{name}x2.f32 %out0, %in0, %in1;", x, y, out=np.uint16)
    np.testing.assert_array_equal(got, encode(x, name) << 8 | encode(y, name))


@pytest.mark.parametrize("name", ["e2m3", "e3m2"])
def test_narrow_6_bit(name: str, lanes: Any, rng: np.random.Generator) -> None:
    x = values(rng)
    y = rng.permutation(x)
    got = lanes(f"cvt.rn.satfinite.{name}x2.f32 %out0, %in0, %in1;", x, y, out=np.uint16)
    np.testing.assert_array_equal(got, encode(x, name) << 8 | encode(y, name))


def test_narrow_4_bit(lanes: Any, rng: np.random.Generator) -> None:
    """The first source is the high nibble; NaN becomes the positive maximum."""
    x = values(rng)
    y = rng.permutation(x)
    code = "{ .reg .b8 %b<4>; cvt.rn.satfinite.e2m1x2.f32 %b0, %in0, %in1; mov.b32 %out0, {%b0, %b0, %b0, %b0}; }"
    got = lanes(code, x, y)
    byte = (encode(x, "e2m1") & 15) << 4 | encode(y, "e2m1") & 15
    np.testing.assert_array_equal(got, byte * 0x01010101)


def test_relu_and_halves(lanes: Any, rng: np.random.Generator) -> None:
    x = values(rng)
    y = rng.permutation(x)
    with np.errstate(all="ignore"):
        pair = x.astype(np.float16).view(np.uint16).astype(np.uint32) << 16 | y.astype(np.float16).view(np.uint16)
    code = "cvt.rn.satfinite.relu.e4m3x2.f32 %out0, %in0, %in1; cvt.rn.satfinite.e4m3x2.f16x2 %out1, %in2;"
    relu, halves = lanes(code, x, y, pair, out=[np.uint16] * 2)
    positive = [np.where(np.isnan(v), v, np.maximum(v, 0)).astype(np.float32) for v in (x, y)]
    np.testing.assert_array_equal(relu, encode(positive[0], "e4m3") << 8 | encode(positive[1], "e4m3"))
    with np.errstate(all="ignore"):
        rounded = [v.astype(np.float16).astype(np.float32) for v in (x, y)]
    np.testing.assert_array_equal(halves, encode(rounded[0], "e4m3") << 8 | encode(rounded[1], "e4m3"))


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m3", "e3m2"])
def test_widen(name: str, lanes: Any) -> None:
    dtype = NARROW[name][0]
    limit = 256 if name in ("e4m3", "e5m2") else 64
    codes = np.arange(limit, dtype=np.uint16)
    got = lanes(f"cvt.rn.f16x2.{name}x2 %out0, %in0;", codes << 8 | codes[::-1])
    want = codes.astype(np.uint8).view(dtype).astype(np.float32)
    high, low = (got >> 16).astype(np.uint16).view(np.float16), got.astype(np.uint16).view(np.float16)
    np.testing.assert_array_equal(high.astype(np.float32), want)
    np.testing.assert_array_equal(low.astype(np.float32), want[::-1])


def test_widen_4_bit(lanes: Any) -> None:
    codes = np.arange(256, dtype=np.uint32)
    code = "{ .reg .b8 %b<4>; mov.b32 {%b0, %b1, %b2, %b3}, %in0; cvt.rn.f16x2.e2m1x2 %out0, %b0; }"
    got = lanes(code, codes)
    table = np.arange(16, dtype=np.uint8).view(E2M1).astype(np.float32)
    np.testing.assert_array_equal(got.astype(np.uint16).view(np.float16).astype(np.float32), table[codes & 15])
    np.testing.assert_array_equal((got >> 16).astype(np.uint16).view(np.float16).astype(np.float32), table[codes >> 4])


@pytest.mark.parametrize(("mode", "direction"), [("rz", np.floor), ("rp", np.ceil)])
def test_scales(mode: str, direction: Any, lanes: Any, rng: np.random.Generator) -> None:
    """ue8m0: a power of two at most (rz) or at least (rp) as large, clamped to 2^-127 .. 2^127; NaN is 0xFF."""
    x = np.abs(values(rng))
    x = np.concatenate([x, np.array([2.0**-127, 2.0**-126, 2.0**-128, 1.7e38, 3.4e38], np.float32)])
    got = lanes(f"cvt.{mode}.satfinite.ue8m0x2.f32 %out0, %in0, %in0;", x, out=np.uint16)
    with np.errstate(all="ignore"):
        exponent = np.clip(direction(np.log2(x.astype(np.float64))), -127, 127)
    want = np.where(np.isnan(x), 0xFF, np.where(x == 0, 0, exponent + 127)).astype(np.uint16)
    np.testing.assert_array_equal(got & 0xFF, want)
    np.testing.assert_array_equal(got >> 8, want)
    wide = lanes("cvt.rn.bf16x2.ue8m0x2 %out0, %in0;", np.arange(255, dtype=np.uint16))
    low = (wide << 16).view(np.float32)
    np.testing.assert_array_equal(low, np.exp2(np.arange(255) - 127.0).astype(np.float32))


@pytest.mark.parametrize(("suffix", "dtype"), [("f16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_halves(suffix: str, dtype: Any, lanes: Any, rng: np.random.Generator) -> None:
    x = np.concatenate([values(rng), rng.integers(0, 1 << 32, 4000, dtype=np.uint32).view(np.float32)])
    y = rng.permutation(x)
    single, packed = lanes(
        f"cvt.rn.{suffix}.f32 %h0, %in0; mov.b16 %out0, %h0; cvt.rn.{suffix}x2.f32 %out1, %in0, %in1;",
        x,
        y,
        out=[np.uint16, np.uint32],
    )
    with np.errstate(all="ignore"):
        want = [np.where(np.isnan(v), 0x7FFF, v.astype(dtype).view(np.uint16)).astype(np.uint32) for v in (x, y)]
    np.testing.assert_array_equal(single, want[0])
    np.testing.assert_array_equal(packed, want[0] << 16 | want[1])
    every = np.arange(1 << 16, dtype=np.uint16)
    back = lanes(f"cvt.f32.{suffix} %out0, %in0;", every, block=256)
    with np.errstate(all="ignore"):
        number = every.view(dtype).astype(np.float32)
    np.testing.assert_array_equal(back.view(np.float32), number)


@pytest.mark.parametrize("kind", ["s32", "u32", "s64", "u64", "s16", "u8"])
@pytest.mark.parametrize(
    ("mode", "function"), [("rni", np.rint), ("rzi", np.trunc), ("rmi", np.floor), ("rpi", np.ceil)]
)
def test_float_to_integer(kind: str, mode: str, function: Any, lanes: Any, rng: np.random.Generator) -> None:
    x = np.concatenate(
        [values(rng), np.array([0.5, 1.5, 2.5, -0.5, 2147483648.0, 4294967296.0, 1.8e19, -9.3e18], np.float32)]
    )
    bits = int(kind[1:])
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)
    register = 64 if bits == 64 else 32
    got = lanes(f"cvt.{mode}.{kind}.f32 %out0, %in0;", x, out=np.uint64 if bits == 64 else np.uint32)
    want: list[int] = []
    for v in x:
        whole = (
            (1 << 63 if bits == 64 else 0)
            if np.isnan(v)
            else (high if v == np.inf else low if v == -np.inf else min(max(int(function(np.float64(v))), low), high))
        )
        want.append(whole & ((1 << register) - 1))
    np.testing.assert_array_equal(got, np.array(want, got.dtype))


def test_integer_to_float(lanes: Any, rng: np.random.Generator) -> None:
    a = np.concatenate(
        [
            rng.integers(0, 1 << 32, 500, dtype=np.uint32),
            np.array([0x1000001, 0x1000003, 0xFFFFFF80, 0xFFFFFF7F, 0], np.uint32),
        ]
    )
    wide = rng.integers(0, (1 << 64) - 1, len(a), dtype=np.uint64)
    code = (
        "cvt.rn.f32.s32 %out0, %in0; cvt.rn.f32.u32 %out1, %in0; cvt.rz.f32.u32 %out2, %in0; "
        "cvt.rn.f32.u64 %out3, %in1;"
    )
    signed, unsigned, down, long = lanes(code, a, wide, out=[np.float32] * 4)
    np.testing.assert_array_equal(signed, a.view(np.int32).astype(np.float32))
    np.testing.assert_array_equal(unsigned, a.astype(np.float32))
    exact = a.astype(np.float64)
    assert (down.astype(np.float64) <= exact).all() and (
        np.nextafter(down, np.float32(np.inf)).astype(np.float64) > exact
    ).all()
    np.testing.assert_array_equal(long, wide.astype(np.float32))


def test_integer_to_integer(lanes: Any, rng: np.random.Generator) -> None:
    a = np.concatenate(
        [
            rng.integers(0, 1 << 32, 300, dtype=np.uint32),
            np.array([0, 127, 128, 255, 256, 32767, 32768, 0x80000000], np.uint32),
        ]
    )
    code = (
        "cvt.u64.u32 %out0, %in0; cvt.s64.s32 %out1, %in0; cvt.u16.u32 %h0, %in0; cvt.u32.u16 %out2, %h0; "
        "cvt.s32.s16 %out3, %h0; "
        "cvt.u32.u8 %out4, %in0; cvt.s32.s8 %out5, %in0; cvt.sat.u8.s32 %out6, %in0; cvt.sat.s8.s32 %out7, %in0;"
    )
    got = lanes(code, a, out=[np.uint64, np.uint64] + [np.uint32] * 6)
    signed = a.view(np.int32).astype(np.int64)
    wants = [
        a.astype(np.uint64),
        signed.view(np.uint64),
        a & 0xFFFF,
        a.astype(np.uint16).view(np.int16).astype(np.int32).view(np.uint32),
        a & 0xFF,
        a.astype(np.uint8).view(np.int8).astype(np.int32).view(np.uint32),
        np.clip(signed, 0, 255),
        np.clip(signed, -128, 127) & 0xFFFF_FFFF,
    ]
    for index, want in enumerate(wants):
        np.testing.assert_array_equal(got[index], want, err_msg=str(index))


def test_round_to_integral_and_tf32(lanes: Any, rng: np.random.Generator) -> None:
    x = values(rng)
    x = x[~np.isnan(x)]
    whole, tf32 = lanes("cvt.rni.f32.f32 %out0, %in0; cvt.rna.tf32.f32 %out1, %in0;", x, out=[np.float32, np.uint32])
    np.testing.assert_array_equal(whole, np.rint(x))
    finite = np.isfinite(x) & (np.abs(x) < 3e38)
    want = ((x.view(np.uint32).astype(np.uint64) + 0x1000) & 0xFFFF_E000).astype(np.uint32)
    np.testing.assert_array_equal(tf32[finite], want[finite])


def test_ties_of_tf32(lanes: Any) -> None:
    """Half of the last kept bit: .rn to the even neighbour, .rna away from zero."""
    x = np.array([0x3F801000, 0x3F803000, 0xBF801000, 0xBF803000, 0x3F801001, 0x3F800FFF], np.uint32)
    near, away = lanes("cvt.rn.tf32.f32 %out0, %in0; cvt.rna.tf32.f32 %out1, %in0;", x, out=[np.uint32, np.uint32])
    assert near.tolist() == [0x3F800000, 0x3F804000, 0xBF800000, 0xBF804000, 0x3F802000, 0x3F800000]
    assert away.tolist() == [0x3F802000, 0x3F804000, 0xBF802000, 0xBF804000, 0x3F802000, 0x3F800000]


@pytest.mark.parametrize(("name", "bits"), [("e2m1", 4), ("e4m3", 8)])
def test_stochastic_rounding(name: str, bits: int, lanes: Any, rng: np.random.Generator) -> None:
    """Exact values stay; others go to a neighbor, up in proportion to the fraction that is dropped, as the random
    byte says."""
    dtype, limit, _ = NARROW[name]
    x = rng.uniform(-limit, limit, 4096).astype(np.float32)
    noise = rng.integers(0, 1 << 32, 4096, dtype=np.uint32)
    out = np.uint16 if bits == 4 else np.uint32
    got = lanes(f"cvt.rs.satfinite.{name}x4.f32 %out0, {{%in0, %in0, %in0, %in0}}, %in1;", x, noise, out=out)
    grid = np.unique(np.arange(1 << bits, dtype=np.uint8).view(dtype).astype(np.float32))
    grid = grid[np.isfinite(grid)]
    for position in range(4):
        code = (got.astype(np.uint32) >> (bits * position) & ((1 << bits) - 1)).astype(np.uint8)
        value = code.view(dtype).astype(np.float32)
        r = (noise >> (8 * position) & 255).astype(np.float64)
        magnitude = np.abs(x).astype(np.float64)
        below = grid[np.searchsorted(grid, magnitude.astype(np.float32), side="right") - 1].astype(np.float64)
        above = grid[
            np.minimum(np.searchsorted(grid, magnitude.astype(np.float32), side="right"), len(grid) - 1)
        ].astype(np.float64)
        fraction = np.where(above > below, (magnitude - below) / np.where(above > below, above - below, 1), 0)
        want = np.where(fraction + r / 256 >= 1, above, below)
        np.testing.assert_array_equal(np.abs(value), want.astype(np.float32))
        np.testing.assert_array_equal(np.signbit(value), np.signbit(x))

"""Element codecs against ml_dtypes, where it is an oracle: all codes decode; all bf16 values and ties encode."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4num import ELEMENTS, DataError, FormatError, decode, encode, round_to
from fp4num.codecs import decode_table

ORACLES = {
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e8m0": ml_dtypes.float8_e8m0fnu,
    "bf16": ml_dtypes.bfloat16,
    "f16": np.float16,
}
SMALL = ("e2m1", "e3m2", "e2m3", "e4m3", "e5m2")


def bits(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x, np.float32).view(np.uint32)


def all_bf16() -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)


def around_ties(name: str) -> np.ndarray:
    """Every value, every midpoint of neighbors, and their neighbors in float32, with both signs."""
    values = decode_table(name)
    values = np.unique(np.abs(values[np.isfinite(values)])).astype(np.float64)
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2, values * 1.25, [1e-45, 1e-38, 1e-30]])
    points = points.astype(np.float32)
    near = [points]
    for direction in (np.float32(np.inf), np.float32(-np.inf)):
        step = points
        for _ in range(3):
            step = np.nextafter(step, direction)
            near.append(step)
    both = np.concatenate(near)
    return np.concatenate([both, -both])


def expected(x: np.ndarray, name: str) -> np.ndarray:
    """ml_dtypes' codes, with the saturation and the NaN of PTX put in."""
    e = ELEMENTS[name]
    with np.errstate(all="ignore"):
        codes = np.clip(x, -e.max, e.max).astype(ORACLES[name]).view(np.uint16 if e.bits == 16 else np.uint8)
    return np.where(np.isnan(x), e.nan_code, codes)


@pytest.mark.parametrize("name", ORACLES)
def test_every_code_decodes_as_ml_dtypes_says(name: str) -> None:
    e = ELEMENTS[name]
    codes = np.arange(1 << e.bits, dtype=np.uint16 if e.bits == 16 else np.uint8)
    with np.errstate(invalid="ignore"):
        wanted = codes.view(ORACLES[name]).astype(np.float32)
    got = decode(codes, name)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    known = ~np.isnan(wanted)
    np.testing.assert_array_equal(bits(got)[known], bits(wanted)[known])


@pytest.mark.parametrize("name", SMALL)
def test_encode_equals_ml_dtypes_on_all_bf16(name: str) -> None:
    x = all_bf16()
    np.testing.assert_array_equal(encode(x, name), expected(x, name))


@pytest.mark.parametrize("name", SMALL)
def test_encode_equals_ml_dtypes_around_every_tie(name: str) -> None:
    x = around_ties(name)
    np.testing.assert_array_equal(encode(x, name), expected(x, name))


@pytest.mark.parametrize("name", SMALL)
def test_encode_equals_ml_dtypes_on_random_floats(name: str) -> None:
    random = np.random.default_rng(1)
    anything = random.integers(0, 1 << 32, 1 << 18, dtype=np.uint32).view(np.float32)
    e = ELEMENTS[name]
    within = (random.uniform(-1.1, 1.1, 1 << 18) * e.max).astype(np.float32)
    small = np.ldexp(random.uniform(-2, 2, 1 << 18), random.integers(-20, 4, 1 << 18)).astype(np.float32)
    for x in (anything, within, small):
        np.testing.assert_array_equal(encode(x, name), expected(x, name))


@pytest.mark.parametrize("name", ["bf16", "f16"])
def test_sixteen_bit_formats_keep_infinities_and_have_one_nan(name: str) -> None:
    x = np.random.default_rng(2).integers(0, 1 << 32, 1 << 18, dtype=np.uint32).view(np.float32)
    x = np.concatenate([x, np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 65519.99, 65520.0, 3.4e38])])
    with np.errstate(all="ignore"):
        wanted = x.astype(ORACLES[name]).view(np.uint16)
    np.testing.assert_array_equal(encode(x, name), np.where(np.isnan(x), 0x7FFF, wanted))


def test_e8m0_rounds_three_ways() -> None:
    """Nearest is ml_dtypes'; toward zero and up are the exact powers of two below and above."""
    exponents = np.arange(-149, 128)
    powers = np.ldexp(1.0, exponents).astype(np.float32)
    x = np.concatenate([powers, powers * np.float32(1.5), np.nextafter(powers, np.float32(np.inf)), powers * 1.75])
    x = x.astype(np.float32)
    x = x[np.isfinite(x)]
    with np.errstate(all="ignore"):
        nearest = x.astype(ORACLES["e8m0"]).view(np.uint8)
    # Above the largest value ml_dtypes gives NaN; PTX saturates.
    nearest = np.where(x > 2.0**127, 0xFE, nearest)
    # Subnormal float32: ml_dtypes rounds everything above 2^-127 up.
    in_range = (x >= 2.0**-126) | (x == 2.0**-127)
    np.testing.assert_array_equal(encode(x, "e8m0")[in_range], nearest[in_range])
    np.testing.assert_array_equal(encode(np.float32([1.49 * 2.0**-127, 1.5 * 2.0**-127]), "e8m0"), [0, 1])
    down = np.clip(np.frexp(x.astype(np.float64))[1] - 1 + 127, 0, 254)
    up = np.clip(np.ceil(np.log2(x.astype(np.float64))).astype(int) + 127, 0, 254)
    np.testing.assert_array_equal(encode(x, "e8m0", "toward_zero"), down)
    np.testing.assert_array_equal(encode(x, "e8m0", "up"), up)


@pytest.mark.parametrize("rounding", ["nearest", "toward_zero", "up"])
def test_e8m0_of_special_values(rounding: str) -> None:
    x = np.float32([0.0, -0.0, np.inf, np.nan])
    np.testing.assert_array_equal(encode(x, "e8m0", rounding), [0, 0, 0xFE, 0xFF])  # type: ignore[arg-type]


def test_nvidia_rules_of_e2m1() -> None:
    x = np.float32([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e30, -1e-30])
    wanted = [0, 2, 2, 4, 4, 6, 6, 0x8, 0x7, 0xF, 0x7, 0x7, 0x7, 0x8]
    np.testing.assert_array_equal(encode(x, "e2m1"), wanted)


def test_unsigned_scales_have_no_negative() -> None:
    np.testing.assert_array_equal(encode(np.float32([-1.0, -np.inf, 1.0, np.nan]), "ue4m3"), [0, 0, 0x38, 0x7F])
    np.testing.assert_array_equal(decode(np.arange(128, dtype=np.uint8), "ue4m3"), decode_table("e4m3")[:128])


@pytest.mark.parametrize("name", SMALL)
def test_format_facts(name: str) -> None:
    e = ELEMENTS[name]
    values = decode_table(name)
    finite = values[np.isfinite(values)]
    assert finite.max() == e.max == values[e.max_code]
    assert np.ldexp(1.0, e.emax) <= e.max < np.ldexp(1.0, e.emax + 1)
    assert np.isnan(values).any() == e.has_nan
    assert np.isinf(values).any() == e.has_inf


@given(st.floats(width=32, allow_nan=False), st.sampled_from(SMALL))
def test_rounding_is_idempotent_and_nearest(x: float, name: str) -> None:
    value = np.float32(x)
    got = round_to(value, name)
    assert np.array_equal(round_to(got, name), got)
    values = decode_table(name)
    values = values[np.isfinite(values)].astype(np.float64)
    clamped = min(max(float(value), -ELEMENTS[name].max), ELEMENTS[name].max)
    assert abs(float(got) - clamped) == np.abs(values - clamped).min()
    assert np.signbit(got) == np.signbit(value)


@pytest.mark.parametrize("name", SMALL)
def test_stochastic_rounding_counts_exactly(name: str) -> None:
    """Over all 256 random bytes a value goes up as often as floor(256 * fraction), and never past a neighbor."""
    e = ELEMENTS[name]
    values = np.unique(np.abs(decode_table(name)[: e.max_code + 1]).astype(np.float64))
    random = np.random.default_rng(3)
    i = random.integers(0, len(values) - 1, 200)
    fraction = np.concatenate([random.uniform(0, 1, 150), np.arange(25) / 256, 1 - 2.0 ** -np.arange(1, 26)])
    low, high = values[i], values[i + 1]
    x = (low + (high - low) * fraction).astype(np.float32)
    exact = (x.astype(np.float64) - low) / (high - low)
    noise = np.broadcast_to(np.arange(256, dtype=np.uint8), (len(x), 256))
    for sign in (1, -1):
        wide = np.repeat((sign * x)[:, None], 256, axis=1)
        got = np.abs(decode(encode(wide, name, "stochastic", noise), name)).astype(np.float64)
        ups = (got == high[:, None]).sum(axis=1)
        assert np.isin(got, np.stack([low, high])).all()
        np.testing.assert_array_equal(np.where(exact == 1, 256, np.floor(exact * 256)), ups)


def test_stochastic_rounding_keeps_special_values() -> None:
    x = np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 6.0, 100.0, 5e-324, -1e-40])
    noise = np.full(x.shape, 255, np.uint8)
    np.testing.assert_array_equal(encode(x, "e2m1", "stochastic", noise), [0, 8, 7, 15, 7, 7, 7, 0, 8])


def test_named_errors() -> None:
    with pytest.raises(FormatError, match="no element format is called 'e9m9'"):
        encode(np.float32(1), "e9m9")
    with pytest.raises(DataError, match="does not round 'up'"):
        encode(np.float32(1), "e2m1", "up")
    with pytest.raises(DataError, match="one uint8 for each value"):
        encode(np.zeros(4, np.float32), "e2m1", "stochastic", np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="unsigned integers"):
        decode(np.zeros(3, np.float32), "e2m1")


def test_shapes_are_kept() -> None:
    for shape in ((), (0,), (3, 0), (2, 3, 4)):
        assert encode(np.zeros(shape, np.float32), "e2m1").shape == shape
        assert decode(np.zeros(shape, np.uint8), "e2m1").shape == shape


@pytest.mark.parametrize("name", [*SMALL, "ue4m3"])
def test_few_and_many_values_are_encoded_alike(name: str) -> None:
    x = np.concatenate([around_ties(name), np.float32([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-42])])
    many = encode(np.resize(x, 1 << 16), name)[: x.size]
    few = np.concatenate([encode(part, name) for part in np.array_split(x, 50)])
    np.testing.assert_array_equal(few, many)

"""Philox against its authors' test vectors, draws by logical index, and stochastic rounding."""

from __future__ import annotations

import numpy as np
import pytest

from fp4num import DataError, dequantize, philox, quantize, unpack


@pytest.mark.parametrize(
    ("counter", "key", "wanted"),
    [
        # Random123 1.14, tests/kat_vectors, philox4x32 10
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter: str, key: str, wanted: str) -> None:
    words = np.array([int(w, 16) for w in counter.split()], np.uint32)
    got = philox.philox4x32(words[None], [int(w, 16) for w in key.split()])
    assert got[0].tolist() == [int(w, 16) for w in wanted.split()]


def test_the_counter_holds_group_stream_and_offset() -> None:
    seed, offset = 0x0123456789ABCDEF, 0xFEDCBA9876543210
    words = philox.random_words(0x7_0000_0001, 2, (seed, offset), stream=5)
    counter = np.array([[1, 7 | 5 << 16, 0x76543210, 0xFEDCBA98], [2, 7 | 5 << 16, 0x76543210, 0xFEDCBA98]], np.uint32)
    np.testing.assert_array_equal(words, philox.philox4x32(counter, (0x89ABCDEF, 0x01234567)))


def test_bytes_depend_on_the_element_alone() -> None:
    whole = philox.random_bytes(0, 1000, (3, 4))
    for first, count in ((0, 1), (15, 2), (16, 16), (17, 500), (999, 1), (500, 0)):
        np.testing.assert_array_equal(philox.random_bytes(first, count, (3, 4)), whole[first : first + count])
    words = philox.random_words(0, 1, (3, 4))[0]
    assert [int(b) for b in whole[:5]] == [int(words[0]) >> s & 255 for s in (0, 8, 16, 24)] + [int(words[1]) & 255]


def test_streams_and_offsets_and_seeds_differ() -> None:
    draws = [philox.random_bytes(0, 64, rng, s).tobytes() for rng in ((1, 1), (1, 2), (2, 1)) for s in (0, 1)]
    assert len(set(draws)) == len(draws)


def test_uniform_is_in_range_and_even() -> None:
    u = philox.uniform((100, 1001), (7, 0))
    assert u.dtype == np.float32 and u.shape == (100, 1001)
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 5e-3 and abs(u.std() - 12**-0.5) < 5e-3
    np.testing.assert_array_equal(philox.uniform((10,), (7, 0)), u.reshape(-1)[:10])


@pytest.mark.parametrize("fmt", ["nvfp4", "nvfp4_2d", "mxfp4", "mxfp6_e3m2", "mxfp8_e4m3", "mxfp8_e5m2", "ds_act"])
def test_stochastic_rounding_is_unbiased_within_its_bound(fmt: str) -> None:
    """The bias is at most one step / 256 toward zero; the rest is the sampling error of 1,000 draws: 20 states of the
    generator, each of 50 copies, whose elements have indices of their own."""
    x = np.random.default_rng(0).standard_normal((16, 128)).astype(np.float32)
    states, copies = 20, 50
    draws = states * copies
    total = np.zeros(x.shape, np.float64)
    low, high = np.full(x.shape, np.inf), np.full(x.shape, -np.inf)
    for step in range(states):
        stack = np.tile(x, (copies, 1))
        value = dequantize(quantize(stack, fmt, rounding="stochastic", rng=(11, step))).reshape(copies, *x.shape)
        total += value.sum(0, dtype=np.float64)
        low, high = np.minimum(low, value.min(0)), np.maximum(high, value.max(0))
    gap = np.maximum(high - low, 1e-9)
    inside = (low <= x) & (x <= high)  # an element that the scale saturates has no upper neighbor
    assert inside.mean() > 0.95
    mean_error = (total / draws - x)[inside] / gap[inside]
    assert np.abs(mean_error).max() < 1 / 256 + 5 * 0.5 / np.sqrt(draws)
    signed = mean_error * np.sign(x[inside])
    assert -1 / 256 - 0.002 < signed.mean() < 0.002


def test_draws_do_not_depend_on_how_the_tensor_is_cut() -> None:
    """Rows quantized by themselves, at their own index, are what they are in the whole."""
    x = np.random.default_rng(1).standard_normal((2, 300, 1024)).astype(np.float32)
    whole = quantize(x, "mxfp4", rounding="stochastic", rng=(5, 6), stream=2)
    again = quantize(x.reshape(1, 600, 1024), "mxfp4", rounding="stochastic", rng=(5, 6), stream=2)
    np.testing.assert_array_equal(whole.codes.reshape(-1), again.codes.reshape(-1))
    codes = unpack(whole.codes, 4).reshape(-1)
    first = 450 * 1024
    noise = philox.random_bytes(first, 1024, (5, 6), 2)
    row = x.reshape(600, 1024)[450]
    scale = np.ldexp(1.0, np.frexp(np.abs(row).reshape(-1, 32).max(axis=1))[1] - 1 - 2).repeat(32)
    grid = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    magnitude = np.minimum(np.abs(row) / scale, 6)
    below = np.searchsorted(grid, magnitude, side="right") - 1
    step = np.append(np.diff(grid), 1)[below]
    up = np.floor((magnitude - grid[below]) / step * 256) + noise >= 256
    np.testing.assert_array_equal(codes[first : first + 1024] & 7, below + up)


def test_named_errors() -> None:
    with pytest.raises(DataError, match="stream is 0 to 65535"):
        philox.random_bytes(0, 4, (1, 2), 1 << 16)
    with pytest.raises(DataError, match="two unsigned 64-bit words"):
        philox.random_bytes(0, 4, (1, -2))
    with pytest.raises(DataError, match="indexed from 0"):
        philox.random_words((1 << 48) - 1, 2, (1, 2))

"""Packing: nibble and bit order by example, and pack and unpack as inverses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4num import DataError, pack, unpack


def test_even_element_is_in_the_low_nibble() -> None:
    np.testing.assert_array_equal(pack(np.uint8([[1, 2, 15, 0]]), 4), [[0x21, 0x0F]])


def test_six_bit_codes_are_a_little_endian_bit_string() -> None:
    codes = np.uint8([0x3F, 0x00, 0x15, 0x2A])
    string = sum(int(c) << (6 * i) for i, c in enumerate(codes))
    np.testing.assert_array_equal(pack(codes, 6), np.frombuffer(string.to_bytes(3, "little"), np.uint8))


@given(st.sampled_from([4, 6, 8]), st.integers(0, 5), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_unpack_inverts_pack(bits: int, rows: int, groups: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (rows, groups * 4), dtype=np.uint8)
    data = pack(codes, bits)
    assert data.shape == (rows, groups * 4 * bits // 8)
    np.testing.assert_array_equal(unpack(data, bits), codes)


def test_named_errors() -> None:
    with pytest.raises(DataError, match="4-bit codes pack 2 at a time"):
        pack(np.zeros(3, np.uint8), 4)
    with pytest.raises(DataError, match="6-bit codes come in 3 bytes"):
        unpack(np.zeros(4, np.uint8), 6)
    with pytest.raises(DataError, match="4, 6 or 8 bits, not 5"):
        pack(np.zeros(4, np.uint8), 5)
    with pytest.raises(DataError, match="uint8, not int64"):
        pack(np.zeros(4, np.int64), 4)

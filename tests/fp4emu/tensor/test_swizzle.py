"""Swizzles against CuTe's definition of Swizzle<B, M, S> and against the rows that the PTX ISA draws."""

from __future__ import annotations

import numpy as np
import pytest

from fp4emu.swizzle import PATTERNS, Swizzle, swizzle

CUTE = {
    Swizzle.NONE: (0, 4, 3),
    Swizzle.B32: (1, 4, 3),
    Swizzle.B64: (2, 4, 3),
    Swizzle.B128: (3, 4, 3),
    Swizzle.B128_ATOM_32B: (2, 5, 2),
    Swizzle.B128_ATOM_64B: (1, 6, 1),
}


@pytest.mark.parametrize(("mode", "cute"), CUTE.items())
def test_equals_the_cute_functor(mode: Swizzle, cute: tuple[int, int, int]) -> None:
    bits, base, shift = cute
    for address in range(0, 4096, 4):
        field = (address >> (base + shift)) & ((1 << bits) - 1)
        assert int(swizzle(np.array(address), mode)) == address ^ (field << base)


@pytest.mark.parametrize("mode", Swizzle)
def test_permutes_each_row_of_its_span(mode: Swizzle) -> None:
    pattern = PATTERNS[mode]
    found = swizzle(np.arange(4096), mode)
    assert (swizzle(found, mode) == np.arange(4096)).all()
    assert (found // max(pattern.span, 16) == np.arange(4096) // max(pattern.span, 16)).all()
    assert (found[pattern.repeat : 2 * pattern.repeat] == found[: pattern.repeat] + pattern.repeat).all()


def test_rows_of_the_128_byte_swizzle() -> None:
    chunks = swizzle(np.arange(0, 1024, 16), Swizzle.B128).reshape(8, 8) // 16 % 8
    assert chunks[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert chunks[1].tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    assert chunks[7].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]


def test_flip_trades_the_halves_of_chunks_in_odd_rows() -> None:
    plain = swizzle(np.arange(0, 512, 8), Swizzle.B128_ATOM_32B)
    flipped = swizzle(np.arange(0, 512, 8), Swizzle.B128_ATOM_32B_FLIP_8B)
    odd = np.arange(0, 512, 8) // 128 % 2
    assert (flipped == plain ^ (8 * odd)).all()

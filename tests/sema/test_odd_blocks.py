"""Blocks of an odd number of elements of four bits: a row is whole blocks and whole bytes."""

from __future__ import annotations

import numpy as np
import pytest

import fp4rt
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4num import DataError

SPEC = """
format odd { element e2m1 pack low_first; scale e8m0 per 1 x 3; layout linear; quantizer mx_floor }
kernel k(M, N) { in x : f32[M, N]; out q : odd[M, N]; q = quantize(x) }
"""


def test_a_row_is_whole_blocks_and_bytes() -> None:
    kernel = analyze(Source("spec.fp4", SPEC), None).raise_errors().kernels[0]
    assert "N % 6 == 0" in [constraint.text for constraint in kernel.constraints]
    odd = kernel.arg("q").format
    assert odd is not None
    with pytest.raises(DataError, match="no multiple of 6"):
        fp4rt.quantize(np.ones((2, 9), np.float32), odd)
    x = np.arange(24, dtype=np.float32).reshape(2, 12)
    assert fp4rt.quantize(x, odd).codes.shape == (2, 6)

"""Rows by number on the reference, against loops that know nothing of it; and what a call says of wrong numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fp4rt
from fp4rt import ArgumentError, Kernel
from tests.e2e.test_experts import reference

PRODUCT = (
    "kernel k(M, S, N, K) {\n in rows : i32[M]; in x : nvfp4[S, K]; in w : nvfp4[N, K]; in r : f32[S, N]\n"
    " out y : f32[M, N]; out z : f32[M, N]\n y = x[rows] @ w.T\n z = 2 * r[rows]\n}\n"
)
COMBINE = (
    "kernel k(T, J, M, D) {\n in w : f32[T, J]; in inverse : i32[T, J]; in z : f32[M, D]\n"
    " out y : f32[T, D]\n y = sum(w * z[inverse], over = J)\n}\n"
)


def rows_of(x: np.ndarray, rows: list[int]) -> np.ndarray:
    """One row after the other."""
    found = [x[row] if row >= 0 else np.zeros(x.shape[1:], x.dtype) for row in rows]
    return np.array(found, x.dtype).reshape(len(rows), *x.shape[1:])


@settings(max_examples=20)
@given(st.integers(1, 9), st.lists(st.integers(-1, 8), max_size=12), st.integers(0, 99))
def test_a_product_of_rows_is_that_of_a_tensor_with_these_rows(count: int, rows: list[int], seed: int) -> None:
    rows = [min(row, count - 1) for row in rows]
    rng = np.random.default_rng(seed)
    x, w = rng.integers(-6, 7, (count, 32)).astype(np.float32), rng.integers(-6, 7, (3, 32)).astype(np.float32)
    r = rng.standard_normal((count, 3)).astype(np.float32)
    quantized = {name: fp4rt.quantize(value, "nvfp4", tensor_scale=1.0) for name, value in (("x", x), ("w", w))}
    found = reference(PRODUCT)(rows=np.array(rows, np.int32), r=r, **quantized)
    decoded = [fp4rt.dequantize(quantized[name]).astype(np.float64) for name in ("x", "w")]
    assert np.array_equal(found["y"], (rows_of(decoded[0], rows) @ decoded[1].T).astype(np.float32))
    assert np.array_equal(found["z"], 2 * rows_of(r, rows))


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(0, 5), st.integers(1, 9), st.integers(0, 99))
def test_weighted_sums_of_rows(tokens: int, rows: int, terms: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    z, w = rng.integers(-9, 9, (rows, 4)).astype(np.float32), rng.integers(-9, 9, (tokens, terms)).astype(np.float32)
    inverse = rng.integers(-1, rows, (tokens, terms)).astype(np.int32)
    wanted = np.zeros((tokens, 4), np.float32)
    for t in range(tokens):
        for j in range(terms):
            wanted[t] += w[t, j] * (z[inverse[t, j]] if inverse[t, j] >= 0 else 0)
    assert np.array_equal(reference(COMBINE)(w=w, inverse=inverse, z=z)["y"], wanted)


@pytest.mark.parametrize(("rows", "said"), [([0, 3], "it has 3"), ([-2, 0], "it has -2")])
def test_numbers_of_no_rows_are_refused(rows: list[int], said: str) -> None:
    kernel: Kernel = reference(PRODUCT)
    x: Any = fp4rt.quantize(np.zeros((3, 32), np.float32), "nvfp4", tensor_scale=1.0)
    with pytest.raises(ArgumentError, match=f"FP6330: 'rows' numbers rows of 'x', which has 3: {said}"):
        kernel(rows=np.array(rows, np.int32), x=x, w=x, r=np.zeros((3, 3), np.float32))


SCATTER = "kernel k(M, S, N) {\n in rows : i32[M]; in x : f32[M, N]\n inout y : f32[S, N]\n y[rows] = 2 * x\n}\n"
MASKED = (
    "kernel k(E, M, S, N) {\n in counts : i32[E]; in rows : i32[E, M upto counts]; in x : f32[E, M upto counts, N]\n"
    " inout y : f32[S, N]\n y[rows] = x\n}\n"
)


@settings(max_examples=20)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 99))
def test_listed_rows_are_stored_and_others_stay(count: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = np.full(rows, -1, np.int32)
    chosen = rng.permutation(count)[:rows]
    numbers[: len(chosen)] = chosen
    numbers = rng.permutation(numbers).astype(np.int32)
    x, y = rng.standard_normal((rows, 3)).astype(np.float32), rng.standard_normal((count, 3)).astype(np.float32)
    wanted = y.copy()
    for m, row in enumerate(numbers):
        if row >= 0:
            wanted[row] = 2 * x[m]
    reference(SCATTER)(rows=numbers, x=x, y=y)
    assert np.array_equal(y, wanted)


def test_a_row_that_is_listed_twice_is_refused() -> None:
    arrays = {"x": np.zeros((3, 2), np.float32), "y": np.zeros((5, 2), np.float32)}
    with pytest.raises(ArgumentError, match=r"FP6331: 'rows' has the row 4 of 'y' 2 times"):
        reference(SCATTER)(rows=np.array([4, -1, 4], np.int32), **arrays)


def test_numbers_past_a_count_are_not_looked_at() -> None:
    x, y = np.arange(12, dtype=np.float32).reshape(2, 3, 2), np.full((4, 2), 7, np.float32)
    rows = np.array([[1, 1, 99], [-5, 1, 1]], np.int32)
    reference(MASKED)(counts=np.array([1, 0], np.int32), rows=rows, x=x, y=y)
    assert np.array_equal(y, [[7, 7], [0, 1], [7, 7], [7, 7]])

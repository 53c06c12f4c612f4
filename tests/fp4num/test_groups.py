"""Ragged tensors against loops over their groups: where scales lie, what blocks hold, how large the buffer is."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4num import FORMATS, LAYOUTS, BlockFormat, DataError, Quantized, dequantize, quantize
from fp4num.groups import atom_rows

NVFP4 = FORMATS["nvfp4"]
FORMS = {
    "nvfp4": NVFP4,
    "nvfp4_2d": FORMATS["nvfp4_2d"],
    "mxfp8": FORMATS["mxfp8"],
    "8x4": replace(NVFP4, layout=LAYOUTS["blocked_8x4"]),
    "linear": replace(NVFP4, layout=LAYOUTS["linear"]),
    "token": FORMATS["fp8_token"],
    "tall": replace(FORMATS["ds_act"], block=(4, 32), stored=(4, 32)),
    "all": replace(FORMATS["ds_act"], block=("all", "all"), stored=("all", "all")),
}


def values(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    return x * np.exp2(np.arange(rows) % 9 - 4).astype(np.float32)[:, None]


def alone(x: np.ndarray, f: BlockFormat, offsets: np.ndarray, tensor_scale: float | None) -> np.ndarray:
    """Each group quantized and decoded by itself."""
    parts = [dequantize(quantize(x[low:high], f, tensor_scale=tensor_scale)) for low, high in pairwise(offsets)]
    return np.concatenate([np.empty((0, x.shape[1]), np.float32), *parts])


@settings(max_examples=40, deadline=None)
@given(
    form=st.sampled_from(sorted(FORMS)),
    counts=st.lists(st.sampled_from([0, 0, 1, 3, 8, 100, 128, 130]), min_size=1, max_size=5),
    columns=st.sampled_from([32, 128]),
)
def test_a_ragged_tensor_is_its_groups(form: str, counts: list[int], columns: int) -> None:
    f = FORMS[form]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    x = values(int(offsets[-1]), columns)
    tensor_scale = 0.01 if f.tensor_scale else None
    q = quantize(x, f, tensor_scale=tensor_scale, offsets=offsets)
    assert q.shape == x.shape and q.codes.shape == f.codes_shape(x.shape)
    np.testing.assert_array_equal(dequantize(q), alone(x, f, offsets, tensor_scale))
    # Every group's scales are the buffer of the group alone, from its atom row on.
    extent, one_row = f.layout.extent("row"), f.layout.size(1, f.layout.extent("row"), f.scale_grid(x.shape).columns)
    start = 0
    for low, high in pairwise(offsets):
        part = quantize(x[low:high], f, tensor_scale=tensor_scale)
        np.testing.assert_array_equal(q.scales[start : start + part.scales.size], part.scales)
        rows = f.scale_grid(part.shape).rows
        start += -(-rows // extent) * one_row
    rest = q.scales[start:]
    assert (rest == f.layout.pad).all()
    assert q.scales.size == atom_rows(f, int(offsets[-1]), len(counts)) * one_row >= start


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(0, 400), cuts=st.lists(st.floats(0, 1), max_size=6))
def test_the_buffer_holds_every_division(rows: int, cuts: list[float]) -> None:
    offsets = np.array([0, *sorted(round(c * rows) for c in cuts), rows])
    used = sum(-(-int(n) // 128) for n in np.diff(offsets))
    assert used <= rows // 128 + min(len(offsets) - 1, rows) == atom_rows(NVFP4, rows, len(offsets) - 1)


def test_group_scales_of_the_issue() -> None:
    """offsets [0, 100, 200]: the second group starts at atom row 1, not at row 100 of the first."""
    x, offsets = values(200, 64), [0, 100, 200]
    q = quantize(x, "nvfp4", tensor_scale=0.01, offsets=offsets)
    plain = quantize(x, "nvfp4", tensor_scale=0.01)
    assert q.scales.size == 3 * 512 and plain.scales.size == 2 * 512
    for row in range(200):
        place = (row if row < 100 else row - 100 + 128) // 128 * 512 + (r := row % 100) % 32 * 16 + r // 32 * 4
        np.testing.assert_array_equal(q.scales[place : place + 4], plain.scale_grid()[0, row])
    np.testing.assert_array_equal(dequantize(q), dequantize(plain))


def test_stochastic_rounding_draws_by_the_element_in_the_whole_tensor() -> None:
    x, offsets = values(40, 64), [0, 13, 13, 40]
    kwargs: dict[str, Any] = {"tensor_scale": 0.01, "rounding": "stochastic", "rng": (1, 2)}
    ragged, plain = quantize(x, "nvfp4", offsets=offsets, **kwargs), quantize(x, "nvfp4", **kwargs)
    np.testing.assert_array_equal(ragged.codes, plain.codes)


@pytest.mark.parametrize("form", ["nvfp4", "linear", "mxfp8", "tall"])
def test_parts_of_a_ragged_tensor(form: str) -> None:
    f, offsets = FORMS[form], np.array([0, 100, 200], np.int32)
    x = values(200, 64)
    q = quantize(x, f, offsets=offsets)
    same = Quantized.from_parts(q.codes, q.scales, q.tensor_scale, f, q.shape, offsets=offsets)
    np.testing.assert_array_equal(dequantize(same), dequantize(q))
    rows = q.scale_grid()[0]
    laid = Quantized.from_linear(q.codes, rows, q.tensor_scale, f, q.shape, offsets=offsets)
    np.testing.assert_array_equal(laid.scales, q.scales)
    if form == "nvfp4":
        with pytest.raises(DataError, match="fill 1536 elements .*each of 2 groups from a new atom row on"):
            Quantized.from_parts(q.codes, q.scales[:1024], q.tensor_scale, f, q.shape, offsets=offsets)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([], "offsets are integers|start at 0"),
        ([0, 5, 3, 8], "start at 0, do not decrease and end at the number of rows, 8"),
        ([1, 8], "start at 0"),
        ([0, 9], "start at 0"),
        ([[0, 8]], r"offsets are integers \[groups \+ 1\]"),
        ([0.0, 8.0], r"offsets are integers \[groups \+ 1\]"),
    ],
)
def test_offsets_that_are_none(offsets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        quantize(np.ones((8, 32), np.float32), "nvfp4", offsets=offsets)

"""Scales that callers bring: what is taken means what an index loop over its shape says; everything else is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4num import FORMATS, LAYOUTS, BlockFormat, DataError, Quantized, ScaleLayout, dequantize, quantize

NVFP4 = FORMATS["nvfp4"]
COLUMN_MAJOR = ScaleLayout("columns", (("row", 1), ("k", 1)), (1, 1), (0, 0), ("row", "k", "batch"))
KINDS = {**LAYOUTS, "columns": COLUMN_MAJOR}


def place(layout: str, b: int, r: int, k: int, batches: int, rows: int, columns: int) -> int:
    """Where a scale lies, as docs/numerics.md says it."""
    if layout == "blocked_128x4":
        atom = (b * -(-rows // 128) + r // 128) * -(-columns // 4) + k // 4
        return atom * 512 + r % 32 * 16 + r % 128 // 32 * 4 + k % 4
    if layout == "blocked_8x4":
        return ((b * -(-rows // 8) + r // 8) * -(-columns // 4) + k // 4) * 32 + r % 8 * 4 + k % 4
    if layout == "columns":
        return (b * columns + k) * rows + r
    return (b * rows + r) * columns + k


def loop(array: np.ndarray, layout: str, shape: tuple[int, ...], grid: tuple[int, int, int]) -> np.ndarray:
    """The scales [batch, row, k] that an array of a layout stands for, one index at a time."""
    out = np.zeros(grid, array.dtype)
    lead = shape[:-2]
    for b, r, k in np.ndindex(*grid):
        if layout == "cutlass":
            out[b, r, k] = array[r % 32, r // 32 % 4, r // 128, k % 4, k // 4, b]
        elif array.ndim == 1:
            out[b, r, k] = array[place(layout, b, r, k, *grid)]
        else:
            assert layout == "linear"
            out[b, r, k] = array[(*np.unravel_index(b, lead), r, k)] if lead else array[r, k]
    return out


@st.composite
def brought(draw: st.DrawFn) -> tuple[BlockFormat, tuple[int, ...], np.ndarray, str | None]:
    """A format, a tensor's shape, an array of scales of some shape, strides and dtype, and what `layout=` says."""
    base = draw(st.sampled_from(["nvfp4", "mxfp8_e4m3", "ds_act", "tall"]))
    f = replace(FORMATS["ds_act"], block=(3, 16), stored=(3, 16)) if base == "tall" else FORMATS[base]
    kind = draw(st.sampled_from(sorted(KINDS)))
    f = replace(f, layout=KINDS[kind])
    wide = int(f.block[1])
    lead = draw(st.sampled_from([(), (), (1,), (2,), (2, 2)]))
    shape = (*lead, draw(st.sampled_from([0, 1, 4, 8, 33, 128, 130])), wide * draw(st.sampled_from([0, 1, 4, 5])))
    if draw(st.integers(0, 9)) == 0:
        shape = shape[-1:]
    batches, rows, columns = grid = f.scale_grid(shape)
    size, named = f.scales_size(shape), draw(st.sampled_from([None, None, *LAYOUTS, "cutlass"]))
    nm, nk = -(-rows // 128), -(-columns // 4)
    candidates = [
        (size,), (size,), (*shape[:-2], rows, columns), (*shape[:-2], rows, columns), tuple(grid), (rows, columns),
        (columns, rows), (nm * 128, nk * 4), (nm * 32, nk * 16), (batches, nm, nk, 32, 4, 4),
        (32, 4, nm, 4, nk, batches), (32, 4, nm, 4, nk, batches), (batches * rows * columns,), (size + 1,), (1, size),
        (size, 1), (), (LAYOUTS["blocked_128x4"].size(*grid),), (LAYOUTS["blocked_8x4"].size(*grid),),
    ]  # fmt: skip
    form = draw(st.sampled_from(candidates))
    dtype = np.dtype(np.float32 if f.scale == "f32" else np.uint8)
    numbers = np.random.default_rng(draw(st.integers(0, 99))).integers(1, 0x7E, int(np.prod(form)) * 2)
    array = numbers[: int(np.prod(form))].reshape(form).astype(dtype)
    strides = draw(st.sampled_from(["c", "c", "f", "every other", "backwards"]))
    if strides == "f":
        array = np.asfortranarray(array)
    elif strides == "every other" and form:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif strides == "backwards" and form:
        array = array[::-1]
    held = draw(st.sampled_from([None, None, None, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e8m0fnu, np.int8]))
    if held is not None and f.scale != "f32":
        array = array.view(held)
    return f, shape, array, named


@settings(max_examples=120, deadline=None)
@given(case=brought())
def test_what_is_taken_is_what_an_index_loop_says(case: Any) -> None:
    f, shape, array, named = case
    codes = np.zeros(f.codes_shape(shape), np.uint8)
    tensor_scale = 1.0 if f.tensor_scale else None
    kind = next(name for name, layout in KINDS.items() if layout == f.layout)
    grid = tuple(f.scale_grid(shape))
    known = named or kind
    right_type = array.dtype == (np.float32 if f.scale == "f32" else np.uint8) or (
        array.dtype == {"e4m3": ml_dtypes.float8_e4m3fn, "e8m0": ml_dtypes.float8_e8m0fnu}.get(str(f.scale))
    )
    right_shape = (
        array.shape == (32, 4, -(-grid[1] // 128), 4, -(-grid[2] // 4), grid[0])
        if known == "cutlass"
        else array.shape == (KINDS[known].size(*grid),)
        or (known == "linear" and array.shape == ((*shape[:-2], *grid[1:]) if len(shape) > 1 else grid[2:]))
    )
    if not (right_type and right_shape):
        with pytest.raises(DataError):
            Quantized.from_parts(codes, array, tensor_scale, f, shape, layout=named)
        return
    q = Quantized.from_parts(codes, array, tensor_scale, f, shape, layout=named)
    raw = array if f.scale == "f32" else array.view(np.uint8)
    wanted = loop(raw, known, shape, grid)
    np.testing.assert_array_equal(q.scale_grid(), wanted)
    assert q.scales.shape == (f.scales_size(shape),)
    for b, r, k in np.ndindex(*grid):
        assert q.scales[place(kind, b, r, k, *grid)] == wanted[b, r, k]


def test_row_major_scales_are_not_read_as_blocked() -> None:
    """What was taken before, with a relative error of 1.2 where quantizing has 0.13."""
    x = np.random.default_rng(0).standard_normal((128, 256)).astype(np.float32)
    q = quantize(x, "nvfp4")
    rows = q.scale_grid()[0]
    with pytest.raises(DataError, match=r"not one of shape \(128, 16\).*row-major scales: pass layout='linear'"):
        Quantized.from_parts(q.codes, rows, q.tensor_scale, "nvfp4", q.shape)
    for again in (
        Quantized.from_parts(q.codes, rows, q.tensor_scale, "nvfp4", q.shape, layout="linear"),
        Quantized.from_linear(q.codes, rows, q.tensor_scale, "nvfp4", q.shape),
        Quantized.from_linear(q.codes, rows.reshape(-1), q.tensor_scale, "nvfp4", q.shape),
    ):
        np.testing.assert_array_equal(again.scales, q.scales)
        assert np.linalg.norm(dequantize(again) - x) < 0.14 * np.linalg.norm(x)


def test_cutlass_view_is_named() -> None:
    q = quantize(np.random.default_rng(0).standard_normal((2, 200, 96)).astype(np.float32), "nvfp4")
    memory = q.scales.reshape(2, 2, 2, 32, 4, 4)  # [l, m, k, 32, 4, 4]
    view = memory.transpose(3, 4, 1, 5, 2, 0)
    with pytest.raises(DataError, match="CUTLASS's view .*layout='cutlass'"):
        Quantized.from_parts(q.codes, view, q.tensor_scale, "nvfp4", q.shape)
    again = Quantized.from_parts(q.codes, view, q.tensor_scale, "nvfp4", q.shape, layout="cutlass")
    np.testing.assert_array_equal(again.scales, q.scales)
    linear = replace(NVFP4, layout=LAYOUTS["linear"])
    other = Quantized.from_parts(q.codes, view, q.tensor_scale, linear, q.shape, layout="cutlass")
    np.testing.assert_array_equal(dequantize(other), dequantize(q))


def test_padded_rows_and_unknown_layouts_say_how_to_go_on() -> None:
    codes = np.zeros((128, 32), np.uint8)
    with pytest.raises(
        DataError, match=r"does not say which layout.*scales\.reshape\(-1\).*\(128, 4\).*layout='linear'"
    ):
        Quantized.from_parts(codes, np.zeros((32, 16), np.uint8), 1.0, "nvfp4", (128, 64))
    with pytest.raises(DataError, match="layout is a ScaleLayout or one of 'blocked_128x4', .*'cutlass', not 'rows'"):
        Quantized.from_parts(codes, np.zeros(512, np.uint8), 1.0, "nvfp4", (128, 64), layout="rows")


@pytest.mark.parametrize(
    ("codes", "scales", "message"),
    [
        (ml_dtypes.float8_e5m2, np.uint8, "codes are e4m3, but the array is float8_e5m2"),
        (np.uint8, ml_dtypes.float8_e4m3fn, "scales are e8m0, but the array is float8_e4m3fn"),
    ],
)
def test_bytes_of_another_type_are_refused(codes: Any, scales: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Quantized.from_parts(
            np.zeros((128, 128), np.uint8).view(codes), np.zeros(512, np.uint8).view(scales), None, "mxfp8", (128, 128)
        )


@pytest.mark.parametrize("byte", [0x80, 0xB8, 0xFE, 0xFF, 0x7F])
def test_e4m3_scales_are_numbers_of_sign_0(byte: int) -> None:
    q = quantize(np.ones((130, 64), np.float32), "nvfp4")
    codes, ts = q.codes, q.tensor_scale
    bad = q.scales.copy()
    bad[q.scale_places()[0, 129, 3]] = byte
    kind = "NaN" if byte & 0x7F == 0x7F else "negative"
    with pytest.raises(DataError, match=rf"0x{byte:02X}, which is {kind}, at block \(batch, row, k\) = \(0, 129, 3\)"):
        Quantized.from_parts(codes, bad, ts, "nvfp4", q.shape)
    if byte == 0x7F:
        assert np.isnan(
            dequantize(Quantized.from_parts(codes, bad, ts, "nvfp4", q.shape, nan_blocks=True))[129, 48:]
        ).all()
    else:
        with pytest.raises(DataError):
            Quantized.from_parts(codes, bad, ts, "nvfp4", q.shape, nan_blocks=True)
        with pytest.raises(DataError, match="negative byte"):
            dequantize(Quantized(codes, bad, ts, NVFP4, q.shape))


def test_padding_may_not_hold_them_either() -> None:
    q = quantize(np.ones((100, 64), np.float32), "nvfp4")
    dirty = q.scales.copy()
    free = np.setdiff1d(np.arange(512), q.scale_places())
    dirty[free] = 0xB8
    with pytest.raises(DataError, match=r"0xB8 in their padding, at element \d+"):
        Quantized.from_parts(q.codes, dirty, q.tensor_scale, "nvfp4", q.shape)
    clean = Quantized.from_parts(q.codes, dirty, q.tensor_scale, "nvfp4", q.shape, layout="blocked_128x4")
    np.testing.assert_array_equal(clean.scales, q.scales)


@pytest.mark.parametrize("quantizer", ["nvfp4_modelopt", "nvfp4_ct", "nvfp4_torchao", "nvfp4_amax"])
def test_a_nan_goes_there_and_back(quantizer: str) -> None:
    x = np.ones((4, 32), np.float32)
    x[1, 3] = np.nan
    q = quantize(x, "nvfp4", quantizer=quantizer, tensor_scale=0.01)
    again = Quantized.from_parts(q.codes, q.scales, q.tensor_scale, "nvfp4", q.shape, nan_blocks=True)
    np.testing.assert_array_equal(dequantize(again), dequantize(q))
    mx = quantize(x, "mxfp4")
    assert (mx.scale_grid() == 0xFF).sum() == 1  # MX's own NaN needs no leave
    np.testing.assert_array_equal(
        dequantize(Quantized.from_parts(mx.codes, mx.scales, None, "mxfp4", mx.shape)), dequantize(mx)
    )


@pytest.mark.parametrize(
    ("fmt", "value", "message"),
    [
        ("mxfp4", 2.0, "mxfp4 has no tensor scale"),
        ("mxfp4", "x", "mxfp4 has no tensor scale"),
        ("mxfp4", np.float32(1), "mxfp4 has no tensor scale"),
        ("nvfp4", "x", "expected a numpy array or a torch tensor, not str"),
        ("nvfp4", 1j, "expected a numpy array or a torch tensor, not complex"),
        ("nvfp4", True, "expected a numpy array or a torch tensor, not bool"),
        ("nvfp4", 1e300, "for which 1e\\+300 is too large"),
        ("nvfp4", 10**400, "is too large"),
        ("nvfp4", np.uint16(0x3F80), "is one float32, not uint16"),
    ],
)
def test_tensor_scales_that_are_none(fmt: str, value: Any, message: str) -> None:
    q = quantize(np.ones((128, 64), np.float32), fmt)
    with pytest.raises(DataError, match=message):
        Quantized.from_parts(q.codes, q.scales, value, fmt, q.shape)
    if not isinstance(value, (int, float, np.generic)) or fmt == "mxfp4":
        with pytest.raises(DataError, match=message):
            Quantized(q.codes, q.scales, value, q.format, q.shape)


def test_codes_of_another_shape_are_not_reshaped() -> None:
    q = quantize(np.ones((4, 64), np.float32), "nvfp4")
    with pytest.raises(DataError, match=r"are uint8 of the shape \(4, 32\), not uint8 of \(8, 16\)"):
        dequantize(Quantized(q.codes.reshape(8, 16), q.scales, q.tensor_scale, NVFP4, q.shape))

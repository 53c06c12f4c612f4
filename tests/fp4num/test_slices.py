"""Slices of quantized tensors: decoded, they are slices of the decoded tensor; what cuts a block is refused."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4num import FORMATS, LAYOUTS, DataError, Quantized, dequantize, quantize

TALL = replace(FORMATS["ds_weight"], name="tall", block=(4, 16), stored=(4, 16))
FORMS = [FORMATS[name] for name in ("nvfp4", "nvfp4_2d", "mxfp4", "mxfp6_e3m2", "mxfp8", "fp8_token")] + [TALL]


@st.composite
def cut(draw: st.DrawFn) -> tuple[Quantized, tuple[Any, ...]]:
    """A tensor and an index of it."""
    fmt = draw(st.sampled_from(FORMS))
    if fmt.scale != "f32":
        fmt = replace(fmt, layout=LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))])
    lead = draw(st.sampled_from([(), (), (2,), (2, 3)]))
    shape = (*lead, draw(st.sampled_from([1, 16, 33, 130])), draw(st.sampled_from([32, 64, 160])))
    x = np.random.default_rng(draw(st.integers(0, 99))).standard_normal(shape).astype(np.float32)
    key: list[Any] = []
    for axis, n in enumerate(shape):
        step = 16 if axis == len(shape) - 1 else draw(st.sampled_from([1, 4, 16]))
        bound = st.none() | st.integers(-n // step, n // step + 1).map(lambda i, step=step: i * step)
        whole = st.builds(slice, bound, bound)
        key.append(draw(whole if axis == len(shape) - 1 else whole | st.integers(0, n - 1)))
    if draw(st.booleans()):
        key = [*key[: draw(st.integers(0, len(key)))], ...]
    return quantize(x, fmt), tuple(key)


def test_a_slice_without_columns_has_no_block_to_cut() -> None:
    q = quantize(np.ones((2, 1, 32), np.float32), TALL)
    assert q[:, 0, :0].shape == (2, 0)
    with pytest.raises(DataError, match="blocks of 4 rows keep their axis"):
        q[:, 0, :16]


@settings(max_examples=60, deadline=None)
@given(case=cut())
def test_a_slice_decodes_to_the_slice_of_what_is_decoded(case: tuple[Quantized, tuple[Any, ...]]) -> None:
    q, key = case
    wanted = dequantize(q)[key]
    try:
        found = q[key]
    except DataError:
        assert cuts_a_block(q, key)
        return
    assert not cuts_a_block(q, key)
    assert found.shape == wanted.shape
    assert found.scales.shape == (found.format.scales_size(found.shape),)
    assert found.codes.flags.c_contiguous and found.tensor_scale is q.tensor_scale
    np.testing.assert_array_equal(dequantize(found), wanted)
    owned = np.zeros(found.scales.shape, bool)
    owned[found.scale_places()] = True
    assert (found.scales[~owned].view(np.uint8) == found.format.layout.pad).all()


def cuts_a_block(q: Quantized, key: tuple[Any, ...]) -> bool:
    """Whether a bound lies within a block, or rows that share a scale lose their axis while another takes its place,
    which does not matter where nothing is left."""
    keys = [k for k in key if k is not Ellipsis]
    keys += [slice(None)] * (len(q.shape) - len(keys))
    tall, wide = q.format.block
    for k, n, unit in ((keys[-2], q.shape[-2], tall), (keys[-1], q.shape[-1], wide)):
        step = n if unit == "all" else int(unit)
        low, high = (k, k + 1) if isinstance(k, int) else k.indices(n)[:2]
        if any(bound % step and bound != n for bound in (low, max(low, high))):
            return True
    rows = [len(range(*k.indices(n))) for k, n in zip(keys[:-1], q.shape[:-1], strict=True) if isinstance(k, slice)]
    columns = len(range(*keys[-1].indices(q.shape[-1])))
    shared = isinstance(keys[-2], int) and tall != 1 and q.format.stored[0] != 1
    return shared and bool(rows) and all(rows) and columns > 0 and rows[-1] > 1


def test_refusals_name_the_bounds_that_work() -> None:
    q = quantize(np.ones((130, 64), np.float32), "nvfp4")
    two = quantize(np.ones((130, 64), np.float32), "nvfp4_2d")
    for key, text in (
        ((slice(None), slice(8, 32)), "axis -1 is cut at 8, within a block of 16: cut at 0 or 16"),
        ((slice(None), 3), "the last axis holds the blocks and is sliced"),
        ((slice(0, 130, 2),), "sliced with step 1, not 2"),
        ((slice(None, None, -1),), "sliced with step 1, not -1"),
        ((130,), "axis 0 of 130 is indexed by an integer within it or a slice, not 130"),
        ((True,), "not True"),
        ((None, slice(None)), "not None"),
        (([1, 2],), r"not \[1, 2\]"),
        (("a",), "not 'a'"),
        ((slice("a", None),), "the bounds of a slice are integers"),
        ((..., ...), "too many"),
        ((0, slice(None), 0), "3 indices are too many"),
    ):
        with pytest.raises(DataError, match=text):
            q[key]
    with pytest.raises(DataError, match="axis -2 is cut at 8, within a block of 16: cut at 0 or 16"):
        two[8:32]
    ragged = quantize(np.ones((8, 64), np.float32), "nvfp4", offsets=[0, 3, 8])
    with pytest.raises(DataError, match="ragged"):
        ragged[:3]


@pytest.mark.parametrize("fmt", FORMS, ids=lambda f: f.name)
def test_a_pickled_tensor_comes_back_whole(fmt: Any) -> None:
    q = quantize(np.random.default_rng(0).standard_normal((48, 64)).astype(np.float32), fmt)
    back = pickle.loads(pickle.dumps(q))  # noqa: S301
    assert back.format == fmt and back.shape == q.shape and repr(back) == repr(q)
    np.testing.assert_array_equal(dequantize(back), dequantize(q))
    assert fmt is TALL or back.format is fmt


def test_padding_of_f32_scales_is_bytes() -> None:
    """`pad` is every byte of an element: laid anew by `layout=` or quantized, as by the layout's own `to_buffer`."""
    layout = replace(LAYOUTS["blocked_8x4"], name="padded", pad=255)
    f = replace(FORMATS["ds_act"], layout=layout)
    q = quantize(np.ones((3, 256), np.float32), f)
    rows = Quantized.from_linear(q.codes, q.scale_grid()[0], None, f, q.shape)
    for scales in (q.scales, rows.scales):
        assert scales.view(np.uint8).tobytes() == layout.to_buffer(q.scale_grid()).tobytes()

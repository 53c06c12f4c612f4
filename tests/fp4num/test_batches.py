"""Formats with a tensor scale for each batch: each batch is what it would be alone."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fp4num
from fp4num import FORMATS, BlockFormat, DataError, FormatError, Quantized

EXPERTS, ONE = FORMATS["nvfp4_experts"], FORMATS["nvfp4"]
DIVIDES = replace(EXPERTS, name="divides", tensor_scale="divides")


def tensor(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Batches of very different magnitudes."""
    rng = np.random.default_rng(seed)
    factor = np.exp2(rng.integers(-20, 20, (*shape[:-2], 1, 1)))
    return (rng.standard_normal(shape) * factor).astype(np.float32)


@settings(max_examples=30)
@given(
    st.lists(st.integers(1, 3), min_size=0, max_size=2), st.integers(1, 40), st.integers(1, 6), st.integers(0, 99),
    st.sampled_from([EXPERTS, DIVIDES]),
)  # fmt: skip
def test_each_batch_is_what_it_is_alone(lead: list[int], rows: int, blocks: int, seed: int, f: BlockFormat) -> None:
    x = tensor((*lead, rows, 16 * blocks), seed)
    q = fp4num.quantize(x, f)
    assert q.tensor_scale.shape == tuple(lead)
    decoded = fp4num.dequantize(q)
    for place in np.ndindex(*lead):
        alone, part = fp4num.quantize(x[place], replace(f, each_batch=False)), q[place] if lead else q
        assert part.tensor_scale == alone.tensor_scale and part.tensor_scale.shape == ()
        assert (part.codes == alone.codes).all() and (part.scales == alone.scales).all()
        assert (decoded[place] == fp4num.dequantize(alone)).all()
        assert (fp4num.dequantize(part) == decoded[place]).all()
        bare, alone_bare = (fp4num.dequantize(p, tensor_scale=False) for p in (part, alone))
        assert (bare == alone_bare).all()


def test_given_factors_are_one_a_batch() -> None:
    x, given = tensor((3, 4, 32)), np.array([1.0, 0.5, 8.0], np.float32)
    q = fp4num.quantize(x, EXPERTS, tensor_scale=given)
    assert (q.tensor_scale == given).all()
    amax = np.abs(x).max((1, 2))
    assert (fp4num.quantize(x, EXPERTS, amax=amax).codes == fp4num.quantize(x, EXPERTS).codes).all()
    for wrong in (1.0, given[:2], given[:, None]):
        with pytest.raises(DataError, match=r"one number a batch, of shape \(3,\)"):
            fp4num.quantize(x, EXPERTS, tensor_scale=wrong)
    with pytest.raises(DataError, match="each batch"):
        fp4num.quantize(x, EXPERTS, rounding="stochastic", rng=(1, 2))
    with pytest.raises(DataError):
        fp4num.quantize(x, EXPERTS, tensor_scale=np.array([1.0, -1.0, 1.0]))


def test_from_parts_takes_one_a_batch() -> None:
    q = fp4num.quantize(tensor((3, 4, 32)), EXPERTS)
    for fine in (q.tensor_scale, q.tensor_scale[:, None], q.tensor_scale[:, None, None]):
        made = Quantized.from_parts(q.codes, q.scales, fine, EXPERTS, q.shape)
        assert made.tensor_scale.shape == (3,) and (made.tensor_scale == q.tensor_scale).all()
    for wrong in (np.float32(1), q.tensor_scale[:2], q.tensor_scale[None], q.tensor_scale.astype(np.float64)):
        with pytest.raises(DataError, match=r"one for each batch: of shape \(3,\)"):
            Quantized.from_parts(q.codes, q.scales, wrong, EXPERTS, q.shape)
    with pytest.raises(DataError, match="one float32"):
        Quantized.from_parts(q.codes, q.scales, q.tensor_scale, ONE, q.shape)
    with pytest.raises(DataError):
        Quantized(q.codes, q.scales, 1.0, EXPERTS, q.shape)


def test_slices_keep_their_tensor_scales() -> None:
    x = tensor((2, 3, 8, 32))
    q = fp4num.quantize(x, EXPERTS)
    for key in ((1,), (slice(None), 2), (slice(0, 1), slice(1, 3), slice(2, 5)), (..., slice(16, 32)), (1, 0)):
        assert (fp4num.dequantize(q[key]) == fp4num.dequantize(q)[key]).all()
    with pytest.raises(DataError, match="rows are sliced"):
        _ = q[:, :, 3]


def test_the_format_says_so_everywhere() -> None:
    assert BlockFormat.from_json(EXPERTS.to_json()) == EXPERTS
    assert "each_batch" not in ONE.to_json()  # what older manifests hold means the same
    assert EXPERTS.mismatches(ONE) == ("tensor scale of each batch, not of the whole tensor",)
    q = copy.deepcopy(fp4num.quantize(tensor((2, 4, 32)), EXPERTS))  # by `__reduce__`, as it is pickled
    assert q.format is EXPERTS and q.tensor_scale.shape == (2,)
    with pytest.raises(FormatError, match="none for each batch"):
        replace(FORMATS["mxfp4"], each_batch=True)
    with pytest.raises(FormatError, match="true or false"):
        BlockFormat.from_json({**ONE.to_json(), "each_batch": 1})


def test_of_no_batches() -> None:
    q = fp4num.quantize(np.zeros((0, 4, 32), np.float32), EXPERTS)
    assert q.tensor_scale.shape == (0,) and fp4num.dequantize(q).shape == (0, 4, 32)

"""What arrays say that they hold: codes never pass for numbers, with ml_dtypes and without."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fp4num import DataError, decode, dequantize, encode, hadamard, quantize
from fp4num.dtypes import codes_dtype, element_of, numbers, raw_codes

X = np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)


@pytest.fixture(params=["ml_dtypes", "none"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With ml_dtypes, and as if it were not installed."""
    if request.param == "none":
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    codes_dtype.cache_clear()
    yield request.param
    codes_dtype.cache_clear()


@pytest.mark.parametrize("element", ["bf16", "e4m3", "e5m2"])
def test_codes_that_say_so_are_quantized_as_what_they_are(held: str, element: str) -> None:
    array = encode(X, element).view(codes_dtype(element))
    assert (array.dtype.names is None) == (held == "ml_dtypes")
    assert element_of(array.dtype) == element
    wanted = quantize(decode(encode(X, element), element), "nvfp4")
    other = (array[:, ::1], array.copy(), np.concatenate([array[:2], array[2:]]), np.asarray(array, order="F"))
    for same in (array, *other):
        q = quantize(same, "nvfp4")
        np.testing.assert_array_equal(q.codes, wanted.codes)
        np.testing.assert_array_equal(dequantize(q), dequantize(wanted))
    np.testing.assert_array_equal(decode(array, element), decode(encode(X, element), element))
    np.testing.assert_array_equal(raw_codes(array, element), encode(X, element))


def test_codes_are_of_one_element(held: str) -> None:
    array = encode(X, "e4m3").view(codes_dtype("e4m3"))
    with pytest.raises(DataError, match="the array holds e4m3, not e5m2"):
        decode(array, "e5m2")
    assert decode(array, "ue4m3").shape == X.shape


def test_without_ml_dtypes_numpy_refuses_what_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    codes_dtype.cache_clear()
    array = encode(X, "bf16").view(codes_dtype("bf16"))
    codes_dtype.cache_clear()
    for wrong in (lambda: array + array, lambda: array.astype(np.float32), lambda: np.asarray(array, np.float64)):
        with pytest.raises(TypeError):
            wrong()
    file = io.BytesIO()
    np.save(file, array)
    file.seek(0)
    assert element_of(np.load(file).dtype) == "bf16"
    assert element_of(array.view(np.uint16).dtype) is None


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "int16", "int32", "int64", "uint64"])
def test_integers_are_no_numbers(dtype: str) -> None:
    array = np.ones((4, 32), dtype)
    with pytest.raises(DataError, match=f"x is {dtype}: integers are no numbers here.*decode"):
        quantize(array, "mxfp4")
    with pytest.raises(DataError, match="integers are no numbers"):
        quantize(list(array) if dtype != "int64" else array, "mxfp4")
    with pytest.raises(DataError, match="amax is .*integers"):
        quantize(X, "nvfp4", amax=array[0, 0])
    for other in (lambda: encode(array, "bf16"), lambda: hadamard(array, 32)):
        with pytest.raises(DataError, match="integers are no numbers"):
            other()
    assert quantize(array.astype(np.float32), "mxfp4").shape == (4, 32)


def test_pythons_own_numbers_may_be_integers() -> None:
    np.testing.assert_array_equal(dequantize(quantize([[1, 2] * 16], "mxfp4")), [[1, 2] * 16])
    quantize(X, "nvfp4", tensor_scale=1)


@pytest.mark.parametrize(
    "wrong",
    [
        np.ones((2, 32), bool),
        np.ones((2, 32), complex),
        np.array([["a"] * 32]),
        np.zeros((2, 32), [("a", "u1"), ("b", "u1")]),
        np.zeros((2, 32), [("bf16", "u1")]),
        np.zeros((2, 32), "V2"),
        np.ones((2, 32), ml_dtypes.int4),
        np.ma.masked_array(np.ones((2, 32)), np.ones((2, 32), bool)),
        np.full((2, 32), None),
        [[1.0], [1.0, 2.0]],
    ],
)
def test_what_is_no_number_is_named(wrong: Any) -> None:
    with pytest.raises(DataError, match="x is "):
        quantize(wrong, "mxfp4")


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e3m4", "float4_e2m1fn"])
def test_all_of_ml_dtypes_floats_are_numbers(name: str) -> None:
    values = np.float32([0.5, 1, 2]).astype(getattr(ml_dtypes, name))
    np.testing.assert_array_equal(np.asarray(numbers(values, "x"), np.float32), [0.5, 1, 2])

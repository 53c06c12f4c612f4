"""Block formats: sizes, JSON, malformed definitions; `Quantized.from_parts` and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

import ml_dtypes
import numpy as np
import pytest

from fp4num import FORMATS, LAYOUTS, BlockFormat, DataError, FormatError, Quantized, dequantize, quantize

NVFP4 = FORMATS["nvfp4"]


def test_sizes_of_nvfp4() -> None:
    assert NVFP4.bits == 4
    assert NVFP4.codes_shape((3, 130, 80)) == (3, 130, 40)
    assert NVFP4.scale_grid((3, 130, 80)) == (3, 130, 5)
    assert NVFP4.scales_size((3, 130, 80)) == 3 * 256 * 8
    assert NVFP4.codes_shape((64,)) == (32,)
    assert FORMATS["mxfp6"].codes_shape((2, 64)) == (2, 48)
    assert FORMATS["fp8_token"].scales_size((7, 100)) == 7
    assert FORMATS["nvfp4_2d"].block_grid((40, 64)) == (1, 3, 4)
    assert FORMATS["nvfp4_2d"].scale_grid((40, 64)) == (1, 40, 4)
    assert FORMATS["ds_weight"].scale_grid((200, 256)) == (1, 2, 2)


@pytest.mark.parametrize("name", FORMATS)
def test_json_round_trip(name: str) -> None:
    fmt = FORMATS[name]
    assert BlockFormat.from_json(fmt.to_json()) == fmt
    assert BlockFormat.from_json(json.dumps(fmt.to_json())) == fmt
    assert hash(BlockFormat.from_json(fmt.to_json())) == hash(fmt)


def test_json_is_strict() -> None:
    good = NVFP4.to_json()
    with pytest.raises(FormatError, match="has the fields"):
        BlockFormat.from_json({k: v for k, v in good.items() if k != "pack"})
    with pytest.raises(FormatError, match="rows and columns"):
        BlockFormat.from_json({**good, "block": [16]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"element": "e9m9"}, "the element is one of"),
        ({"scale": "e5m2"}, "the scale is one of"),
        ({"pack": None}, "e2m1 has pack low_first, not None"),
        ({"element": "e4m3"}, "e4m3 has pack None, not low_first"),
        ({"tensor_scale": "adds"}, "multiplies or divides"),
        ({"block": (0, 16)}, "a block's rows are a positive number or all, not 0"),
        ({"block": (1, "some")}, "a block's columns are a positive number or all, not 'some'"),
        ({"stored": (1, 12)}, "stored columns 12 do not divide the block's 16"),
        ({"stored": (1, "all")}, "stored columns all do not divide"),
    ],
)
def test_malformed_formats_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        replace(NVFP4, **change)


def test_mismatches_say_where_two_types_differ() -> None:
    assert NVFP4.mismatches(replace(NVFP4, name="mine", quantizer="nvfp4_ct")) == ()
    other = replace(NVFP4, layout=LAYOUTS["linear"], tensor_scale="divides")
    assert NVFP4.mismatches(other) == (
        "layout blocked_128x4 is not linear",
        "tensor scale multiplies, not divides",
    )
    assert NVFP4.mismatches(FORMATS["mxfp4"])[:2] == ("scale e4m3 is not e8m0", "scale per 1 x 16, not 1 x 32")


def test_from_parts_takes_other_one_byte_types() -> None:
    q = quantize(np.ones((128, 64), np.float32), "nvfp4")
    scales = q.scales.view(ml_dtypes.float8_e4m3fn)
    again = Quantized.from_parts(q.codes, scales, np.float32(q.tensor_scale), "nvfp4", (128, 64))
    assert again.scales.dtype == np.uint8
    np.testing.assert_array_equal(dequantize(again), 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": np.zeros((128, 64), np.uint8)}, r"codes of nvfp4\[128, 64\] have the shape \(128, 32\)"),
        ({"codes": np.zeros((128, 32), np.int32)}, "codes are bytes"),
        ({"scales": np.zeros(511, np.uint8)}, "scales of nvfp4.* fill 512 elements in layout blocked_128x4"),
        ({"scales": np.zeros(512, np.float32)}, "scales are bytes"),
        ({"tensor_scale": None}, "none was given"),
        ({"tensor_scale": np.zeros(2, np.float32)}, "is one float32, not float32 of shape"),
        ({"tensor_scale": np.zeros(())}, "is one float32, not float64"),
        ({"tensor_scale": "1"}, "the tensor scale: expected a numpy array or a torch tensor, not str"),
        ({"codes": [[0] * 32] * 128}, "codes: expected a numpy array or a torch tensor, not list"),
        ({"scales": b""}, "scales: expected a numpy array or a torch tensor, not bytes"),
        ({"shape": 64}, r"shape is the tensor's sizes, such as \(128, 256\), not 64"),
        ({"shape": "ab"}, "shape is the tensor's sizes"),
        ({"shape": (128.0, 64)}, "shape is the tensor's sizes"),
        ({"fmt": "mxfp4"}, "fill 512 elements|has no tensor scale"),
        (
            {"fmt": "ds_act", "codes": np.zeros((128, 128), np.uint8), "shape": (128, 128)},
            "scales of ds_act are float32",
        ),
    ],
)
def test_from_parts_names_what_is_wrong(change: dict[str, Any], message: str) -> None:
    parts: dict[str, Any] = {
        "codes": np.zeros((128, 32), np.uint8),
        "scales": np.zeros(512, np.uint8),
        "tensor_scale": np.float32(1),
        "fmt": "nvfp4",
        "shape": (128, 64),
    }
    with pytest.raises(DataError, match=message):
        Quantized.from_parts(**{**parts, **change})


def test_what_is_not_quantized_is_not_dequantized() -> None:
    with pytest.raises(DataError, match="dequantize takes a Quantized, not ndarray"):
        dequantize(cast("Quantized", np.zeros((2, 32), np.uint8)))


def test_scales_that_are_not_laid_out_get_a_hint() -> None:
    with pytest.raises(DataError, match="lay them out with blocked_128x4's to_buffer"):
        Quantized.from_parts(np.zeros((2, 32), np.uint8), np.zeros(8, np.uint8), 1.0, "nvfp4", (2, 64))


def test_dequantize_without_the_tensor_scale() -> None:
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    q = quantize(x, "nvfp4")
    np.testing.assert_array_equal(dequantize(q), dequantize(q, tensor_scale=False) * q.tensor_scale)


def test_a_format_without_scales() -> None:
    plain = BlockFormat("plain", "e4m3", None, None, (1, "all"), (1, "all"), LAYOUTS["linear"], None, "absmax")
    q = Quantized.from_parts(np.full((2, 3), 0x38, np.uint8), None, None, plain, (2, 3))
    np.testing.assert_array_equal(dequantize(q), 1)

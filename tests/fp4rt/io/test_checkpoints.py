"""Checkpoints: each convention there and back, values unchanged; the file format against safetensors' own library."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fp4num import FORMATS, LAYOUTS, BlockFormat, Quantized, decode, dequantize, quantize, unpack
from fp4rt import CheckpointError, io

NVFP4 = FORMATS["nvfp4"]
ENCODE = replace(NVFP4, tensor_scale="divides", quantizer="nvfp4_ct")
SCHEMES = {"nvfp4-pack-quantized": "nvfp4", "mxfp4-pack-quantized": "mxfp4", "mxfp8-quantized": "mxfp8_e4m3"}


def weights(fmt: BlockFormat | str = "nvfp4", shape: tuple[int, ...] = (130, 192), seed: int = 0) -> Quantized:
    return quantize(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), fmt)


def e2m1(packed: np.ndarray) -> np.ndarray:
    return decode(unpack(np.ascontiguousarray(packed), 4), "e2m1")


def same(a: Quantized, b: Quantized) -> None:
    assert a.format == b.format and a.shape == b.shape
    np.testing.assert_array_equal(a.codes, b.codes)
    np.testing.assert_array_equal(a.scales, b.scales)
    if a.tensor_scale is not None:
        assert a.tensor_scale == b.tensor_scale


def test_modelopt_names_values_and_back() -> None:
    q = weights()
    tensors = io.to_modelopt(io.Linear(q, np.float32(0.25)), "up")
    assert {n: (t.dtype, t.shape) for n, t in tensors.items()} == {
        "up.weight": ("U8", (130, 96)),
        "up.weight_scale": ("F8_E4M3", (130, 12)),
        "up.weight_scale_2": ("F32", ()),
        "up.input_scale": ("F32", ()),
    }
    second = tensors["up.weight_scale_2"].data
    scales = decode(tensors["up.weight_scale"].data, "e4m3").repeat(16, axis=1)
    np.testing.assert_array_equal(e2m1(tensors["up.weight"].data) * scales * second, dequantize(q))
    layer = io.from_modelopt(tensors, "up")
    same(layer.weight, q)
    assert layer.input_scale == np.float32(0.25)


def test_modelopt_into_an_encoding_format_takes_the_reciprocal() -> None:
    q = weights()
    layer = io.from_modelopt(io.to_modelopt(io.Linear(q, np.float32(0.3)), "up"), "up", ENCODE)
    assert layer.weight.tensor_scale == np.float32(1) / q.tensor_scale
    assert layer.input_scale == np.float32(1) / np.float32(0.3)
    np.testing.assert_allclose(dequantize(layer.weight), dequantize(q), rtol=3e-7)
    back = io.to_modelopt(layer, "up")["up.weight_scale_2"].data
    np.testing.assert_allclose(back, q.tensor_scale, rtol=2e-7)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_compressed_tensors_there_and_back(scheme: Any) -> None:
    fmt = ENCODE if scheme.startswith("nvfp4") else FORMATS[SCHEMES[scheme]]
    q = weights(fmt)
    tensors = io.to_compressed_tensors(q, "m.down", scheme)
    layer = io.from_compressed_tensors(tensors, "m.down", scheme, fmt)
    same(layer.weight, q)
    assert layer.input_scale is None
    prelude = io.from_compressed_tensors(tensors, "m.down", scheme)
    assert prelude.weight.format == FORMATS[SCHEMES[scheme]]
    np.testing.assert_allclose(dequantize(prelude.weight), dequantize(q), rtol=3e-7)


def test_compressed_tensors_value_is_divided_by_the_global_scale() -> None:
    q = weights(ENCODE)
    tensors = io.to_compressed_tensors(io.Linear(q, np.float32(5)), "x", "nvfp4-pack-quantized")
    assert tensors["x.weight_global_scale"].shape == (1,)
    assert tensors["x.input_global_scale"].data.tolist() == [5]
    scales = decode(tensors["x.weight_scale"].data, "e4m3").repeat(16, axis=1)
    value = e2m1(tensors["x.weight_packed"].data) * scales / tensors["x.weight_global_scale"].data
    np.testing.assert_array_equal(value, dequantize(q))


def test_modelopt_and_compressed_tensors_hold_reciprocal_scales() -> None:
    q = quantize(np.random.default_rng(1).standard_normal((16, 64)).astype(np.float32), "nvfp4", tensor_scale=2.0**-8)
    decode_scale = io.to_modelopt(q, "w")["w.weight_scale_2"].data.item()
    encode_scale = io.to_compressed_tensors(q, "w", "nvfp4-pack-quantized")["w.weight_global_scale"].data.item()
    assert decode_scale == 1 / encode_scale == 2.0**-8


@pytest.mark.parametrize("shape", [(64, 96), (3, 64, 96)])
def test_gpt_oss_there_and_back(shape: tuple[int, ...]) -> None:
    q = weights("mxfp4", shape)
    tensors = io.to_gpt_oss(q, "mlp1_weight")
    blocks, scales = tensors["mlp1_weight_blocks"], tensors["mlp1_weight_scales"]
    assert blocks.shape == (*shape[:-1], 3, 16) and scales.shape == (*shape[:-1], 3)
    values = e2m1(blocks.data) * np.ldexp(1.0, scales.data.astype(int) - 127)[..., None]
    np.testing.assert_array_equal(values.reshape(shape), dequantize(q))
    same(io.from_gpt_oss(tensors, "mlp1_weight"), q)


@pytest.mark.parametrize("swizzled", [False, True])
@pytest.mark.parametrize("name", ["nvfp4", "mxfp4", "mxfp8_e4m3", "mxfp8_e5m2"])
def test_torchao_there_and_back(name: str, swizzled: bool) -> None:
    q = weights(name, (130, 96))
    parts = io.to_torchao(q, "l._weight_", swizzled=swizzled)
    columns = 6 if name == "nvfp4" else 3
    assert parts["l._weight_scale"].shape == ((64, 32 if name == "nvfp4" else 16) if swizzled else (130, columns))
    if swizzled:
        np.testing.assert_array_equal(parts["l._weight_scale"].data.reshape(-1), q.scales)
    same(io.from_torchao(parts, "l._weight_", swizzled=swizzled, fmt=name), q)


def test_torchao_without_a_tensor_scale() -> None:
    single = replace(NVFP4, tensor_scale=None, quantizer="nvfp4_torchao")
    parts = io.to_torchao(weights(single), "", swizzled=False)
    assert set(parts) == {"qdata", "scale"}
    q = io.from_torchao(parts, "", swizzled=False, fmt="nvfp4")
    assert float(q.tensor_scale) == 1.0
    with_scale = io.to_torchao(weights(), "", swizzled=False)
    with pytest.raises(CheckpointError, match="has no tensor scale"):
        io.from_torchao(with_scale, "", swizzled=False, fmt=single)


def test_swizzled_is_read_from_the_metadata(tmp_path: Path) -> None:
    attributes = {"_type": "NVFP4Tensor", "_data": {"is_swizzled_scales": True}}
    at = tmp_path / "model.safetensors"
    io.save_checkpoint(at, io.to_torchao(weights(), "l._weight_", swizzled=True), {"l.weight": json.dumps(attributes)})
    checkpoint = io.open_checkpoint(at)
    assert io.swizzled_in(checkpoint, "l.weight") is True
    with pytest.raises(CheckpointError, match="do not say whether") as caught:
        io.swizzled_in(checkpoint, "other.weight")
    assert caught.value.code == "FP6402"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_format_with_any_layout(layout: str) -> None:
    q = weights()
    other = io.from_modelopt(io.to_modelopt(q, "w"), "w", replace(NVFP4, layout=LAYOUTS[layout])).weight
    assert other.format.layout.name == layout
    np.testing.assert_array_equal(dequantize(other), dequantize(q))


def test_other_libraries_arrays_are_taken() -> None:
    q = weights()
    tensors: dict[str, Any] = {n: t.data for n, t in io.to_modelopt(q, "w").items()}
    tensors["w.weight_scale"] = tensors["w.weight_scale"].view(ml_dtypes.float8_e4m3fn)
    tensors["w.weight_scale_2"] = q.tensor_scale.astype(ml_dtypes.bfloat16)
    layer = io.from_modelopt(tensors, "w")
    np.testing.assert_array_equal(layer.weight.codes, q.codes)
    assert layer.weight.tensor_scale == np.float32(q.tensor_scale.astype(ml_dtypes.bfloat16))


Change = Callable[[dict[str, Any]], Mapping[str, Any]]


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "w.weight_scale"}, "FP6402", "no tensor 'w.weight_scale'"),
        (lambda t: {**t, "w.weight": t["w.weight"].data.astype(np.int32)}, "FP6403", "w.weight is U8, not I32"),
        (lambda t: {**t, "w.weight_scale": t["w.weight_scale"].data}, "FP6403", "is F8_E4M3, not U8"),
        (lambda t: {**t, "w.weight": t["w.weight"].data[:, :-8]}, "FP6404", r"the shape \(130, 11\), not \(130, 12\)"),
        (lambda t: {**t, "w.weight_scale_2": np.ones(2, np.float32)}, "FP6404", "holds one number"),
        (lambda t: {**t, "w.weight_scale_2": np.float32(0)}, "FP6405", "a positive scale, not 0"),
        (lambda t: {**t, "w.weight_scale_2": np.float32(np.nan)}, "FP6405", "a positive scale, not nan"),
        (lambda t: {**t, "w.weight": "text"}, "FP6403", "no dtype of a checkpoint"),
    ],
)
def test_wrong_tensors_are_named(change: Change, code: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        io.from_modelopt(change(dict(io.to_modelopt(weights(), "w"))), "w")
    assert caught.value.code == code


def test_a_missing_tensor_lists_its_neighbors() -> None:
    with pytest.raises(CheckpointError) as caught:
        io.from_modelopt(io.to_compressed_tensors(weights(), "w", "nvfp4-pack-quantized"), "w")
    assert "w.weight_global_scale, w.weight_packed" in caught.value.help


@pytest.mark.parametrize(
    "call",
    [
        lambda: io.from_modelopt({}, "w", "mxfp4"),
        lambda: io.to_modelopt(weights("mxfp4"), "w"),
        lambda: io.from_compressed_tensors({}, "w", "mxfp4-pack-quantized", "nvfp4"),
        lambda: io.from_compressed_tensors({}, "w", "int4"),  # type: ignore[arg-type]
        lambda: io.from_gpt_oss({}, "w", "mxfp8"),
        lambda: io.from_torchao({}, "w", swizzled=False, fmt="mxfp6"),
        lambda: io.from_modelopt(io.to_modelopt(weights(), "w"), "w", replace(NVFP4, tensor_scale=None)),
    ],
)
def test_formats_that_a_checkpoint_does_not_hold(call: Callable[[], Any]) -> None:
    with pytest.raises(CheckpointError) as caught:
        call()
    assert caught.value.code == "FP6405"


@pytest.mark.parametrize(
    "call",
    [
        lambda: io.to_modelopt(weights(shape=(2, 16, 32)), "w"),
        lambda: io.from_gpt_oss({"w_blocks": np.zeros((4, 2, 8), np.uint8)}, "w"),
        lambda: io.from_torchao(io.to_torchao(weights(), "", swizzled=False), "", swizzled=True, fmt="nvfp4"),
    ],
)
def test_wrong_shapes(call: Callable[[], Any]) -> None:
    with pytest.raises(CheckpointError) as caught:
        call()
    assert caught.value.code == "FP6404"


def test_files_are_safetensors_own(tmp_path: Path) -> None:
    """What we write their library reads, and the other way."""
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.arange(5, dtype=np.uint8),
        "c": np.float16([[1.5]]),
        "empty": np.zeros((0, 4), np.float32),
    }
    io.save_checkpoint(tmp_path / "ours.safetensors", arrays, {"made": "here"})
    save_file(arrays, tmp_path / "theirs.safetensors", {"made": "there"})
    theirs = load_file(tmp_path / "ours.safetensors")
    ours = io.open_checkpoint(tmp_path / "theirs.safetensors")
    assert ours.metadata == {"made": "there"} and set(ours) == set(theirs) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(theirs[name], array)
        np.testing.assert_array_equal(ours[name].data, array)


def test_a_quantized_layer_through_a_file(tmp_path: Path) -> None:
    q = weights()
    io.save_checkpoint(tmp_path / "model.safetensors", io.to_modelopt(q, "layers.0.up"))
    same(io.from_modelopt(io.open_checkpoint(tmp_path), "layers.0.up").weight, q)


def test_an_index_of_shards(tmp_path: Path) -> None:
    q = weights()
    tensors = io.to_modelopt(q, "w")
    names = sorted(tensors)
    files = {name: f"model-0000{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        io.save_checkpoint(tmp_path / file, {n: tensors[n] for n in names if files[n] == file})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    same(io.from_modelopt(io.open_checkpoint(tmp_path), "w").weight, q)
    for bad in ({"w": "../evil.safetensors"}, {"nothing": files[names[0]]}, {"w": "absent.safetensors"}):
        index.write_text(json.dumps({"weight_map": bad}))
        with pytest.raises(CheckpointError) as caught:
            io.open_checkpoint(index)
        assert caught.value.code == "FP6401"


def header(entries: Any, data: bytes = b"1234") -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        (1 << 60).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{]",
        header([]),
        header({"t": {"dtype": "F32", "shape": [1]}}),
        header({"t": {"dtype": 99, "shape": [1], "data_offsets": [0, 4]}}),
        header({"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}),
        header({"t": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}),
        header({"t": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}),
        header({"t": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, content: bytes) -> None:
    at = tmp_path / "bad.safetensors"
    at.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        io.open_checkpoint(at)
    assert caught.value.code == "FP6401"


def test_missing_files(tmp_path: Path) -> None:
    for at in (tmp_path, tmp_path / "no.safetensors", tmp_path / "no.json"):
        with pytest.raises(CheckpointError) as caught:
            io.open_checkpoint(at)
        assert caught.value.code == "FP6401"
    with pytest.raises(CheckpointError, match="cannot be written"):
        io.save_checkpoint(tmp_path / "no" / "x.safetensors", {})

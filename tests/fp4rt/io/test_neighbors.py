"""What lies beside a weight, scales that are none, reciprocals that leave float32, and torchao's batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fp4num import FORMATS, Quantized, dequantize, quantize
from fp4rt import CheckpointError, io
from fp4rt.io.tensors import Tensor

NVFP4 = FORMATS["nvfp4"]
ENCODE = replace(NVFP4, tensor_scale="divides", quantizer="nvfp4_ct")
Read = Callable[..., Any]


def weights(fmt: Any = "nvfp4", shape: tuple[int, ...] = (32, 64), **kwargs: Any) -> Quantized:
    return quantize(np.random.default_rng(0).standard_normal(shape).astype(np.float32), fmt, **kwargs)


def torchao(tensors: Any, name: str, **kwargs: Any) -> Quantized:
    return io.from_torchao(tensors, name, swizzled=False, fmt="nvfp4", **kwargs)


def compressed(scheme: Any) -> Read:
    return lambda tensors, name, **kwargs: io.from_compressed_tensors(tensors, name, scheme, **kwargs)


#: Reader, its tensors, the prefix, and what its layers may have beside them.
CONVENTIONS: dict[str, tuple[Read, Callable[[], dict[str, Tensor]], str, tuple[str, ...]]] = {
    "modelopt": (io.from_modelopt, lambda: io.to_modelopt(weights(), "w"), "w.", ("k_scale", "v_scale")),
    "ct_nvfp4": (
        compressed("nvfp4-pack-quantized"),
        lambda: io.to_compressed_tensors(weights(), "w", "nvfp4-pack-quantized"),
        "w.",
        ("q_scale", "k_scale"),
    ),
    "ct_mxfp4": (
        compressed("mxfp4-pack-quantized"),
        lambda: io.to_compressed_tensors(weights("mxfp4"), "w", "mxfp4-pack-quantized"),
        "w.",
        ("v_scale",),
    ),
    "ct_mxfp8": (
        compressed("mxfp8-quantized"),
        lambda: io.to_compressed_tensors(weights("mxfp8"), "w", "mxfp8-quantized"),
        "w.",
        (),
    ),
    "gpt_oss": (io.from_gpt_oss, lambda: io.to_gpt_oss(weights("mxfp4"), "w"), "w_", ("bias",)),
    "torchao": (torchao, lambda: io.to_torchao(weights(), "w_", swizzled=False), "w_", ()),
}
#: Tensors that checkpoints are known to hold beside a weight, and names that nobody knows.
STRANGERS = (
    "weight_g_idx", "weight_zero_point", "input_zero_point", "weight_shape", "output_scale", "input_scale_2",
    "R4_input.weight", "hadamard_weight_output", "act_per_tensor_scale", "act_pre_scale", "svdquant_lora_a", "anything",
)  # fmt: skip


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("saved", [False, True])
def test_no_neighbor_is_dropped_in_silence(convention: str, saved: bool, tmp_path: Path) -> None:
    read, make, prefix, harmless = CONVENTIONS[convention]
    name = prefix if convention == "torchao" else prefix[:-1]
    one = np.ones(1, np.float32)

    def tensors(beside: str) -> Any:
        named = {**make(), prefix + beside: one, "w2.weight_g_idx": one, "other": one}
        if not saved:
            return named
        at = tmp_path / f"{beside}.safetensors"
        io.save_checkpoint(at, named)
        return io.open_checkpoint(at)

    wanted = read(make(), name)
    for beside in harmless:
        read(tensors(beside), name)
    for beside in STRANGERS:
        full = prefix + beside
        with pytest.raises(CheckpointError, match=f"beside the weight there is '{full}'") as caught:
            read(tensors(beside), name)
        assert caught.value.code == "FP6406" and f"ignoring=({full!r},)" in caught.value.help
        for ignoring in (full, [full], {full, "w.x"}):
            again = read(tensors(beside), name, ignoring=ignoring)
            first, second = (getattr(x, "weight", x) for x in (wanted, again))
            np.testing.assert_array_equal(dequantize(first), dequantize(second))


def test_tensor_scales_of_other_schemes_are_strangers() -> None:
    for scheme, fmt in (("mxfp4-pack-quantized", "mxfp4"), ("mxfp8-quantized", "mxfp8")):
        tensors = io.to_compressed_tensors(weights(fmt), "w", scheme)  # type: ignore[arg-type]
        for beside in ("weight_global_scale", "input_global_scale"):
            with pytest.raises(CheckpointError, match=beside):
                compressed(scheme)({**tensors, f"w.{beside}": np.ones(1, np.float32)}, "w")


def test_what_is_understood_is_handed_out() -> None:
    awq, bias = np.linspace(0.5, 2, 64).astype(np.float32), np.arange(32, dtype=np.float16)
    tensors = {**io.to_modelopt(weights(), "w"), "w.pre_quant_scale": awq, "w.bias": bias}
    layer = io.from_modelopt(tensors, "w")
    assert layer.pre_quant_scale is not None and layer.bias is not None
    np.testing.assert_array_equal(layer.pre_quant_scale, awq)
    np.testing.assert_array_equal(layer.bias, bias)
    back = io.from_modelopt(io.to_modelopt(layer, "w"), "w")
    np.testing.assert_array_equal(back.pre_quant_scale, awq)
    np.testing.assert_array_equal(back.bias, bias)
    with pytest.raises(CheckpointError, match="no place for a pre_quant_scale") as caught:
        io.to_compressed_tensors(layer, "w", "nvfp4-pack-quantized")
    assert caught.value.code == "FP6406"
    plain = io.Linear(layer.weight, layer.input_scale, bias=layer.bias)
    again = io.from_compressed_tensors(
        io.to_compressed_tensors(plain, "w", "nvfp4-pack-quantized"), "w", "nvfp4-pack-quantized"
    )
    np.testing.assert_array_equal(again.bias, bias)
    mx = io.Linear(weights("mxfp4"), np.float32(2))
    with pytest.raises(CheckpointError, match="no place for a tensor scale of the activations"):
        io.to_compressed_tensors(mx, "w", "mxfp4-pack-quantized")
    for wrong, code in ((awq[:-1], "FP6404"), (awq * np.nan, "FP6405"), (np.ones(64, np.int32), "FP6403")):
        with pytest.raises(CheckpointError) as caught:
            io.from_modelopt({**tensors, "w.pre_quant_scale": wrong}, "w")
        assert caught.value.code == code


@pytest.mark.parametrize("byte", [0x7F, 0x80, 0xB8, 0xFF])
@pytest.mark.parametrize("convention", ["modelopt", "ct_nvfp4", "torchao"])
def test_scales_that_are_none(convention: str, byte: int) -> None:
    read, make, prefix, _ = CONVENTIONS[convention]
    tensors = make()
    key = prefix + ("scale" if convention == "torchao" else "weight_scale")
    data = tensors[key].data.copy()
    data[7, 2] = byte
    with pytest.raises(CheckpointError, match=rf"{key}\[7, 2\] is the byte 0x{byte:02X}") as caught:
        read({**tensors, key: Tensor("F8_E4M3", data)}, prefix if convention == "torchao" else "w")
    assert caught.value.code == "FP6407"


def test_nan_scales_are_not_written() -> None:
    x = np.ones((4, 32), np.float32)
    x[1, 3] = np.nan
    q = quantize(x, "nvfp4", quantizer="nvfp4_modelopt", tensor_scale=0.01)
    for write in (
        lambda: io.to_modelopt(q, "w"),
        lambda: io.to_compressed_tensors(q, "w", "nvfp4-pack-quantized"),
        lambda: io.to_torchao(q, "w", swizzled=True),
    ):
        with pytest.raises(CheckpointError) as caught:
            write()
        assert caught.value.code == "FP6407"
    mx = quantize(x, "mxfp4")  # the NaN of MX itself goes there and back
    np.testing.assert_array_equal(io.from_gpt_oss(io.to_gpt_oss(mx, "w"), "w").scales, mx.scales)


@pytest.mark.parametrize("value", [1e-45, 2e-39, 1.5e38, 3e38])
def test_reciprocals_that_leave_float32_are_named(value: float) -> None:
    scale = np.float32(value)
    q = Quantized(weights().codes, weights().scales, np.asarray(scale), NVFP4, (32, 64))
    same = io.from_modelopt(io.to_modelopt(q, "w"), "w")
    assert same.weight.tensor_scale == scale
    for call in (
        lambda: io.from_modelopt(io.to_modelopt(q, "w"), "w", ENCODE),
        lambda: io.to_compressed_tensors(q, "w", "nvfp4-pack-quantized"),
        lambda: io.to_compressed_tensors(io.Linear(weights(), scale), "w", "nvfp4-pack-quantized"),
        lambda: io.from_modelopt(io.to_modelopt(io.Linear(weights(), scale), "w"), "w", ENCODE),
        lambda: io.from_torchao(io.to_torchao(q, "w", swizzled=False), "w", swizzled=False, fmt=ENCODE),
    ):
        with pytest.raises(CheckpointError, match="is no normal float32") as caught:
            call()
        assert caught.value.code == "FP6408"


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_input_scales_that_readers_refuse_are_not_written(value: float) -> None:
    layer = io.Linear(weights(), np.float32(value))
    for write in (
        lambda: io.to_modelopt(layer, "w"),
        lambda: io.to_compressed_tensors(layer, "w", "nvfp4-pack-quantized"),
    ):
        with pytest.raises(CheckpointError, match="is a positive scale"):
            write()


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4", "mxfp8_e4m3"])
@pytest.mark.parametrize("shape", [(2, 100, 128), (2, 128, 64), (3, 100, 192), (2, 2, 50, 64)])
def test_torchao_swizzles_experts_together(name: str, shape: tuple[int, ...]) -> None:
    """torchao 0.18: `to_blocked` of the scales as [E * M, K / block]; an atom may hold rows of two experts."""
    fmt = FORMATS[name]
    q = weights(fmt, shape)
    wide = int(fmt.block[1])
    rows = q.scale_grid().reshape(-1, shape[-1] // wide)
    columns = rows.shape[1]
    buffer = np.zeros((-(-len(rows) // 128), -(-columns // 4), 32, 4, 4), np.uint8)
    for r in range(len(rows)):
        for k in range(columns):
            buffer[r // 128, k // 4, r % 32, r % 128 // 32, k % 4] = rows[r, k]
    theirs = (
        buffer.reshape(*shape[:-2], -(-shape[-2] // 128) * 32, -(-columns // 4) * 16)
        if (buffer.size == np.prod(shape[:-2]) * -(-shape[-2] // 128) * 512 * -(-columns // 4))
        else None
    )
    data = Tensor("U8" if fmt.bits == 4 else "F8_E4M3", q.codes)
    dtype = "F8_E4M3" if fmt.scale == "e4m3" else "F8_E8M0"
    parts: dict[str, Any] = {"qdata": data}
    if q.tensor_scale is not None:
        parts["per_tensor_scale"] = q.tensor_scale
    for form in (buffer.reshape(-1), theirs):
        if form is not None:
            found = io.from_torchao({**parts, "scale": Tensor(dtype, form)}, "", swizzled=True, fmt=fmt)
            np.testing.assert_array_equal(dequantize(found), dequantize(q))
    if theirs is None:
        with pytest.raises(CheckpointError, match="has no shape for the .* scales") as caught:
            io.to_torchao(q, "", swizzled=True)
        assert caught.value.code == "FP6404"
    else:
        written = io.to_torchao(q, "", swizzled=True)["scale"]
        assert written.shape == theirs.shape
        np.testing.assert_array_equal(written.data, theirs)
    rowwise = io.to_torchao(q, "", swizzled=False)
    assert rowwise["scale"].shape == (*shape[:-1], columns)
    np.testing.assert_array_equal(dequantize(io.from_torchao(rowwise, "", swizzled=False, fmt=fmt)), dequantize(q))


def test_torchao_shapes_are_its_own() -> None:
    q = weights(shape=(128, 128))
    parts = io.to_torchao(q, "", swizzled=True)
    rows = q.scale_grid()[0]
    for form in (rows, parts["scale"].data.reshape(64, 16), rows[None]):  # as many elements, in another order
        with pytest.raises(CheckpointError, match=r"flat or \(32, 32\) \(swizzled\)"):
            io.from_torchao({**parts, "scale": Tensor("F8_E4M3", form)}, "", swizzled=True, fmt="nvfp4")
    with pytest.raises(CheckpointError, match=r"not \(128, 8\) \(row-major\)"):
        io.from_torchao(parts, "", swizzled=False, fmt="nvfp4")


def test_a_transposed_torchao_tensor_is_refused() -> None:
    q = weights(shape=(256, 512))
    parts = io.to_torchao(q, "", swizzled=True)
    turned = {**parts, "qdata": np.ascontiguousarray(q.codes).T}
    with pytest.raises(CheckpointError, match="qdata is transposed: its packed axis is not the last"):
        io.from_torchao(turned, "", swizzled=True, fmt="nvfp4")

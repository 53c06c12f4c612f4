"""Experts of a checkpoint, stacked: each keeps its codes, scales and tensor scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fp4rt
from fp4num import FORMATS, LAYOUTS
from fp4rt import io
from fp4rt.errors import CheckpointError
from fp4rt.io import npy

EXPERTS = FORMATS["nvfp4_experts"]


def experts(count: int, fmt: str = "nvfp4", shape: tuple[int, int] = (24, 64)) -> list[fp4rt.Quantized]:
    rng = np.random.default_rng(count)
    return [fp4rt.quantize((rng.standard_normal(shape) * 2.0**i).astype(np.float32), fmt) for i in range(count)]


@pytest.mark.parametrize("layout", ["blocked_128x4", "linear"])
def test_each_keeps_its_own(layout: str) -> None:
    each = experts(3)
    stacked = io.stack_experts(each, replace(EXPERTS, layout=LAYOUTS[layout])).weight
    assert stacked.tensor_scale.shape == (3,) and len(set(stacked.tensor_scale.tolist())) == 3
    assert (fp4rt.dequantize(stacked) == np.stack([fp4rt.dequantize(q) for q in each])).all()


def test_modelopt_layers_of_single_experts_and_stacked() -> None:
    layers = [io.Linear(q, np.float32(i + 1), bias=np.full(24, i, np.float32)) for i, q in enumerate(experts(3))]
    files = {
        key: tensor for i, layer in enumerate(layers) for key, tensor in io.to_modelopt(layer, f"e.{i}.up").items()
    }
    stacked = io.stack_experts([io.from_modelopt(files, f"e.{i}.up") for i in range(3)], EXPERTS)
    assert (stacked.input_scale == [1, 2, 3]).all() and stacked.bias.shape == (3, 24)
    together = {
        f"up.{part}": io.Tensor(
            files[f"e.0.up.{part}"].dtype, np.stack([files[f"e.{i}.up.{part}"].data for i in range(3)])
        )
        for part in ("weight", "weight_scale", "weight_scale_2")
    }
    for fmt in (EXPERTS, replace(EXPERTS, name="d", tensor_scale="divides")):
        found = io.from_modelopt(together, "up", fmt).weight
        want = stacked.weight.tensor_scale
        assert (found.tensor_scale == (want if fmt is EXPERTS else np.float32(1) / want)).all()
        assert (found.codes == stacked.weight.codes).all() and (found.scales == stacked.weight.scales).all()
    with pytest.raises(CheckpointError, match="one number") as refused:
        io.from_modelopt(together, "up", "nvfp4")
    assert refused.value.code == "FP6404"
    together["up.weight_scale_2"] = io.Tensor("F32", np.array([1, 0, 1], np.float32))
    with pytest.raises(CheckpointError, match=r"weight_scale_2\[1\] is a positive scale"):
        io.from_modelopt(together, "up", EXPERTS)
    together["up.weight_scale_2"] = io.Tensor("F32", np.array(2, np.float32))
    assert (io.from_modelopt(together, "up", EXPERTS).weight.tensor_scale == [2, 2, 2]).all()


def test_compressed_tensors_stacked() -> None:
    each = experts(2)
    parts = [io.to_compressed_tensors(q, "up", "nvfp4-pack-quantized") for q in each]
    together = {key: io.Tensor(t.dtype, np.stack([p[key].data for p in parts])) for key, t in parts[0].items()}
    assert together["up.weight_global_scale"].shape == (2, 1)
    found = io.from_compressed_tensors(together, "up", "nvfp4-pack-quantized", EXPERTS).weight
    for i, part in enumerate(parts):
        assert (
            found.tensor_scale[i] == io.from_compressed_tensors(part, "up", "nvfp4-pack-quantized").weight.tensor_scale
        )


def test_what_does_not_stack() -> None:
    one = experts(2)
    for layers, fmt, code in [
        ([], EXPERTS, "FP6404"), (one, "nvfp4", "FP6405"), (one, "mxfp4", "FP6405"),
        ([one[0], experts(1, shape=(8, 64))[0]], EXPERTS, "FP6404"),
        ([io.Linear(one[0], bias=np.zeros(24, np.float32)), one[1]], EXPERTS, "FP6406"),
    ]:  # fmt: skip
        with pytest.raises(CheckpointError) as refused:
            io.stack_experts(layers, fmt)
        assert refused.value.code == code
    assert io.stack_experts([one[0], one[0]], "nvfp4").weight.tensor_scale.shape == ()
    stacked = io.stack_experts(one, EXPERTS).weight
    with pytest.raises(CheckpointError, match="one tensor scale, not one for each batch"):
        io.to_torchao(stacked, "up.", swizzled=False)


def test_parts_of_an_archive() -> None:
    q = io.stack_experts(experts(3), EXPERTS).weight
    parts = {"codes": q.codes, "scales": q.scales, "tensor_scale": q.tensor_scale, "shape": np.array(q.shape)}
    back = npy.quantized_from(parts, EXPERTS, "w.npz")
    assert (back.tensor_scale == q.tensor_scale).all()
    with pytest.raises(CheckpointError, match="one for each batch"):
        npy.quantized_from({**parts, "tensor_scale": q.tensor_scale[:2]}, EXPERTS, "w.npz")

"""NVIDIA ModelOpt (and TensorRT-LLM) NVFP4 checkpoints.

Both tensor scales decode: value = element * scale * weight_scale_2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fp4num import BlockFormat, Quantized
from fp4rt.io import convert
from fp4rt.io.convert import Linear
from fp4rt.io.tensors import Tensor, get, scalar

_WHAT = "a ModelOpt NVFP4 checkpoint"


def from_modelopt(tensors: Mapping[str, Any], name: str, fmt: BlockFormat | str = "nvfp4") -> Linear:
    """The linear layer `name`: NAME.weight U8 [N, K/2], .weight_scale F8_E4M3 [N, K/16], .weight_scale_2 F32,
    and .input_scale F32 if there.

    `fmt` is the type that the kernel wants: any layout, and a tensor scale of either sense (the reciprocal is taken for
    `divides`, rounded once). Raises `CheckpointError` for what is missing or of another dtype or shape.
    """
    f = convert.checked_format(fmt, "e2m1", "e4m3", 16, _WHAT)
    codes = get(tensors, f"{name}.weight", ("U8",))
    scales = get(tensors, f"{name}.weight_scale", ("F8_E4M3",), (*codes.shape[:-1], codes.shape[-1] // 8))
    second = scalar(tensors, f"{name}.weight_scale_2")
    given = scalar(tensors, f"{name}.input_scale") if f"{name}.input_scale" in tensors else None
    sense = convert.sense_of(f, _WHAT)
    weight = convert.assemble(codes.data, scales.data, f, convert.change_sense(second, "multiplies", sense))
    return Linear(weight, None if given is None else convert.change_sense(given, "multiplies", sense))


def to_modelopt(layer: Linear | Quantized, name: str) -> dict[str, Tensor]:
    """The tensors that `from_modelopt` reads."""
    linear = layer if isinstance(layer, Linear) else Linear(layer)
    q = linear.weight
    convert.checked_format(q.format, "e2m1", "e4m3", 16, _WHAT)
    convert.one_weight(q, _WHAT)
    out = {
        f"{name}.weight": Tensor("U8", np.asarray(q.codes)),
        f"{name}.weight_scale": Tensor("F8_E4M3", convert.linear_scales(q)),
        f"{name}.weight_scale_2": Tensor("F32", np.asarray(convert.tensor_scale_as(q, "multiplies", _WHAT))),
    }
    if linear.input_scale is not None:
        sense = convert.sense_of(q.format, _WHAT)
        scale = convert.change_sense(linear.input_scale, sense, "multiplies")
        out[f"{name}.input_scale"] = Tensor("F32", np.asarray(scale))
    return out

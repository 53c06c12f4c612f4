"""NVIDIA ModelOpt (and TensorRT-LLM) NVFP4 checkpoints.

Both tensor scales decode: value = element * scale * weight_scale_2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fp4num import BlockFormat, Quantized
from fp4rt.io import convert
from fp4rt.io.convert import Family, Linear
from fp4rt.io.tensors import Tensor, get, only, overall, scalar, vector

_WHAT = "a ModelOpt NVFP4 checkpoint"
_KNOWN = ("weight", "weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale", "bias")
#: Scales of the key and value cache that stand beside the projections; the product knows nothing of them.
_CACHE = ("k_scale", "v_scale")


def from_modelopt(
    tensors: Mapping[str, Any],
    name: str,
    fmt: BlockFormat | str = "nvfp4",
    *,
    ignoring: Iterable[str] = (),
    family: Family | None = None,
) -> Linear:
    """The linear layer `name`: NAME.weight U8 [N, K/2], .weight_scale F8_E4M3 [N, K/16], .weight_scale_2 F32,
    and, if there, .input_scale F32, .pre_quant_scale [K] and .bias [N] of floats.

    `fmt` is the type that the kernel wants: any layout, and a tensor scale of either sense (the reciprocal is taken for
    `divides`, rounded once). Stacked experts [E, N, K/2] may have .weight_scale_2 [E], which a format with a tensor
    scale for each batch keeps (`nvfp4_experts`). `family` is "numpy" or "torch", by default what the tensors are.
    Raises `CheckpointError` for what is missing or of another dtype or shape, and for any other tensor NAME... that is
    not named in `ignoring`.
    """
    f = convert.checked_format(fmt, "e2m1", "e4m3", 16, _WHAT)
    codes = get(tensors, f"{name}.weight", ("U8",))
    scales = get(tensors, f"{name}.weight_scale", ("F8_E4M3",), (*codes.shape[:-1], codes.shape[-1] // 8))
    only(tensors, f"{name}.", (*_KNOWN, *_CACHE), ignoring)
    second, key = overall(tensors, f"{name}.weight_scale_2", f.tensor_scale_shape(codes.shape)), f"{name}.input_scale"
    given = scalar(tensors, key) if key in tensors else None
    sense = convert.sense_of(f, _WHAT)
    factor = convert.change_sense(second, "multiplies", sense, f"{name}.weight_scale_2")
    weight = convert.assemble(codes.data, scales.data, f, factor, f"{name}.weight_scale")
    layer = Linear(
        weight,
        None if given is None else convert.change_sense(given, "multiplies", sense, key),
        vector(tensors, f"{name}.pre_quant_scale", weight.shape[-1]),
        vector(tensors, f"{name}.bias", weight.shape[-2]),
    )
    return convert.delivered(layer, tensors[f"{name}.weight"], family)


def to_modelopt(layer: Linear | Quantized, name: str) -> dict[str, Tensor]:
    """The tensors that `from_modelopt` reads."""
    linear = layer if isinstance(layer, Linear) else Linear(layer)
    q = convert.on_host(linear.weight)
    convert.checked_format(q.format, "e2m1", "e4m3", 16, _WHAT)
    convert.one_weight(q, _WHAT)
    out = {
        f"{name}.weight": Tensor("U8", np.asarray(q.codes)),
        f"{name}.weight_scale": Tensor("F8_E4M3", convert.linear_scales(q, f"{name}.weight_scale")),
        f"{name}.weight_scale_2": Tensor("F32", np.asarray(convert.tensor_scale_as(q, "multiplies", _WHAT))),
    }
    if linear.input_scale is not None:
        sense = convert.sense_of(q.format, _WHAT)
        key = f"{name}.input_scale"
        scale = convert.change_sense(convert.positive(linear.input_scale, key), sense, "multiplies", key)
        out[key] = Tensor("F32", np.asarray(scale))
    for key, value in (("pre_quant_scale", linear.pre_quant_scale), ("bias", linear.bias)):
        if value is not None:
            out[f"{name}.{key}"] = Tensor("F32", np.asarray(value, np.float32))
    return out

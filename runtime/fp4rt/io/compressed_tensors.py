"""compressed-tensors (LLM Compressor, vLLM) checkpoints.

NVFP4's tensor scales encode: value = element * scale / global_scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from fp4num import BlockFormat, Quantized
from fp4rt.errors import CheckpointError
from fp4rt.io import convert
from fp4rt.io.convert import Family, Linear
from fp4rt.io.tensors import Tensor, get, only, overall, scalar, vector

#: The `format` of the checkpoint's quantization config.
Scheme = Literal["nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp8-quantized"]

_DEFAULT = {"nvfp4-pack-quantized": "nvfp4", "mxfp4-pack-quantized": "mxfp4", "mxfp8-quantized": "mxfp8_e4m3"}


#: The tensors of a scheme, in the order in which they are read.
_KNOWN = {
    "nvfp4-pack-quantized": ("weight_packed", "weight_scale", "weight_global_scale", "input_global_scale"),
    "mxfp4-pack-quantized": ("weight_packed", "weight_scale"),
    "mxfp8-quantized": ("weight", "weight_scale"),
}
#: Scales of queries and of the key and value cache beside the projections; the product knows nothing of them.
_CACHE = ("q_scale", "k_scale", "v_scale")


def from_compressed_tensors(
    tensors: Mapping[str, Any],
    name: str,
    scheme: Scheme,
    fmt: BlockFormat | str | None = None,
    *,
    ignoring: Iterable[str] = (),
    family: Family | None = None,
) -> Linear:
    """The linear layer `name` in one of three schemes.

    nvfp4-pack-quantized: NAME.weight_packed U8 [N, K/2], .weight_scale F8_E4M3 [N, K/16], .weight_global_scale and, if
    there, .input_global_scale F32. mxfp4-pack-quantized: .weight_packed U8 [N, K/2], .weight_scale U8 [N, K/32].
    mxfp8-quantized: .weight F8_E4M3 [N, K], .weight_scale U8 [N, K/32]. `fmt` is the type that the kernel wants (by
    default the prelude's); for `multiplies` the reciprocal of a global scale is taken, rounded once. A .bias [N] is
    handed out. `family` is "numpy" or "torch", by default what the tensors are. Raises `CheckpointError` for what is
    missing or of another dtype or shape, and for any other tensor NAME... that is not named in `ignoring`: a
    permutation (weight_g_idx), a zero point, a transform.
    """
    f, columns = _format(scheme, fmt)
    mx8 = scheme == "mxfp8-quantized"
    packed = f"{name}.weight" if mx8 else f"{name}.weight_packed"
    codes = get(tensors, packed, ("F8_E4M3",) if mx8 else ("U8",))
    width = codes.shape[-1] * 8 // f.bits // columns
    scale_dtypes = ("F8_E4M3",) if f.scale == "e4m3" else ("U8", "F8_E8M0")
    scales = get(tensors, f"{name}.weight_scale", scale_dtypes, (*codes.shape[:-1], width))
    only(tensors, f"{name}.", (*_KNOWN[scheme], *_CACHE, "bias"), ignoring)
    bias, key = vector(tensors, f"{name}.bias", codes.shape[-2]), f"{name}.weight_scale"
    if f.scale == "e8m0":
        layer = Linear(convert.assemble(codes.data, scales.data, f, None, key), bias=bias)
        return convert.delivered(layer, tensors[packed], family)
    sense = convert.sense_of(f, scheme)
    factor = overall(tensors, f"{name}.weight_global_scale", f.tensor_scale_shape(codes.shape))
    factor = convert.change_sense(factor, "divides", sense, f"{name}.weight_global_scale")
    weight = convert.assemble(codes.data, scales.data, f, factor, key)
    given_key = f"{name}.input_global_scale"
    given = scalar(tensors, given_key) if given_key in tensors else None
    if given is not None:
        given = convert.change_sense(given, "divides", sense, given_key)
    return convert.delivered(Linear(weight, given, bias=bias), tensors[packed], family)


def to_compressed_tensors(layer: Linear | Quantized, name: str, scheme: Scheme) -> dict[str, Tensor]:
    """The tensors that `from_compressed_tensors` reads."""
    linear = layer if isinstance(layer, Linear) else Linear(layer)
    if linear.pre_quant_scale is not None:
        raise CheckpointError(f"{scheme} has no place for a pre_quant_scale of the activations", code="FP6406")
    q = convert.on_host(linear.weight)
    f, _ = _format(scheme, q.format)
    convert.one_weight(q, scheme)
    codes, scales = np.asarray(q.codes), convert.linear_scales(q, f"{name}.weight_scale")
    bias = {} if linear.bias is None else {f"{name}.bias": Tensor("F32", np.asarray(linear.bias, np.float32))}
    if f.scale == "e8m0":
        packed = Tensor("F8_E4M3", codes) if f.bits == 8 else Tensor("U8", codes)
        weight = f"{name}.weight" if f.bits == 8 else f"{name}.weight_packed"
        if linear.input_scale is not None:
            raise CheckpointError(f"{scheme} has no place for a tensor scale of the activations", code="FP6406")
        return {weight: packed, f"{name}.weight_scale": Tensor("U8", scales), **bias}
    overall = convert.tensor_scale_as(q, "divides", scheme)
    out = {
        f"{name}.weight_packed": Tensor("U8", codes),
        f"{name}.weight_scale": Tensor("F8_E4M3", scales),
        f"{name}.weight_global_scale": Tensor("F32", np.asarray([overall])),
        **bias,
    }
    if linear.input_scale is not None:
        key = f"{name}.input_global_scale"
        given = convert.positive(linear.input_scale, key)
        scale = convert.change_sense(given, convert.sense_of(f, scheme), "divides", key)
        out[key] = Tensor("F32", np.asarray([scale]))
    return out


def _format(scheme: str, fmt: BlockFormat | str | None) -> tuple[BlockFormat, int]:
    if scheme not in _DEFAULT:
        raise CheckpointError(
            f"no compressed-tensors scheme is called {scheme!r}", code="FP6405", help=f"one of {', '.join(_DEFAULT)}"
        )
    element, scale, columns = {
        "nvfp4-pack-quantized": ("e2m1", "e4m3", 16),
        "mxfp4-pack-quantized": ("e2m1", "e8m0", 32),
        "mxfp8-quantized": ("e4m3", "e8m0", 32),
    }[scheme]
    return convert.checked_format(fmt or _DEFAULT[scheme], element, scale, columns, scheme), columns

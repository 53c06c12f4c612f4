"""torchao's NVFP4Tensor and MXTensor, as their parts. A tensor scale, where there is one, decodes.

`torchao.prototype.safetensors` stores the parts of `layer.weight` as `layer._weight_qdata` and so on; pass
`layer._weight_` as the prefix. Whether scales are swizzled is an attribute of the tensor that its parts do not show, so
it is asked for (`swizzled_in` finds it in such a file's metadata).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from fp4num import LAYOUTS, BlockFormat, Quantized
from fp4num.formats import block_format
from fp4rt.errors import CheckpointError
from fp4rt.io import convert
from fp4rt.io.safetensors import Checkpoint
from fp4rt.io.tensors import Tensor, get, scalar

_WHAT = "a torchao tensor"
_BLOCKS = {"e4m3": 16, "e8m0": 32}


def from_torchao(tensors: Mapping[str, Any], prefix: str, *, swizzled: bool, fmt: BlockFormat | str) -> Quantized:
    """PREFIXqdata U8 [N, K/2] (or F8_E4M3, F8_E5M2 [N, K]), PREFIXscale F8_E4M3 or F8_E8M0, PREFIXper_tensor_scale F32.

    Scales are row-major [N, K/block], or, `swizzled`, whole 128 x 4 atoms in any shape. Raises `CheckpointError` for
    what is missing, of another dtype or shape, or a tensor scale that the format has no place for.
    """
    f = _checked(fmt)
    codes = get(tensors, f"{prefix}qdata", ("U8",) if f.bits == 4 else (f"F8_{f.element.upper()}",))
    shape = (*codes.shape[:-1], codes.shape[-1] * 8 // f.bits)
    grid = f.scale_grid(shape)
    scale = get(tensors, f"{prefix}scale", ("F8_E4M3",) if f.scale == "e4m3" else ("F8_E8M0", "U8"))
    layout = LAYOUTS["blocked_128x4" if swizzled else "linear"]
    if scale.data.size != layout.size(*grid):
        raise CheckpointError(
            f"{prefix}scale of {list(shape)} has {layout.size(*grid)} elements "
            f"({'swizzled' if swizzled else 'row-major'}), not {scale.data.size}",
            code="FP6404",
        )
    rows = layout.from_buffer(np.ascontiguousarray(scale.data).reshape(-1), *grid)
    key = f"{prefix}per_tensor_scale"
    overall = scalar(tensors, key) if key in tensors else None
    if f.tensor_scale is None:
        if overall is not None:
            raise CheckpointError(f"{key} is there, but {f.name} has no tensor scale", code="FP6405")
        return convert.assemble(codes.data, rows, f, None)
    value = np.float32(1) if overall is None else convert.change_sense(overall, "multiplies", f.tensor_scale)
    return convert.assemble(codes.data, rows, f, value)


def to_torchao(q: Quantized, prefix: str, *, swizzled: bool) -> dict[str, Tensor]:
    """The parts that `from_torchao` reads. A tensor scale is written where the format has one."""
    f = _checked(q.format)
    convert.one_weight(q, _WHAT)
    scales = q.scale_grid()
    if swizzled:
        stored = LAYOUTS["blocked_128x4"].to_buffer(scales)
        grid = f.scale_grid(q.shape)
        # torchao gives an atom of 512 bytes the shape 32 x 16.
        stored = stored.reshape(-(-grid.rows // 128) * 32, -(-grid.columns // 4) * 16)
    else:
        stored = scales.reshape(scales.shape[1:])
    dtype = "U8" if f.bits == 4 else f"F8_{f.element.upper()}"
    out = {
        f"{prefix}qdata": Tensor(dtype, np.asarray(q.codes)),
        f"{prefix}scale": Tensor("F8_E4M3" if f.scale == "e4m3" else "F8_E8M0", stored),
    }
    if f.tensor_scale is not None:
        value = convert.tensor_scale_as(q, "multiplies", _WHAT)
        out[f"{prefix}per_tensor_scale"] = Tensor("F32", np.asarray(value))
    return out


def swizzled_in(checkpoint: Checkpoint, name: str) -> bool:
    """Whether the tensor `name` (`layer.weight`) of a file that torchao wrote has swizzled scales, by its metadata."""
    try:
        return bool(json.loads(checkpoint.metadata[name])["_data"]["is_swizzled_scales"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the metadata do not say whether {name} has swizzled scales", code="FP6402") from error


def _checked(fmt: BlockFormat | str) -> BlockFormat:
    f = block_format(fmt)
    if f.bits == 6 or f.scale not in _BLOCKS:
        raise CheckpointError(f"torchao stores no {f.element} with {f.scale} scales ({f.name})", code="FP6405")
    return convert.checked_format(f, f.element, f.scale, _BLOCKS[f.scale], _WHAT)

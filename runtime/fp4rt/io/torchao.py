"""torchao's NVFP4Tensor and MXTensor, as their parts. A tensor scale, where there is one, decodes.

`torchao.prototype.safetensors` stores the parts of `layer.weight` as `layer._weight_qdata` and so on; pass
`layer._weight_` as the prefix. Whether scales are swizzled is an attribute of the tensor that its parts do not show, so
it is asked for (`swizzled_in` finds it in such a file's metadata).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num import LAYOUTS, BlockFormat, Quantized
from fp4num.formats import Grid, block_format
from fp4rt.errors import CheckpointError
from fp4rt.io import convert
from fp4rt.io.convert import Family
from fp4rt.io.safetensors import Checkpoint
from fp4rt.io.tensors import Tensor, get, only, scalar

_WHAT = "a torchao tensor"
_BLOCKS = {"e4m3": 16, "e8m0": 32}


def from_torchao(
    tensors: Mapping[str, Any],
    prefix: str,
    *,
    swizzled: bool,
    fmt: BlockFormat | str,
    ignoring: Iterable[str] = (),
    family: Family | None = None,
) -> Quantized:
    """PREFIXqdata U8 [.., N, K/2] (or F8_E4M3, F8_E5M2 [.., N, K]), PREFIXscale F8_E4M3 or F8_E8M0,
    PREFIXper_tensor_scale F32.

    Scales are row-major [.., N, K/block], or, `swizzled`, whole 128 x 4 atoms of the rows of all leading axes together:
    flat, or in the shape that torchao gives them. `family` is "numpy" or "torch", by default what the tensors are.
    Raises `CheckpointError` for what is missing, of another dtype or shape, a tensor scale that the format has no place
    for, or another tensor PREFIX.. that is not named in `ignoring`.
    """
    f = _checked(fmt)
    _check_order(tensors, f"{prefix}qdata")
    codes = get(tensors, f"{prefix}qdata", ("U8",) if f.bits == 4 else (f"F8_{f.element.upper()}",))
    shape = (*codes.shape[:-1], codes.shape[-1] * 8 // f.bits)
    scale = get(tensors, f"{prefix}scale", ("F8_E4M3",) if f.scale == "e4m3" else ("F8_E8M0", "U8"))
    rows = _rows(scale, f, shape, f"{prefix}scale", swizzled=swizzled)
    only(tensors, prefix, ("qdata", "scale", "per_tensor_scale"), ignoring)
    key = f"{prefix}per_tensor_scale"
    overall = scalar(tensors, key) if key in tensors else None
    if f.tensor_scale is None:
        if overall is not None:
            raise CheckpointError(f"{key} is there, but {f.name} has no tensor scale", code="FP6405")
        weight = convert.assemble(codes.data, rows, f, None, f"{prefix}scale")
        return convert.delivered(weight, tensors[f"{prefix}qdata"], family)
    value = np.float32(1) if overall is None else convert.change_sense(overall, "multiplies", f.tensor_scale, key)
    weight = convert.assemble(codes.data, rows, f, value, f"{prefix}scale")
    return convert.delivered(weight, tensors[f"{prefix}qdata"], family)


def to_torchao(q: Quantized, prefix: str, *, swizzled: bool) -> dict[str, Tensor]:
    """The parts that `from_torchao` reads. A tensor scale is written where the format has one."""
    f = _checked(q.format)
    q = convert.on_host(q)
    if len(q.shape) < 2:
        raise CheckpointError(f"{_WHAT} has rows and columns, not the shape {list(q.shape)}", code="FP6404")
    scales = convert.linear_scales(q, f"{prefix}scale")
    if swizzled:
        grid, stored = _flattened(f, q.shape), _swizzled_shape(f, q.shape)
        buffer = LAYOUTS["blocked_128x4"].to_buffer(scales.reshape(grid))
        if buffer.size != math.prod(stored):
            raise CheckpointError(
                f"torchao swizzles the {grid.rows} rows of {list(q.shape)} together, and has no shape for the "
                f"{buffer.size} scales that they fill: only for {math.prod(stored)}",
                code="FP6404",
                help="write row-major scales: swizzled=False",
            )
        scales = buffer.reshape(stored)
    dtype = "U8" if f.bits == 4 else f"F8_{f.element.upper()}"
    out = {
        f"{prefix}qdata": Tensor(dtype, np.asarray(q.codes)),
        f"{prefix}scale": Tensor("F8_E4M3" if f.scale == "e4m3" else "F8_E8M0", scales),
    }
    if f.tensor_scale is not None:
        value = convert.tensor_scale_as(q, "multiplies", f"{prefix}per_tensor_scale")
        out[f"{prefix}per_tensor_scale"] = Tensor("F32", np.asarray(value))
    return out


def _flattened(f: BlockFormat, shape: tuple[int, ...]) -> Grid:
    """The grid that torchao swizzles: all leading axes are rows (torchao 0.18, `to_blocked` of [E * M, K / block])."""
    return f.scale_grid((math.prod(shape[:-1]), shape[-1]))


def _swizzled_shape(f: BlockFormat, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape torchao gives swizzled scales: an atom of 512 bytes is 32 x 16, counted for one matrix."""
    grid = f.scale_grid(shape)
    return (*shape[:-2], -(-grid.rows // 128) * 32, -(-grid.columns // 4) * 16)


def _rows(scale: Tensor, f: BlockFormat, shape: tuple[int, ...], name: str, *, swizzled: bool) -> NDArray[np.uint8]:
    """Row-major scales [.., N, K/block]."""
    natural = (*shape[:-1], f.scale_grid(shape).columns)
    layout, grid = LAYOUTS["blocked_128x4"], _flattened(f, shape)
    size = layout.size(*grid)
    if swizzled and scale.data.size == size and scale.shape in ((size,), _swizzled_shape(f, shape)):
        flat = np.ascontiguousarray(scale.data).reshape(-1)
        return layout.from_buffer(flat, *grid).reshape(natural)
    if not swizzled and scale.shape == natural:
        return scale.data
    wanted = (
        f"{size} elements, flat or {_swizzled_shape(f, shape)} (swizzled)" if swizzled else f"{natural} (row-major)"
    )
    raise CheckpointError(f"{name} of {list(shape)} has the shape {scale.shape}, not {wanted}", code="FP6404")


def _check_order(tensors: Mapping[str, Any], name: str) -> None:
    """A transposed torchao tensor keeps its memory and exchanges sizes and strides: its packed axis is not the last."""
    given = tensors.get(name)
    value: Any = given.data if isinstance(given, Tensor) else given
    strides = value.stride() if hasattr(value, "stride") else getattr(value, "strides", ())
    if len(strides) > 1 and min(value.shape[-2:]) > 1 and strides[-2] < strides[-1]:
        raise CheckpointError(
            f"{name} is transposed: its packed axis is not the last one", code="FP6404", help="transpose it back"
        )


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

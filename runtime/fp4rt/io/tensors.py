"""Tensors of a checkpoint: a safetensors dtype name, a shape, and the elements as numpy can hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4rt.errors import CheckpointError

#: safetensors dtype -> the numpy dtype of its elements. Floats that numpy lacks are held as their codes.
DTYPES: dict[str, str] = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E4M3": "uint8",
    "F8_E5M2": "uint8",
    "F8_E8M0": "uint8",
    "F4": "uint8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "uint16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
}

#: What numpy (with ml_dtypes) and torch call them.
_NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
    "float4_e2m1fn_x2": "U8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
}


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """`dtype` is a key of `DTYPES`; `data` has that numpy dtype and the tensor's shape. FP4 codes are packed: U8, or
    F4, whose `data` and `shape` are in bytes of two elements."""

    dtype: str
    data: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape


def as_tensor(value: Any, name: str) -> Tensor:
    """A `Tensor` of one, of a numpy array or of a torch tensor (copied to host memory if it is elsewhere)."""
    if isinstance(value, Tensor):
        return value
    kind = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
    if kind not in _NAMES:
        raise CheckpointError(f"{name}: {kind} is no dtype of a checkpoint's tensor", code="FP6403")
    dtype = _NAMES[kind]
    if hasattr(value, "detach"):
        import torch  # pyright: ignore[reportMissingImports]  # the caller's tensor is torch's, so torch is there

        flat = value.detach().cpu().contiguous()
        data = flat.reshape(-1).view(torch.uint8).numpy().view(DTYPES[dtype])
        return Tensor(dtype, data.reshape(tuple(flat.shape)))
    array = np.asarray(value)
    return Tensor(dtype, array if str(array.dtype) == DTYPES[dtype] else array.view(DTYPES[dtype]))


def get(tensors: Mapping[str, Any], name: str, dtypes: Iterable[str], shape: tuple[int, ...] | None = None) -> Tensor:
    """The tensor `name`, which has one of `dtypes` and, if given, `shape`; a `CheckpointError` names what differs."""
    if name not in tensors:
        near = ", ".join(sorted(n for n in tensors if n.split(".")[:-1] == name.split(".")[:-1])[:8])
        raise CheckpointError(
            f"there is no tensor {name!r}", code="FP6402", help=f"beside it are: {near}" if near else ""
        )
    tensor = as_tensor(tensors[name], name)
    wanted = tuple(dtypes)
    if tensor.dtype not in wanted and not (tensor.dtype == "F4" and "U8" in wanted):  # the same bytes
        raise CheckpointError(f"{name} is {' or '.join(wanted)}, not {tensor.dtype}", code="FP6403")
    if shape is not None and tensor.shape != shape:
        raise CheckpointError(f"{name} has the shape {shape}, not {tensor.shape}", code="FP6404")
    return tensor


def scalar(tensors: Mapping[str, Any], name: str) -> np.float32:
    """A single F32 (or BF16 or F16, which are exact in it) of shape () or (1,): positive and finite."""
    tensor = get(tensors, name, ("F32", "BF16", "F16"))
    if tensor.data.size != 1:
        raise CheckpointError(f"{name} holds one number, not the shape {tensor.shape}", code="FP6404")
    raw = tensor.data.reshape(())
    value = np.float32((raw.astype(np.uint32) << 16).view(np.float32) if tensor.dtype == "BF16" else raw)
    if not np.isfinite(value) or value <= 0:
        raise CheckpointError(f"{name} is a positive scale, not {value}", code="FP6405")
    return value

"""Tensors of a checkpoint: a safetensors dtype name, a shape, and the elements as numpy can hold them."""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num.dtypes import element_of, raw_codes
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
    if getattr(getattr(value, "dtype", None), "names", None) and (held := element_of(value.dtype)):
        return Tensor({"bf16": "BF16"}.get(held, f"F8_{held.upper()}"), raw_codes(value, held))
    if kind not in _NAMES:
        raise CheckpointError(f"{name}: {kind} is no dtype of a checkpoint's tensor", code="FP6403")
    dtype = _NAMES[kind]
    if hasattr(value, "detach"):
        import torch  # pyright: ignore[reportMissingImports]  # the caller's tensor is torch's, so torch is there

        flat = value.detach().cpu().contiguous()
        data = flat.reshape(-1).view(torch.uint8).numpy().view(DTYPES[dtype])
        return Tensor(dtype, data.reshape(tuple(flat.shape)))
    if isinstance(value, np.ma.MaskedArray):
        raise CheckpointError(f"{name} is a masked array, whose mask would be lost", code="FP6403")
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
    value = np.float32(_floats(tensor).reshape(())[()])
    if not np.isfinite(value) or value <= 0:
        raise CheckpointError(f"{name} is a positive scale, not {value}", code="FP6405")
    return value


def overall(tensors: Mapping[str, Any], name: str, batches: tuple[int, ...]) -> np.float32 | NDArray[np.float32]:
    """A tensor scale that stands for all `batches` of a weight, or one for each: F32, positive and finite."""
    tensor = get(tensors, name, ("F32", "BF16", "F16"))
    shape = tuple(tensor.shape)
    if not batches or tensor.data.size == 1:
        return scalar(tensors, name)
    if shape != (*batches, *(1,) * (len(shape) - len(batches))):
        raise CheckpointError(f"{name} holds one number, or one a batch {list(batches)}, not the shape {shape}",
                              code="FP6404")  # fmt: skip
    values = _floats(tensor).reshape(batches)
    wrong = np.argwhere(~(np.isfinite(values) & (values > 0)))
    if len(wrong):
        place = tuple(int(i) for i in wrong[0])
        raise CheckpointError(f"{name}{list(place)} is a positive scale, not {values[place]}", code="FP6405")
    return values


def vector(tensors: Mapping[str, Any], name: str, size: int) -> NDArray[np.float32] | None:
    """The F32 (or BF16 or F16) tensor of `size` finite numbers, as float32; None if there is none of that name."""
    if name not in tensors:
        return None
    values = _floats(get(tensors, name, ("F32", "BF16", "F16"), (size,)))
    if not np.isfinite(values).all():
        raise CheckpointError(f"{name} holds a number that is not finite", code="FP6405")
    return values


def _floats(tensor: Tensor) -> NDArray[np.float32]:
    if tensor.dtype == "BF16":
        return (tensor.data.astype(np.uint32) << 16).view(np.float32)
    return tensor.data.astype(np.float32)


#: What tensors beside a weight do to it, by the end of their names: where their meaning is known.
_MEANINGS = {
    "act_per_tensor_scale": "the tensor scale of the activations: read it, and pass it to quantize",
    "pre_quant_scale": "the activations are multiplied by it before they are quantized",
    "weight_g_idx": "the weight's columns are in another order",
    "weight_zero_point": "it is subtracted from the codes",
    "input_zero_point": "it is subtracted from the activations' codes",
    "zero_point": "it is subtracted from the codes",
}


def only(tensors: Mapping[str, Any], prefix: str, known: Iterable[str], ignoring: Iterable[str]) -> None:
    """`CheckpointError` FP6406 for a tensor PREFIX.. that is neither `known` (without the prefix) nor in `ignoring`
    (its full name): it may change what the weight means, and is not dropped in silence."""
    expected, named = set(known), {ignoring} if isinstance(ignoring, str) else set(ignoring)
    for name in _beginning(tensors, prefix):
        rest = name[len(prefix) :]
        if rest in expected or name in named or (not prefix and "." in rest):
            continue
        meaning = _MEANINGS.get(rest, "what it means for the weight is not known here")
        raise CheckpointError(
            f"beside the weight there is {name!r}: {meaning}",
            code="FP6406",
            help=f"if the weight means the same without it: ignoring=({name!r},)",
        )


#: The sorted names of the checkpoint that was asked last: it does not change, and has many layers.
_sorted: list[tuple[weakref.ref[Any], list[str]]] = []


def _beginning(tensors: Mapping[str, Any], prefix: str) -> list[str]:
    if not hasattr(tensors, "metadata"):  # no open checkpoint: it may change
        return [name for name in tensors if name.startswith(prefix)]
    if not _sorted or _sorted[0][0]() is not tensors:
        _sorted[:] = [(weakref.ref(tensors), sorted(tensors))]
    names = _sorted[0][1]
    first = last = bisect_left(names, prefix)
    while last < len(names) and names[last].startswith(prefix):
        last += 1
    return names[first:last]

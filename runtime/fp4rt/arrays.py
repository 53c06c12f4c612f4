"""What the runtime needs to know of an array, be it numpy's or torch's, without importing torch.

A numpy array of bf16, e4m3 or e5m2 holds raw codes (uint16, uint8) by the caller's word, or is of ml_dtypes' types, or
of `fp4num.dtypes`' where that package is not installed; outputs are of the latter two, so that what they hold goes
with them. A torch tensor uses torch's own types. Nothing is converted: another dtype is an error that names the fix.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fp4num import Quantized
from fp4num.dtypes import codes_dtype, element_of
from fp4rt.limits import check_memory

Family = Literal["numpy", "torch"]

#: Element type -> bytes of one.
ITEM_SIZE = {
    "f32": 4,
    "bf16": 2,
    "f16": 2,
    "e4m3": 1,
    "e5m2": 1,
    "e8m0": 1,
    "i32": 4,
    "u32": 4,
    "u64": 8,
    "bool": 1,
    "u8": 1,
}
#: Element type, or that of packed codes -> names of the numpy dtypes that hold it; the first is numpy's own.
NUMPY_DTYPES = {
    "f32": ("float32",), "bf16": ("uint16", "bfloat16"), "f16": ("float16",),
    "e4m3": ("uint8", "float8_e4m3fn"), "e5m2": ("uint8", "float8_e5m2"), "e8m0": ("uint8", "float8_e8m0fnu"),
    "i32": ("int32",), "u32": ("uint32",), "u64": ("uint64",), "bool": ("bool",), "u8": ("uint8",),
    "e2m1": ("uint8",), "e3m2": ("uint8",), "e2m3": ("uint8",),
}  # fmt: skip
#: The same for torch, whose unsigned types lack most operations: the signed ones are taken for their bits.
TORCH_DTYPES = {
    "f32": ("float32",), "bf16": ("bfloat16",), "f16": ("float16",),
    "e4m3": ("float8_e4m3fn", "uint8"), "e5m2": ("float8_e5m2", "uint8"), "e8m0": ("uint8", "float8_e8m0fnu"),
    "i32": ("int32",), "u32": ("int32", "uint32"), "u64": ("int64", "uint64"), "bool": ("bool",),
    "u8": ("uint8",), "e2m1": ("uint8", "float4_e2m1fn_x2"), "e3m2": ("uint8",), "e2m3": ("uint8",),
}  # fmt: skip


#: Above this, an output's bytes are compared with the machine's memory: numpy would take them until it is killed.
_CHECKED = 1 << 28


class Tensor(Protocol):
    """What a torch tensor is, as far as it can be said without torch."""

    @property
    def shape(self) -> Sequence[int]: ...

    @property
    def dtype(self) -> object: ...

    @property
    def device(self) -> object: ...

    def data_ptr(self) -> int: ...

    def cpu(self) -> Tensor: ...

    def numpy(self) -> NDArray[Any]: ...


#: What a call returns for an output: numpy's array where numpy's were given, torch's tensor where torch's were.
Output: TypeAlias = "NDArray[Any] | Tensor | Quantized"
#: What a call takes for an input: the same, or a number for a param.
Input: TypeAlias = "NDArray[Any] | Tensor | Quantized | float | int"


@dataclass(slots=True)
class View:
    """One array: `device` is None for host memory, else the CUDA device's index; `dtype` numpy's or torch's name;
    `masked` says that some of its elements do not count, which no kernel knows, and `plain` that its memory holds its
    values.

    Not frozen only because that would double the time it takes to make one, several times a call.
    """

    array: Any
    family: Family
    address: int
    nbytes: int
    item_size: int
    shape: tuple[int, ...]
    dtype: str
    contiguous: bool
    device: int | None
    writable: bool
    masked: bool = False
    plain: bool = True


def view(array: object) -> View | None:
    """Describe a numpy array or a torch tensor; None for anything else."""
    if isinstance(array, np.ndarray):
        return _numpy_view(array)
    if isinstance(array, np.generic):
        return _numpy_view(np.asarray(array))
    torch = sys.modules.get("torch")  # a tensor exists only where torch was imported
    if torch is not None and isinstance(array, torch.Tensor):
        return _torch_view(array)
    return None


#: numpy dtype -> its name, and torch dtype -> its name and bytes: both libraries compute them anew each time.
_numpy_names: dict[Any, str] = {}
_torch_types: dict[Any, tuple[str, int]] = {}


def _numpy_view(array: np.ndarray) -> View:
    masked = False
    if type(array) is not np.ndarray:  # a subclass may have its own idea of reshape, as np.matrix does
        masked = isinstance(array, np.ma.MaskedArray)
        array = np.asarray(array)
    dtype = _numpy_names.get(array.dtype)
    if dtype is None:
        swapped = "" if array.dtype.isnative else " of the other byte order"
        held = element_of(array.dtype) if array.dtype.names else None
        name = array.dtype.name if held is None else NUMPY_DTYPES[held][-1]
        dtype = _numpy_names.setdefault(array.dtype, name + swapped)
    address = array.__array_interface__["data"][0]
    flags = array.flags
    return View(
        array,
        "numpy",
        address,
        array.nbytes,
        array.itemsize,
        array.shape,
        dtype,
        flags.c_contiguous,
        None,
        flags.writeable,
        masked,
    )


def _torch_view(tensor: Any) -> View:
    known = _torch_types.get(tensor.dtype)
    if known is None:
        name = str(tensor.dtype).removeprefix("torch.")
        known = _torch_types.setdefault(tensor.dtype, (name, tensor.element_size()))
    name, item_size = known
    device = tensor.get_device()  # -1 in host memory
    nbytes = item_size * tensor.numel()
    try:
        address = tensor.data_ptr()
        plain = (address != 0 or nbytes == 0) and not tensor.is_neg()
        contiguous = tensor.is_contiguous()
    except RuntimeError:  # sparse, or of a transform
        address, plain, contiguous = 0, False, False
    return View(
        tensor,
        "torch",
        address,
        nbytes,
        item_size,
        tensor.shape,
        name,
        contiguous,
        device if device >= 0 else None,
        True,
        False,
        plain,
    )


def why_not_plain(tensor: Any) -> tuple[str, str, str]:
    """Of a tensor whose memory does not hold its values: the code of the error, what it is, and what helps."""
    transforms: Any = sys.modules["torch"]._C._functorch
    if transforms.is_batchedtensor(tensor):
        return "FP6117", "is mapped by torch.vmap, and a kernel has the axes of its spec", "call it in a loop"
    if transforms.is_functorch_wrapped_tensor(tensor):
        return "FP6118", "is inside a transform of torch.func, and kernels have no gradient", "keep the call outside"
    if tensor.layout != sys.modules["torch"].strided:
        return "FP6103", f"is a tensor of the layout {tensor.layout}", "pass x.to_dense()"
    if tensor.device.type == "meta":
        return "FP6103", "is on the device meta, and has no elements", "as an operator, a kernel takes such tensors"
    if tensor.is_neg():
        return "FP6103", "is negated when it is read, and a kernel would not", "pass x.resolve_neg()"
    return "FP6103", f"is a {type(tensor).__name__} without memory of its own", "pass the tensor that it stands for"


def all_on_host(values: Iterable[object]) -> bool:
    """Whether every array among a call's values is a torch tensor in host memory."""
    views = [view(part) for value in values for part in _parts(value)]
    return all(v is None or (v.family == "torch" and v.device is None) for v in views)


def _parts(value: object) -> tuple[object, ...]:
    return (value.codes, value.scales, value.tensor_scale) if isinstance(value, Quantized) else (value,)


def empty(shape: tuple[int, ...], dtype: str, family: Family, device: int | None) -> Any:
    """An uninitialized output of an element type of the language, in the caller's kind of array.

    DeviceError FP6120 for one that does not fit in this machine's memory.
    """
    needed = ITEM_SIZE[dtype] * math.prod(shape)
    if family == "numpy":
        if needed > _CHECKED:
            check_memory(needed, None, f"an output of shape {shape}")
        typed = dtype in ("bf16", "e4m3", "e5m2")
        return np.empty(shape, codes_dtype(dtype) if typed else np.dtype(NUMPY_DTYPES[dtype][0]))
    torch = sys.modules["torch"]
    name = TORCH_DTYPES[dtype][0]
    return torch.empty(shape, dtype=getattr(torch, name), device="cpu" if device is None else f"cuda:{device}")


def host_bytes(v: View) -> np.ndarray:
    """The bytes of a contiguous array in host memory, shared with it: a flat uint8 array."""
    if v.family == "numpy":
        return v.array.reshape(-1).view(np.uint8)
    return np.asarray(_Bytes(v)) if v.nbytes else np.empty(0, np.uint8)


class _Bytes:
    """The memory of a tensor. What torch's own `numpy()` was asked for may never be freed or resized by others, as
    FSDP does with a parameter that it gathered."""

    __slots__ = ("__array_interface__", "_held")

    def __init__(self, v: View) -> None:
        self._held = v.array
        self.__array_interface__ = {"data": (v.address, False), "shape": (v.nbytes,), "typestr": "|u1", "version": 3}


def to_host(array: object) -> np.ndarray:
    """A numpy array with the same bits: the array itself, or a copy of a torch tensor (types numpy lacks as codes)."""
    v = view(array)
    if v is None:
        return np.asarray(array)
    if v.family == "numpy":
        return v.array
    torch = sys.modules["torch"]
    tensor = v.array.detach().cpu().contiguous()
    codes = {1: torch.uint8, 2: torch.uint16}.get(tensor.element_size())
    if v.dtype.startswith(("bfloat", "float8", "float4")):
        return tensor.view(codes).numpy()
    return tensor.numpy()

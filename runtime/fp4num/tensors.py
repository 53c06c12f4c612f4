"""torch tensors around a computation that is numpy's: in as arrays, out as tensors on the device they came from.

Nothing here imports torch before the caller has: a tensor exists only where torch was imported.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fp4num.errors import DataError


def is_tensor(x: object) -> bool:
    """Whether `x` is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def to_array(x: Any) -> NDArray[Any]:
    """The bits of a tensor as a numpy array, which shares its memory where that is the host's; an array as it is.

    Types that numpy lacks come as unsigned integers of their size. `DataError` for a tensor without data.
    """
    if not is_tensor(x):
        return np.asarray(x)
    check_data(x)
    torch = sys.modules["torch"]
    tensor = x.detach().cpu().resolve_neg()
    if str(tensor.dtype).removeprefix("torch.").startswith(("bfloat", "float8", "float4")):
        tensor = tensor.view(torch.uint8 if tensor.element_size() == 1 else torch.uint16)
    return tensor.numpy()


def to_tensor(x: Any, device: Any = "cpu", *, non_blocking: bool = False) -> Any:
    """A tensor on `device` of the same bits: a numpy array's memory is shared where it is writable and the device is
    the host, a tensor is itself where it is on `device`."""
    if is_tensor(x):
        return x.to(device, non_blocking=non_blocking)
    torch = imported()
    array = np.asarray(x)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch has no tensors that are only read, and none that run backwards
    return torch.from_numpy(array).to(device, non_blocking=non_blocking)


def imported() -> Any:
    """torch; `DataError` where it is not installed."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DataError("torch is not installed, and tensors were asked for: pip install torch") from None
    return torch


def check_data(x: Any) -> None:
    """`DataError` for a tensor on the device "meta", which has a shape and no elements, for a sparse one, and for one
    of a transform of torch.func."""
    if x.device.type == "meta":
        raise DataError(f"a tensor of shape {tuple(x.shape)} on the device meta has no elements")
    torch = sys.modules["torch"]
    if x.layout != torch.strided:
        raise DataError(f"a tensor of the layout {x.layout}, of which only the dense one is taken: x.to_dense()")
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        raise DataError("a tensor inside a transform of torch.func, such as vmap, is computed outside of it")


def readable(x: Any, what: str) -> Any:
    """`adopted`, where numpy cannot read an array of another library by itself: one of a GPU's, say."""
    if isinstance(x, np.ndarray) or is_tensor(x) or not hasattr(x, "__dlpack_device__"):
        return x
    by_numpy = hasattr(x, "__array__") and int(x.__dlpack_device__()[0]) == 1  # kDLCPU
    return x if by_numpy else adopted(x, what)


def adopted(x: Any, what: str) -> Any:
    """An array of another library by the DLPack protocol, without a copy: torch's tensor where torch is imported, else
    numpy's array. Arrays and tensors are returned as they are."""
    if isinstance(x, (np.ndarray, np.generic)) or is_tensor(x) or not hasattr(x, "__dlpack__"):
        return x
    torch = sys.modules.get("torch")
    try:
        return np.from_dlpack(x) if torch is None else torch.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{what}: the {type(x).__name__} cannot be taken by DLPack: {error}") from None

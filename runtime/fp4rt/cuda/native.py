"""The driver functions that every call makes, by their addresses.

cuda-python's wrappers of them take longer than what they wrap: lists, enumerations and objects for each call. These
take and return integers. The addresses come from cuGetProcAddress, with the semantics of the legacy default stream,
which is the stream 0 of torch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: A driver function that returns a CUresult, 0 for success.
Function = Callable[..., int]
_INT, _WORD = ctypes.c_int, ctypes.c_void_p
#: CU_GET_PROC_ADDRESS_LEGACY_STREAM
_LEGACY_STREAM = 1
_VERSION = 12000


@dataclass(frozen=True, slots=True)
class Native:
    """`launch(config, function, parameters, 0)`,
    `encode(map, ...)` as cuTensorMapEncodeTiled, `replace_address(map, address)` and
    `current_context(place of a pointer)` (CUDA driver API)."""

    launch: Function
    encode: Function
    replace_address: Function
    current_context: Function


def bind(cu: Any) -> Native:
    """The functions of the driver behind the module `cuda.bindings.driver`.

    Those that may wait, as a launch does for a full queue, let other Python threads run; the rest only write to memory.
    """

    def address(name: str) -> int:
        result, found, *_ = cu.cuGetProcAddress(name.encode(), _VERSION, _LEGACY_STREAM)
        if result != cu.CUresult.CUDA_SUCCESS or not found:
            raise RuntimeError(f"the NVIDIA driver has no {name}: it is older than CUDA 12.0")
        return int(found)

    def waiting(name: str, *types: Any) -> Function:
        return ctypes.CFUNCTYPE(_INT, *types)(address(name))

    def short(name: str, *types: Any) -> Function:
        return ctypes.PYFUNCTYPE(_INT, *types)(address(name))

    return Native(
        waiting("cuLaunchKernelEx", _WORD, _WORD, _WORD, _WORD),
        short("cuTensorMapEncodeTiled", _WORD, _INT, _INT, _WORD, _WORD, _WORD, _WORD, _WORD, _INT, _INT, _INT, _INT),
        short("cuTensorMapReplaceAddress", _WORD, _WORD),
        short("cuCtxGetCurrent", _WORD),
    )

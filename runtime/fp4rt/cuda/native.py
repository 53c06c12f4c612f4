"""Driver functions that calls make by their addresses, which cuGetProcAddress gives.

cuda-python's wrappers of these make lists, enumerations and objects in each call; here all are integers. Launches and
fills go through cuda-python, whose wrappers of those take less time than ctypes.
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
    """`encode(map, ...)` as cuTensorMapEncodeTiled, `replace_address(map, address)` and
    `current_context(byref(pointer))` (CUDA driver API)."""

    encode: Function
    replace_address: Function
    current_context: Function


def bind(cu: Any) -> Native:
    """The functions of the driver behind the module `cuda.bindings.driver`.

    They only write to memory and never wait, so that other Python threads need not run meanwhile.
    """

    def address(name: str) -> int:
        result, found, *_ = cu.cuGetProcAddress(name.encode(), _VERSION, _LEGACY_STREAM)
        if result != cu.CUresult.CUDA_SUCCESS or not found:
            raise RuntimeError(f"the NVIDIA driver has no {name}: it is older than CUDA 12.0")
        return int(found)

    def short(name: str, *types: Any) -> Function:
        return ctypes.PYFUNCTYPE(_INT, *types)(address(name))

    return Native(
        short("cuTensorMapEncodeTiled", _WORD, _INT, _INT, _WORD, _WORD, _WORD, _WORD, _WORD, _INT, _INT, _INT, _INT),
        short("cuTensorMapReplaceAddress", _WORD, _WORD),
        short("cuCtxGetCurrent"),  # an argument that is ready, by `byref`, takes less time than a number
    )

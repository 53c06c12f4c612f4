"""The CUDA driver through cuda-python: one import, named errors, contexts, streams, and the guard against fork.

Works with cuda-bindings 12.9 and later. The primary context of a device is used, as torch does.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from fp4rt.cuda import native as natives
from fp4rt.cuda.native import Native
from fp4rt.errors import DeviceError, ForkError

_lock = threading.Lock()
_driver: Any = None
_native: tuple[Any, Native] | None = None
#: Whether this is a child of a process that had initialized CUDA.
forked = False


class _Cell(threading.local):
    """Where the driver writes a thread's current context."""

    def __init__(self) -> None:
        word = ctypes.c_uint64()
        self.word = word, ctypes.byref(word)


_cell = _Cell()


def driver() -> Any:
    """The module cuda.bindings.driver, initialized.

    Raises DeviceError FP6302 where cuda-python, the driver library or a device is missing; ForkError in a child of a
    process that had initialized CUDA.
    """
    global _driver
    check_fork()
    if _driver is not None:
        return _driver
    with _lock:
        if _driver is None:
            _driver = _initialize()
    return _driver


def native() -> Native:
    """The functions that calls make without cuda-python's wrappers."""
    global _native
    if _native is None or _native[0] is not _driver:
        bindings = driver()
        try:
            _native = bindings, natives.bind(bindings)
        except RuntimeError as error:
            raise DeviceError(str(error), help="install a newer driver") from error
    return _native[1]


def _initialize() -> Any:
    try:
        bindings = import_module("cuda.bindings.driver")
    except ImportError as error:
        raise DeviceError(
            f"the cuda device needs cuda-python: {error}",
            help="pip install cuda-python (numpy and it are all fp4rt needs)",
        ) from error
    try:
        result = bindings.cuInit(0)[0]
    except RuntimeError as error:  # cuda-bindings found no libcuda.so.1
        raise DeviceError(f"there is no NVIDIA driver here: {error}", help=_NO_GPU) from error
    if result == bindings.CUresult.CUDA_ERROR_NOT_INITIALIZED:
        raise _forked_error()  # what a child gets whose parent used CUDA through another library
    if result != bindings.CUresult.CUDA_SUCCESS:
        raise DeviceError(f"CUDA does not start: {_name(bindings, result)}", help=_NO_GPU)
    os.register_at_fork(after_in_child=_mark_forked)
    return bindings


_NO_GPU = "run on a machine with an NVIDIA GPU, or with device='emulator'"


def _mark_forked() -> None:
    global forked
    forked = True


def check_fork() -> None:
    """Raise ForkError in a child of a process that had initialized CUDA: its contexts do not survive a fork."""
    if forked:
        raise _forked_error()


def _forked_error() -> ForkError:
    return ForkError(
        f"process {os.getpid()} was forked after CUDA had been initialized; CUDA does not work in such a child",
        help="start workers with multiprocessing's 'spawn' or 'forkserver', or use CUDA only after the fork",
    )


def check(results: Any, what: str) -> Any:
    """The value of a driver call `(result, value)`; DeviceError FP6304 names the call and the error if it failed."""
    result = results[0]
    if result != _driver.CUresult.CUDA_SUCCESS:
        raise failure(result, what)
    return results[1] if len(results) == 2 else None


def failure(result: Any, what: str) -> DeviceError:
    """The error for a failed driver call, of a CUresult or its number."""
    try:
        name = _name(_driver, _driver.CUresult(result))
    except ValueError:  # of a driver that is newer than cuda-python
        name = f"CUDA error {result}"
    return DeviceError(f"{what}: {name}", code="FP6304")


def _name(bindings: Any, result: Any) -> str:
    name, text = (getattr(bindings, f)(result)[1] for f in ("cuGetErrorName", "cuGetErrorString"))
    if name is None:
        return str(result)
    return f"{name.decode()} ({text.decode()})" if text else name.decode()


class Context:
    """The primary context of one device, kept for the life of the process. Use `context(ordinal)`."""

    def __init__(self, ordinal: int) -> None:
        cu = driver()
        count = check(cu.cuDeviceGetCount(), "cuDeviceGetCount")
        if count == 0:
            raise DeviceError("there is no CUDA device here", help=_NO_GPU)
        if ordinal >= count:
            raise DeviceError(f"there is no cuda:{ordinal}: this machine has {count} device(s)", code="FP6302")
        self.ordinal = ordinal
        self.device = check(cu.cuDeviceGet(ordinal), "cuDeviceGet")
        self.handle = check(cu.cuDevicePrimaryCtxRetain(self.device), "cuDevicePrimaryCtxRetain")
        self._address = int(self.handle)
        self._current = native().current_context
        kind = cu.CUdevice_attribute
        self.capability = (
            self.attribute(kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            self.attribute(kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
        )
        self.max_shared = self.attribute(kind.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
        self.load_lock = threading.Lock()

    def attribute(self, which: Any) -> int:
        """A device attribute."""
        return check(driver().cuDeviceGetAttribute(which, self.device), "cuDeviceGetAttribute")

    def activate(self) -> bool:
        """Make this the thread's current context. True if it was not: then `deactivate` afterwards."""
        word, place = _cell.word
        result = self._current(place)
        if result:
            raise failure(result, "cuCtxGetCurrent")
        if word.value == self._address:
            return False
        check(driver().cuCtxPushCurrent(self.handle), "cuCtxPushCurrent")
        return True

    def deactivate(self) -> None:
        """Undo an `activate` that returned True."""
        check(driver().cuCtxPopCurrent(), "cuCtxPopCurrent")

    @contextmanager
    def current(self) -> Generator[None]:
        """This context is the thread's current one within the block."""
        pushed = self.activate()
        try:
            yield
        finally:
            if pushed:
                self.deactivate()


_contexts: dict[int, Context] = {}


def context(ordinal: int | None) -> Context:
    """The context of a device; None is the current context's device, or the first one."""
    cu = driver()
    if ordinal is None:
        result, device = cu.cuCtxGetDevice()
        ordinal = int(device) if result == cu.CUresult.CUDA_SUCCESS else 0
    with _lock:
        if ordinal not in _contexts:
            _contexts[ordinal] = Context(ordinal)
        return _contexts[ordinal]


def stream_handle(stream: object) -> int:
    """The address of a stream: an int, torch's Stream, cuda-python's CUstream, or any with `__cuda_stream__`."""
    if isinstance(stream, int):
        return stream
    for attribute in ("cuda_stream", "ptr"):
        value = getattr(stream, attribute, None)
        if isinstance(value, int):
            return value
    protocol: Any = getattr(stream, "__cuda_stream__", None)  # (version, address), of cuda.core and others
    if protocol is not None:
        pair: Any = protocol() if callable(protocol) else protocol
        return int(pair[1])
    if hasattr(stream, "__int__"):
        return int(stream)  # type: ignore[call-overload]
    raise DeviceError(f"stream: expected a CUDA stream, found {type(stream).__name__}", code="FP6304")


#: What `torch_stream` calls, once it has found it: calls that are to be quick go there themselves.
raw_stream: Callable[[int], int] | None = None


def torch_stream(device: int) -> int:
    """The address of torch's current stream on a device."""
    global raw_stream
    found = raw_stream
    if found is None:
        torch = sys.modules["torch"]
        # What Triton uses: a tenth of the public call's time.
        raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)
        raw_stream = found = raw or (lambda device: torch.cuda.current_stream(device).cuda_stream)
    return found(device)

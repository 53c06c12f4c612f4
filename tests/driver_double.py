"""A driver that does nothing but take note, behind cuda-python's types: calls on a machine without a GPU."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from cuda.bindings import driver as bindings

_W = ctypes.c_void_p
_TYPES: dict[str, tuple[Any, ...]] = {
    "cuLaunchKernelEx": (_W, _W, _W, _W),
    "cuMemsetD8Async": (_W, ctypes.c_uint8, ctypes.c_size_t, _W),
    "cuMemsetD16Async": (_W, ctypes.c_uint16, ctypes.c_size_t, _W),
    "cuMemsetD32Async": (_W, ctypes.c_uint32, ctypes.c_size_t, _W),
    "cuTensorMapEncodeTiled": (_W, *[ctypes.c_int] * 2, *[_W] * 5, *[ctypes.c_int] * 4),
    "cuTensorMapReplaceAddress": (_W, _W),
    "cuCtxGetCurrent": (_W,),
}


class DriverDouble:
    """Stands for the module `cuda.bindings.driver`. `calls` has the names and arguments of what was called; `answers`
    the results of those that shall fail. A tensor map is its address and then its number, in words."""

    CUresult = bindings.CUresult
    cuGetErrorName = staticmethod(lambda result: (0, result.name.encode()))
    cuGetErrorString = staticmethod(lambda result: (0, b"as asked for"))

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {}
        self.encoded: list[tuple[Any, ...]] = []
        self.launched: list[Launched] = []
        self.sizes: dict[int, list[int]] = {}  # of each function's parameters
        self._pointers = {name: self._pointer(name, types) for name, types in _TYPES.items()}

    def __getattr__(self, name: str) -> Any:
        if name in _TYPES:
            return lambda *arguments: (bindings.CUresult(self._pointers[name](*map(_number, arguments))),)
        return getattr(bindings, name)

    def cuGetProcAddress(self, name: bytes, version: int, flags: int) -> tuple[Any, int, int]:
        pointer = ctypes.cast(self._pointers[name.decode()], _W).value or 0
        return bindings.CUresult.CUDA_SUCCESS, pointer, 0

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of each call of a function."""
        return [arguments for found, *arguments in self.calls if found == name]  # type: ignore[misc]

    def _pointer(self, name: str, types: tuple[Any, ...]) -> Any:
        def called(*arguments: Any) -> int:
            arguments = tuple(x or 0 for x in arguments)  # ctypes has None for an address of 0
            self.calls.append((name, *arguments))
            answer = int(self.answers.get(name, 0))
            if name == "cuTensorMapReplaceAddress" and not answer:
                ctypes.c_uint64.from_address(arguments[0]).value = arguments[1]
            if name == "cuTensorMapEncodeTiled" and not answer:
                self.encoded.append(self._map(arguments))
                ctypes.memmove(arguments[0], struct.pack("<Q", arguments[3]) * 16, 128)
            if name == "cuLaunchKernelEx" and not answer:
                self.launched.append(self._read(*arguments[:3]))
            return answer

        # A waiting function releases the interpreter's lock, which a callback takes again.
        return ctypes.CFUNCTYPE(ctypes.c_int, *types)(called)

    @staticmethod
    def _map(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Type, address, dims, strides, box, element strides, and the last four arguments."""
        _, kind, rank, address, *places = arguments
        kinds, counts = "QQII", (rank, rank - 1, rank, rank)
        lists = [
            struct.unpack(f"<{n}{k}", ctypes.string_at(at, n * struct.calcsize(k)))
            for k, n, at in zip(kinds, counts, places, strict=False)
        ]
        return kind, address, *lists, *places[4:]

    def _read(self, config: int, function: int, parameters: int) -> Launched:
        sizes = self.sizes.get(function, [])
        places = struct.unpack(f"<{len(sizes)}Q", ctypes.string_at(parameters, 8 * len(sizes)))
        values = [ctypes.string_at(at, size) for at, size in zip(places, sizes, strict=True)]
        return Launched(function, struct.unpack("<7I4xQ", ctypes.string_at(config, 40)), values)


def _number(x: Any) -> int:
    """An argument of a function of cuda-python as an integer."""
    return int(x.getPtr()) if isinstance(x, bindings.CUlaunchConfig) else int(x)


@dataclass(frozen=True, slots=True)
class Launched:
    """A launch as the driver would have read it; `config` is grid, block, shared memory and stream."""

    function: int
    config: tuple[int, ...]
    parameters: list[bytes]


class ContextDouble:
    """Stands for a device's context that is always current."""

    def __init__(self) -> None:
        self.ordinal = None  # what is allocated is the host's

    @contextmanager
    def current(self) -> Iterator[None]:
        yield

    def activate(self) -> bool:
        return False


class Gpu:
    """A device whose memory is the host's, on the driver's double that is installed."""

    name = "double"

    def supports(self, target: str) -> bool:
        return True

    def load(self, artifact: Any) -> Any:
        from fp4rt.cuda import driver
        from fp4rt.cuda.calls import CallPacker
        from fp4rt.cuda.module import Entry
        from fp4rt.devices.cuda import CudaExecutable
        from fp4rt.plan import over_list

        manifest = artifact.manifest
        launches = [x for plan in (manifest.plan, *(v.plan for v in manifest.variants)) for x in plan.launches]
        launches += [over_list(x) for x in launches if x.many is not None]
        entries = {launch: Entry(0x100 + i, 66) for i, launch in enumerate(dict.fromkeys(launches))}
        for launch, entry in entries.items():
            driver._driver.sizes[entry.function] = [p.size for p in launch.params]
        context: Any = ContextDouble()

        class Executable(CudaExecutable):
            def allocating(self, call: Any, stream: object | None) -> Any:
                return nullcontext(None if stream is None else driver.stream_handle(stream))

        executable = Executable(CallPacker(manifest, entries, context))
        executable.memory = None
        return executable


def install(monkeypatch: Any) -> DriverDouble:
    """Use a driver's double."""
    from fp4rt.cuda import driver

    double = DriverDouble()
    monkeypatch.setattr(driver, "_driver", double)
    monkeypatch.setattr(driver, "_native", None)
    return double

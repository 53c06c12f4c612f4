"""Arrays of the host as arguments of kernels: copied to the emulated GPU before a launch, and back behind it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fp4emu.errors import Fault
from fp4emu.gpu import Gpu


class _Named(str):
    """An element type that numpy does not have; Triton reads its name and its bytes."""

    itemsize: int


@dataclass(frozen=True, slots=True)
class Array:
    """A numpy array as an argument of a kernel. `dtype` names Triton's element type where numpy has none, as in
    `Array(codes, "bfloat16")`; the kernel writes into `array`, which must be contiguous."""

    array: np.ndarray[Any, Any]
    name: str = ""

    def __post_init__(self) -> None:
        if not self.array.flags.c_contiguous:
            raise Fault("an Array is contiguous", hint="np.ascontiguousarray")

    @property
    def dtype(self) -> Any:
        if not self.name:
            return self.array.dtype
        named = _Named(self.name)
        named.itemsize = self.array.itemsize
        return named

    @property
    def nbytes(self) -> int:
        return int(self.array.nbytes)

    def data_ptr(self) -> int:
        return int(self.array.ctypes.data)


@dataclass(slots=True)
class HostMemory:
    """Host memory that a launch reads and writes: each storage is copied once, however many tensors view it. `copies`
    has, by a storage's address, its place on the GPU and its bytes."""

    gpu: Gpu
    copies: dict[int, tuple[int, int]] = field(default_factory=dict[int, "tuple[int, int]"])

    def address(self, given: Any) -> int:
        """Where the GPU finds a tensor: a torch tensor of the CPU, an `Array`, or a numpy array."""
        tensor: Any = Array(given) if isinstance(given, np.ndarray) else given
        if getattr(getattr(tensor, "device", None), "type", "cpu") != "cpu":
            raise Fault(f"an argument is on {tensor.device}", hint="the emulator takes tensors of the CPU")
        if not hasattr(tensor, "data_ptr"):
            raise Fault(f"an argument is {tensor!r}", hint="a torch tensor, fp4emu.host.Array or a numpy array")
        storage: Any = tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor
        whole: Any = storage.nbytes
        size: Any = whole() if callable(whole) else whole
        start = int(storage.data_ptr())
        if start not in self.copies:
            place = self.gpu.alloc(max(int(size), 1))
            self.gpu.write(place, ctypes.string_at(start, int(size)) if size else b"\0")
            self.copies[start] = place, int(size)
        return self.copies[start][0] + int(tensor.data_ptr()) - start

    def back(self) -> None:
        """Copies what the kernel left to the host."""
        for start, (place, size) in self.copies.items():
            ctypes.memmove(start, self.gpu.read(place, size), size)

    def free(self) -> None:
        """Gives the places back."""
        for place, _ in self.copies.values():
            self.gpu.free(place)

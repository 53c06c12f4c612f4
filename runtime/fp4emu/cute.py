"""Kernels of the CuTe DSL on the emulator: what `cute.compile` gives, launched with numpy arrays or torch tensors.

    compiled = cute.compile(launch, x, y, options="--gpu-arch sm_90a --keep-ptx")
    fp4emu.cute.launch(compiled, x, y, grid=(1, 1, 1), block=(256, 1, 1), shared=1024)

The PTX that the DSL compiled runs as it is (its public attribute `__ptx__`). The host part of a `@cute.jit` function is
machine code that calls the CUDA driver, so its launch is said again: `grid`, `block`, `cluster` and `shared` are those
of the kernel's `.launch`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fp4emu.asynchronous import Mode
from fp4emu.errors import Fault
from fp4emu.gpu import TARGETS, Gpu, runs_on
from fp4emu.host import Array, HostMemory
from fp4emu.order.checks import Level, Order
from fp4emu.tensormap import TensorMap

#: Floats by their bytes, as `struct` has them.
_FLOATS = {2: "e", 4: "f", 8: "d"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A launch that ended with no fault: what was warned of, and what the kernel printed."""

    warnings: tuple[str, ...]
    printed: str


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor map over an array, for a parameter that is a TMA descriptor: `TensorMap`'s arguments but its address."""

    tensor: Any
    map: Mapping[str, Any]

    def parameter(self, memory: HostMemory) -> TensorMap:
        return TensorMap(address=memory.address(self.tensor), **self.map)


def launch(
    compiled: Any, *arguments: Any, grid: Sequence[int], block: Sequence[int], cluster: Sequence[int] = (1, 1, 1),
    shared: int = 0, entry: str | None = None, target: str | None = None, order: Order | None = "default",
    checks: Mapping[str, Level] | None = None, mode: Mode = "immediate", seed: int = 0, seconds: float | None = None,
) -> Verdict:  # fmt: skip
    """Runs a kernel of a function that `cute.compile` has compiled, or of PTX.

    There is an argument for each of the entry's parameters: an array (numpy, torch, `fp4emu.triton.Array`), which the
    kernel reads and writes; a number, where it is a float an f16, f32 or f64 by the parameter's size; bytes; a
    `Described` tensor map. `entry` may be left out where there is one;
    `shared` counts bytes of dynamic shared memory. Raises `fp4emu.Fault`, also where the order of accesses is not
    proved (docs/emulator.md, "Order").
    """
    text = compiled if isinstance(compiled, str | bytes) else getattr(compiled, "__ptx__", None)
    if not text:
        raise Fault("the function has no PTX", hint='cute.compile(..., options="--keep-ptx")')
    gpu = Gpu(target or _target(text), mode=mode, seed=seed)
    module = gpu.load(text)
    names = module.entries
    if entry is None and len(names) != 1:
        raise Fault(f"the module has {len(names)} entries", hint=f"entry= one of: {', '.join(names) or 'none'}")
    name = entry or names[0]
    function = module.tree.functions.get(name)
    sizes = [variable.size for variable in function.params] if function is not None else []
    if function is not None and len(sizes) != len(arguments):
        raise Fault(f"{name} takes {len(sizes)} parameters, {len(arguments)} were given")
    memory = HostMemory(gpu)
    params = [_packed(memory, size, argument) for size, argument in zip(sizes, arguments, strict=False)]
    gpu.launch(
        module, name, grid, block, cluster=cluster, shared_bytes=shared, params=params, seconds=seconds, order=order,
        checks=checks,
    )  # fmt: skip
    memory.back()
    return Verdict(gpu.warnings, gpu.printed)


def _target(text: str | bytes) -> str:
    """The first emulated architecture that a module runs on."""
    found = re.search(r"\.target\s+(\w+)", text if isinstance(text, str) else text.decode())
    name = found[1] if found else ""
    target = next((each for each in TARGETS if runs_on(name, each)), None)
    if target is None:
        raise Fault(f"the module is for {name or 'no target'}", hint=f"emulated: {', '.join(TARGETS)}")
    return target


def _packed(memory: HostMemory, size: int, argument: Any) -> bytes | TensorMap:
    if isinstance(argument, bytes | bytearray | memoryview):
        return bytes(argument)
    if isinstance(argument, Described):
        return argument.parameter(memory)
    if isinstance(argument, bool | int | np.integer | np.bool_):
        return (int(argument) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    if isinstance(argument, float | np.floating):
        if size not in _FLOATS:
            raise Fault(f"a parameter of {size} bytes is given the number {argument}", hint="give it as bytes")
        return struct.pack(f"<{_FLOATS[size]}", float(argument))
    return memory.address(argument).to_bytes(8, "little").ljust(size, b"\0")


__all__ = ["Array", "Described", "Verdict", "launch"]

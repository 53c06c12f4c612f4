"""Triton's kernels on the emulator, through the interface that Triton has for drivers.

    import fp4emu.triton
    fp4emu.triton.install("sm_90a")      # triton.runtime.driver.set_active(Driver(...))
    kernel[grid](x, y, n, BLOCK=128)     # torch tensors of the CPU, or fp4emu.triton.Array of a numpy array

Triton compiles as for a GPU of the target (its wheel has all that this needs), and hands the kernel to its launcher;
the launcher here runs the kernel's PTX. A launch returns when the kernel has ended, or raises `fp4emu.Fault`. Tried
with Triton 3.9.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fp4emu.asynchronous import Mode
from fp4emu.errors import Fault
from fp4emu.gpu import Gpu, LoadedModule
from fp4emu.host import Array, HostMemory
from fp4emu.launch import MAX_SHARED
from fp4emu.order.checks import Level, Order
from fp4emu.swizzle import Swizzle
from fp4emu.tensormap import DataType, OobFill, TensorMap

_FORMATS = {"i1": "b", "i8": "b", "i16": "h", "i32": "i", "i64": "q", "u1": "B", "u8": "B", "u16": "H", "u32": "I",
            "u64": "Q", "fp16": "e", "fp32": "f", "f32": "f", "fp64": "d"}  # fmt: skip
_ELEMENT_TYPES = {i: DataType(i) for i in range(8)} | {8: DataType.F32_FTZ, 9: DataType.F64, 10: DataType.BF16}
"""Element types by Triton's numbers, of which the last three are not those of `CUtensorMapDataType`."""


def install(target: str = "sm_90a", **options: Any) -> Driver:
    """Makes the emulator Triton's active driver; options are those of `Driver`."""
    driver = Driver(target, **options)
    import_module("triton").runtime.driver.set_active(driver)
    return driver


@dataclass
class Driver:
    """Triton's driver for an emulated GPU. `order` and `checks` say how strictly the order of accesses is proved
    (docs/emulator.md, "Order"), `mode` and `seed` when asynchronous work completes, `seconds` how long a launch may
    take. After a launch, `warnings` and `printed` are those of `fp4emu.Gpu`."""

    target: str = "sm_90a"
    order: Order | None = "default"
    checks: Mapping[str, Level] | None = None
    mode: Mode = "immediate"
    seed: int = 0
    seconds: float | None = None
    warnings: tuple[str, ...] = ()
    printed: str = ""
    _files: dict[str, Path] = field(default_factory=dict[str, Path], repr=False)
    _loaded: dict[int, tuple[Gpu, LoadedModule, str]] = field(
        default_factory=dict[int, "tuple[Gpu, LoadedModule, str]"], repr=False
    )

    def __post_init__(self) -> None:
        Gpu(self.target)  # refuses a target that is not emulated
        self.utils = _Utilities(self)
        import_module("triton.knobs").runtime.kernel_load_start_hook.add(self._loading)

    @staticmethod
    def is_active() -> bool:
        """Triton never takes it by itself."""
        return False

    # --- what Triton asks ---

    def launcher_cls(self, source: Any, metadata: Any) -> Launcher:
        return Launcher(self, source, metadata)

    def get_current_target(self) -> Any:
        arch = int(self.target.removeprefix("sm_").rstrip("af"))
        return import_module("triton.backends.compiler").GPUTarget("cuda", arch, 32)

    def get_device_capability(self, device: int = 0) -> tuple[int, int]:
        return divmod(int(self.target.removeprefix("sm_").rstrip("af")), 10)

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        """There is one."""

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_active_torch_device(self) -> Any:
        return import_module("torch").device("cpu")

    def map_python_to_cpp_type(self, ty: str) -> str:
        return "void*" if ty.startswith("*") else ty

    def get_benchmarker(self) -> Callable[..., Any]:
        """For autotuning: each configuration runs once, and all count the same, for the emulator has no clock."""

        def once(call: Callable[[], Any], *, quantiles: Sequence[float] | None = None, **_: Any) -> Any:
            call()
            return [1.0] * len(quantiles) if quantiles else 1.0

        return once

    # --- modules ---

    def _loading(self, module: Any, function: Any, name: str, group: Mapping[str, str], hash: str) -> None:
        """Triton is about to load a kernel: where its PTX is."""
        found = next((path for file, path in group.items() if file.endswith(".ptx")), None)
        if found is None:
            raise Fault(f"Triton kept no PTX of {name}", hint="TRITON_STORE_BINARY_ONLY must not be set")
        self._files[name] = Path(found)

    def load(self, name: str) -> int:
        """The number of a kernel that Triton has just compiled."""
        gpu = Gpu(self.target, mode=self.mode, seed=self.seed)
        number = 1 + max(self._loaded, default=0)
        self._loaded[number] = gpu, gpu.load(self._files[name].read_text()), name
        return number

    def launch(
        self, function: int, grid: tuple[int, int, int], block: int, cluster: int, shared: int, arguments: Sequence[Any]
    ) -> None:
        """Runs a kernel; `arguments` are bytes, tensors and descriptors in the order of its parameters."""
        gpu, module, name = self._loaded[function]
        memory = HostMemory(gpu)
        try:
            params = [_parameter(memory, argument) for argument in arguments]
            whole = (grid[0] * cluster, grid[1], grid[2])
            gpu.launch(
                module, name, whole, (block,), cluster=(cluster, 1, 1), shared_bytes=shared, params=params,
                seconds=self.seconds, order=self.order, checks=self.checks,
            )  # fmt: skip
            memory.back()
        finally:
            self.warnings, self.printed = gpu.warnings, gpu.printed
            memory.free()


@dataclass(frozen=True, slots=True)
class _Utilities:
    """What Triton's runtime calls `driver.utils`."""

    driver: Driver

    def load_binary(self, name: str, kernel: bytes, shared: int, device: int) -> tuple[int, int, int, int, int]:
        """(module, function, registers, spills, threads of a block)."""
        number = self.driver.load(name)
        return number, number, 0, 0, 1024

    def unload_module(self, module: int) -> None:
        self.driver._loaded.pop(module, None)  # pyright: ignore[reportPrivateUsage]

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": MAX_SHARED, "max_num_regs": 65536, "multiprocessor_count": 132, "warpSize": 32,
                "sm_clock_rate": 1_000_000, "mem_clock_rate": 1_000_000, "mem_bus_width": 4096}  # fmt: skip

    def is_stream_capturing(self, stream: int) -> bool:
        return False


def _parameter(memory: HostMemory, argument: Any) -> bytes | TensorMap:
    """A parameter's bytes, or its tensor map."""
    if isinstance(argument, bytes):
        return argument
    if isinstance(argument, _Described):
        return argument.map(memory.address(argument.tensor))
    return memory.address(argument).to_bytes(8, "little")


@dataclass(frozen=True, slots=True)
class _Described:
    """A host-side tensor descriptor: the tensor, and what Triton's compiler says of its box."""

    tensor: Any
    descriptor: Any
    meta: Mapping[str, Any]

    def map(self, address: int) -> TensorMap:
        meta, descriptor = self.meta, self.descriptor
        if meta.get("is_im2col"):
            raise Fault("an im2col descriptor is not emulated")
        size = int(meta["elem_size"])
        kind = DataType.TF32 if descriptor.round_f32_to_tf32 else _ELEMENT_TYPES.get(int(meta["elem_type"]))
        if kind is None:
            raise Fault(f"a descriptor of element type {meta['elem_type']} is not emulated")
        dims = [int(n) for n in reversed(descriptor.shape)]
        if meta["fp4_padded"]:
            dims[0], kind = 2 * dims[0], DataType.B4X16_P64
        box = tuple(int(n) for n in reversed(meta["block_size"]))
        return TensorMap(
            kind, address, tuple(dims), tuple(int(s) * size for s in reversed(descriptor.strides[:-1])), box,
            (1,) * len(box), swizzle=Swizzle(int(meta["swizzle"])), oob_fill=OobFill(descriptor.padding == "nan"),
        )  # fmt: skip


class Launcher:
    """What Triton's runtime calls for each launch of one compiled kernel."""

    def __init__(self, driver: Driver, source: Any, metadata: Any) -> None:
        self.driver, self.metadata = driver, metadata
        self.signature = tuple(source.signature.values())
        self.descriptions = tuple(getattr(metadata, "tensordesc_meta", None) or ())

    def __call__(
        self, x: int, y: int, z: int, stream: int, function: int, kernel_metadata: Any, launch_metadata: Any,
        enter: Callable[[Any], Any] | None, leave: Callable[[Any], Any] | None, *arguments: Any,
    ) -> None:  # fmt: skip
        metadata = self.metadata
        if enter is not None:
            enter(launch_metadata)
        metas = iter(self.descriptions)
        values = [value for ty, value in _flat(self.signature, arguments) for value in _packed(ty, value, metas)]
        cluster = int(getattr(metadata, "num_ctas", 1))
        for kind in ("global", "profile"):
            size = int(getattr(metadata, f"{kind}_scratch_size", 0) or 0) * x * y * z * cluster
            values.append(Array(np.zeros(size, np.uint8)) if size else bytes(8))
        block = 32 * int(metadata.num_warps)
        self.driver.launch(function, (x, y, z), block, cluster, int(metadata.shared), values)
        if leave is not None:
            leave(launch_metadata)


def _flat(signature: Sequence[Any], arguments: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """(type, argument) of what the kernel takes: tuples taken apart, constants left out."""
    for ty, argument in zip(signature, arguments, strict=True):
        if isinstance(ty, tuple):
            yield from _flat(ty, argument)
        elif ty != "constexpr":
            yield ty, argument


def _packed(ty: str, value: Any, metas: Iterator[Mapping[str, Any] | None]) -> list[Any]:
    """The parameters that one argument becomes."""
    if ty.startswith("tensordesc"):
        meta = next(metas, None)
        sizes = [n for numbers, form in ((value.shape, "<i"), (value.strides, "<q")) for n in _all(form, numbers)]
        if meta is not None:
            return [_Described(value.base, value, meta), *sizes]
        flags = [struct.pack("<b", flag) for flag in (value.padding == "nan", value.round_f32_to_tf32)]
        return [value.base, *_all("<q", value.shape), *_all("<q", value.strides), *flags, *sizes]
    if ty.startswith("*"):
        return [struct.pack("<Q", value) if isinstance(value, int) else bytes(8) if value is None else value]
    if ty == "bf16":
        return [struct.pack("<f", value)[2:]]
    if ty not in _FORMATS:
        raise Fault(f"an argument of Triton's type {ty} is not emulated")
    if "i" in ty or "u" in ty:
        bits = 8 if ty[1:] == "1" else int(ty[1:])
        return [(int(value) & ((1 << bits) - 1)).to_bytes(bits // 8, "little")]
    return [struct.pack(f"<{_FORMATS[ty]}", value)]


def _all(form: str, numbers: Sequence[int]) -> list[bytes]:
    return [struct.pack(form, int(n)) for n in numbers]


__all__ = ["Array", "Driver", "Launcher", "install"]

"""A program on the emulator."""

from __future__ import annotations

from fp4emu import Gpu, TensorMap
from fp4emu.swizzle import Swizzle
from fp4emu.tensormap import DataType, OobFill

from .program import HEAD, Map, Program


def run(program: Program, *, mode: str = "immediate", order: str | None = None) -> bytes:
    """The bytes of its output; faults go through."""
    gpu = Gpu("sm_90a", mode=mode)  # type: ignore[arg-type]
    out = gpu.alloc(program.out)
    gpu.write(out, bytes(program.out) if program.fill is None else program.fill)
    buffers = [gpu.alloc(array.nbytes) for array in program.inputs]
    for place, array in zip(buffers, program.inputs, strict=True):
        gpu.write(place, array)
    params: list[bytes | TensorMap] = [place.to_bytes(8, "little") for place in (out, *buffers)]
    if program.map is not None:
        params.append(tensor_map(program.map, out if program.map.buffer < 0 else buffers[program.map.buffer]))
    module = gpu.load(HEAD + program.entry())
    cluster = (program.cluster, 1, 1)
    gpu.launch(
        module, "main", (program.grid,), (program.block,), cluster=cluster, params=params,
        order=order,  # type: ignore[arg-type]
    )  # fmt: skip
    return gpu.read(out, program.out)


def tensor_map(given: Map, address: int) -> TensorMap:
    """The emulator's tensor map."""
    return TensorMap(
        DataType(given.type), address, given.dims, given.strides, given.box, given.steps,
        swizzle=Swizzle(given.swizzle), oob_fill=OobFill(given.fill),
    )  # fmt: skip

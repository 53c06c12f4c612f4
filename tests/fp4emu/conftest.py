"""Running a few PTX instructions on lanes of data.

With FP4EMU_PTXAS naming a ptxas, every text that the tests run is assembled by it too, so that the tests' PTX is
known to be PTX.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fp4emu import Gpu

Lanes = Callable[..., Any]
collect_ignore = [] if find_spec("triton") else ["test_with_triton.py"]


def assemble(text: str, target: str) -> None:
    """Fails the test if ptxas refuses the text."""
    ptxas = os.environ.get("FP4EMU_PTXAS")
    if not ptxas:
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "test.ptx"
        source.write_text(text)
        done = subprocess.run(
            [ptxas, f"-arch={target}", "-o", f"{folder}/test.cubin", str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, f"{done.stderr}\n{text}"


def module(target: str, body: str, params: str, head: str = "", name: str = "kernel", tuning: str = "") -> str:
    """A PTX module of one entry."""
    top = f".version 8.8\n.target {target}\n.address_size 64\n{head}\n"
    return f"{top}.visible .entry {name}({params}) {tuning}\n{{\n{body}\nret;\n}}\n"


def _load(index: int, dtype: np.dtype[Any]) -> str:
    size = dtype.itemsize
    return (
        f"ld.param.u64 %a, [in{index}]; cvta.to.global.u64 %a, %a; mad.wide.u32 %a, %i, {size}, %a; "
        f"ld.global.{'u8' if size == 1 else f'b{8 * size}'} %in{index}, [%a];"
    )


def _store(index: int, dtype: np.dtype[Any]) -> str:
    size = dtype.itemsize
    return (
        f"ld.param.u64 %a, [out{index}]; cvta.to.global.u64 %a, %a; mad.wide.u32 %a, %i, {size}, %a; "
        f"st.global.b{8 * size} [%a], %out{index};"
    )


@pytest.fixture
def lanes() -> Lanes:
    """`lanes(code, *inputs, out=dtype)`: runs `code` on each element of the input arrays, as threads of one block
    after the other.

    Input i is in the register %in<i> of its width (8-bit inputs: 16 bits), result i is taken from %out<i>. `out` is a
    dtype or a list of them; `regs` declares further registers.
    """

    def run(
        code: str,
        *inputs: Any,
        out: Any = np.uint32,
        regs: str = "",
        target: str = "sm_100a",
        mode: str = "immediate",
        lockstep: str | None = None,
        block: int = 64,
    ) -> Any:
        arrays = [np.ascontiguousarray(x).reshape(-1) for x in inputs]
        outs = [np.dtype(o) for o in (out if isinstance(out, list) else [out])]
        count = len(arrays[0]) if arrays else block
        grid = -(-count // block)
        padded = [np.resize(x, grid * block) for x in arrays]
        declared = "".join(f".reg .b{max(16, 8 * x.dtype.itemsize)} %in{i};\n" for i, x in enumerate(arrays))
        declared += "".join(f".reg .b{8 * o.itemsize} %out{i};\n" for i, o in enumerate(outs))
        body = "\n".join(
            [
                ".reg .b64 %a; .reg .b32 %i, %t; .reg .pred %p<8>;",
                ".reg .b32 %r<32>; .reg .b64 %rd<16>; .reg .b16 %h<16>;",
                regs,
                declared,
                "mov.u32 %i, %ctaid.x; mov.u32 %t, %ntid.x; mul.lo.u32 %i, %i, %t;",
                "mov.u32 %t, %tid.x; add.u32 %i, %i, %t;",
                *(_load(i, x.dtype) for i, x in enumerate(arrays)),
                code,
                *(_store(i, o) for i, o in enumerate(outs)),
            ]
        )
        params = ", ".join(
            [f".param .u64 in{i}" for i in range(len(arrays))] + [f".param .u64 out{i}" for i in range(len(outs))]
        )
        text = module(target, body, params)
        assemble(text, target)
        gpu = Gpu(target, mode=mode, lockstep=lockstep)  # type: ignore[arg-type]
        pointers: list[int] = []
        for x in padded:
            pointers.append(gpu.alloc(x.nbytes))
            gpu.write(pointers[-1], x)
        pointers += [gpu.alloc(grid * block * o.itemsize) for o in outs]
        gpu.launch(gpu.load(text), "kernel", (grid,), (block,), params=[p.to_bytes(8, "little") for p in pointers])
        results = [
            np.frombuffer(gpu.read(p, grid * block * o.itemsize), o)[:count]
            for p, o in zip(pointers[len(arrays) :], outs, strict=True)
        ]
        return results if isinstance(out, list) else results[0]

    return run


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def special_floats() -> np.ndarray[Any, np.dtype[np.float32]]:
    """f32 values where operations go wrong: zeros, subnormals, limits, infinities, NaN, ties of narrower formats."""
    bits = np.array(
        [
            0,
            1,
            2,
            0x007FFFFF,
            0x00800000,
            0x00800001,
            0x33800000,
            0x34000000,
            0x3EFFFFFF,
            0x3F000000,
            0x3F7FFFFF,
            0x3F800000,
            0x3F800001,
            0x3F808000,
            0x3F818000,
            0x3F800FFF,
            0x3F801000,
            0x40490FDB,
            0x477FE000,
            0x477FEFFF,
            0x477FF000,
            0x43E00000,
            0x47600000,
            0x7F7FFFFF,
            0x7F7F7FFF,
            0x7F7F8000,
            0x7F800000,
            0x7FC00000,
            0x7F800001,
            0x4B000000,
            0x4F000000,
            0x5F000000,
        ],
        np.uint32,
    )
    return np.concatenate([bits, bits | 0x8000_0000]).astype(np.uint32).view(np.float32)


@pytest.fixture
def kernel() -> Lanes:
    """`kernel(body, params=..., out=bytes, ...)`: runs a kernel whose first parameter is the 64-bit address `out` of
    that many bytes.

    `%out` holds the global address, `%T` and `%C` the thread and CTA number, `%W` the warp and `%L` the lane. Returns
    the bytes written; they are `fill` before, or zero, or not written at all (`fill=False`).
    """

    def run(
        body: str,
        *,
        out: int = 4,
        fill: bool | bytes = True,
        grid: tuple[int, ...] = (1,),
        block: int = 32,
        cluster: tuple[int, ...] = (1, 1, 1),
        shared: int = 0,
        head: str = "",
        regs: str = "",
        target: str = "sm_100a",
        mode: str = "immediate",
        seed: int = 0,
        lockstep: str | None = None,
        inputs: tuple[bytes, ...] = (),
        tuning: str = "",
        functions: str = "",
        order: str | None = None,
    ) -> bytes:
        declared = (
            ".reg .pred %p<16>; .reg .b16 %h<16>; .reg .b32 %r<64>; .reg .b64 %rd<32>; .reg .f32 %f<16>; "
            ".reg .b64 %out, %in<4>; "
            f".reg .b32 %T, %C, %W, %L; {regs}\n"
            "ld.param.u64 %out, [out]; cvta.to.global.u64 %out, %out; mov.u32 %T, %tid.x; mov.u32 %C, %ctaid.x; "
            "shr.u32 %W, %T, 5; mov.u32 %L, %laneid;\n"
        )
        declared += "".join(f"ld.param.u64 %in{i}, [in{i}];\n" for i in range(len(inputs)))
        params = ", ".join([".param .u64 out", *(f".param .u64 in{i}" for i in range(len(inputs)))])
        text = module(target, declared + body, params, head + functions, tuning=tuning)
        assemble(text, target)
        gpu = Gpu(target, mode=mode, seed=seed, lockstep=lockstep)  # type: ignore[arg-type]
        address = gpu.alloc(out)
        if fill:
            gpu.write(address, fill if isinstance(fill, bytes) else bytes(out))
        pointers = [address]
        for data in inputs:
            pointers.append(gpu.alloc(len(data)))
            gpu.write(pointers[-1], data)
        gpu.launch(
            gpu.load(text),
            "kernel",
            grid,
            (block,),
            cluster=cluster,
            shared_bytes=shared,
            params=[p.to_bytes(8, "little") for p in pointers],
            order=order,  # type: ignore[arg-type]
        )
        return gpu.read(address, out)

    return run

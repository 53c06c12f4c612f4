"""What is run on a GPU and on the emulator: a PTX entry, its inputs, and the bytes that it writes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
HEAD = ".version 8.8\n.target sm_90a\n.address_size 64\n"
REGISTERS = (
    ".reg .pred %p<8>; .reg .b16 %h<8>; .reg .b32 %r<32>; .reg .b64 %x<16>, %out, %in<4>, %map, %at; "
    ".reg .b32 %T, %C, %L, %W, %i;\n"
)


@dataclass(frozen=True, slots=True)
class Map:
    """A tensor map (`cuTensorMapEncodeTiled`) of a buffer: -1 for the output, else the number of an input. `type`,
    `swizzle` and `fill` are the numbers of the driver's enumerations; `strides` bytes from dimension 1 on."""

    buffer: int
    type: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    steps: tuple[int, ...]
    swizzle: int = 0
    fill: int = 0


@dataclass(frozen=True, slots=True)
class Near:
    """Results that a GPU may round in another way: read as `dtype`, they differ by at most `relative` of the value
    plus `absolute`. Without both only the payloads of NaN may differ."""

    dtype: str
    relative: float = 0.0
    absolute: float = 0.0

    def holds(self, found: bytes, expected: bytes) -> bool:
        """Whether each number is near enough; infinities are in the same places, and NaN, whatever their payloads."""
        a, b = self._values(found), self._values(expected)
        alike = (a == b) & (np.signbit(a) == np.signbit(b))
        if self.relative or self.absolute:
            with np.errstate(invalid="ignore", over="ignore"):
                alike |= np.abs(a - b) <= np.abs(b) * self.relative + self.absolute
        return bool((alike | (np.isnan(a) & np.isnan(b))).all())

    def _values(self, raw: bytes) -> NDArray[np.float64]:
        if self.dtype == "bf16":
            return (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        return np.frombuffer(raw, self.dtype).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Program:
    """One launch. `body` finds the addresses of its buffers in %out and %in0.., of its tensor map in %map, and its
    thread, CTA, lane and warp in %T, %C, %L and %W. `out` bytes of output hold `fill` before, or zeros. `whole`: all
    of the output is kept, not its digest. `near`: how closely, where not exactly."""

    name: str
    body: str
    inputs: tuple[Array, ...]
    out: int
    block: int = 128
    grid: int = 1
    cluster: int = 1
    fill: Array | None = None
    map: Map | None = None
    whole: bool = False
    near: Near | None = None

    def entry(self, name: str = "main") -> str:
        """The entry's text."""
        params = [".param .u64 out", *(f".param .u64 in{i}" for i in range(len(self.inputs)))]
        start = "ld.param.u64 %out, [out]; cvta.to.global.u64 %out, %out;\n"
        for i in range(len(self.inputs)):
            start += f"ld.param.u64 %in{i}, [in{i}]; cvta.to.global.u64 %in{i}, %in{i};\n"
        if self.map is not None:
            params.append(".param .align 64 .b8 map[128]")
            start += "mov.b64 %map, map; cvta.param.u64 %map, %map;\n"
        start += "mov.u32 %T, %tid.x; mov.u32 %C, %ctaid.x; mov.u32 %L, %laneid; shr.u32 %W, %T, 5;\n"
        tuning = f" .explicitcluster .reqnctapercluster {self.cluster}" if self.cluster > 1 else ""
        return f".visible .entry {name}({', '.join(params)}){tuning}\n{{\n{REGISTERS}{start}{self.body}\nret;\n}}\n"

    def given(self) -> str:
        """A digest of all that decides the results: a recorded result belongs to these very inputs."""
        state = hashlib.sha256(self.entry().encode())
        state.update(repr((self.out, self.block, self.grid, self.map)).encode())
        for array in (*self.inputs, *([] if self.fill is None else [self.fill])):
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()[:12]


def address(base: str, index: str, size: int, register: str = "%at") -> str:
    """PTX that puts the address of element `index` into a register."""
    return f"mad.wide.u32 {register}, {index}, {size}, {base};"


def loads(base: str, index: str, registers: Sequence[str]) -> str:
    """PTX that loads 32-bit registers, of which each `index` has as many in a row."""
    lines = [address(base, index, 4 * len(registers))]
    lines += [f"ld.global.b32 {r}, [%at+{4 * i}];" for i, r in enumerate(registers)]
    return "\n".join(lines)


def stores(base: str, index: str, registers: Sequence[str]) -> str:
    """The same for stores."""
    lines = [address(base, index, 4 * len(registers))]
    lines += [f"st.global.b32 [%at+{4 * i}], {r};" for i, r in enumerate(registers)]
    return "\n".join(lines)


def copied(count: int, block: int, label: str, *, to_shared: bool, shared: str = "window", base: str = "%in0") -> str:
    """PTX with which `block` threads copy `count` bytes (a multiple of 16 * block) between global memory from `base`
    on and the shared array; ends with a barrier."""
    move = (
        "ld.global.v4.b32 {%r20, %r21, %r22, %r23}, [%x8]; st.shared.v4.b32 [%r24], {%r20, %r21, %r22, %r23};"
        if to_shared
        else "ld.shared.v4.b32 {%r20, %r21, %r22, %r23}, [%r24]; st.global.v4.b32 [%x8], {%r20, %r21, %r22, %r23};"
    )
    return f"""
mov.b32 %r24, {shared}; mad.lo.u32 %r24, %T, 16, %r24; mad.wide.u32 %x8, %T, 16, {base}; mov.u32 %i, 0;
{label}: {move}
add.u32 %r24, %r24, {16 * block}; add.u64 %x8, %x8, {16 * block}; add.u32 %i, %i, 1;
setp.lt.u32 %p7, %i, {count // (16 * block)}; @%p7 bra {label};
bar.sync 0;
"""

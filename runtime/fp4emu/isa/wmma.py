"""wmma.load, wmma.mma and wmma.store (PTX ISA 9.7.15.4).

Which element of a matrix a lane holds where is not specified (9.7.15.4.1): a fragment means something to the wmma
instructions of one kernel alone, of the same shape, type and layout. Here element i of a matrix, counted in the order
of its layout (row after row, or column after column for `.col`; accumulators row after row), lies at position i: first
come the elements of lane 0's registers, then those of lane 1. Where a fragment has more room than elements they are
repeated, as on GPUs, and the first copy counts. So a fragment that is used in another layout than it was loaded in
holds the transpose, which its values show.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fp4emu import operands
from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.machine import WarpContext
from fp4emu.memory import GLOBAL_BASE, RANK_SHIFT, SHARED_WINDOW
from fp4emu.mma_sync import Words
from fp4emu.operands import Element
from fp4emu.products import multiply
from fp4emu.registry import instruction

WIDE = "m16n16k16|m8n32k16|m32n8k16"
SPACE = "[space=global|shared|shared::cta]"
LAYOUT = "layout=row|col"
_ELEMENTS: dict[str, Element] = {
    "f16": operands.F16,
    "bf16": operands.BF16,
    "tf32": operands.TF32,
    "s8": operands.S8,
    "u8": operands.U8,
}
_BYTES = {"f16": 2, "bf16": 2, "tf32": 4, "s8": 1, "u8": 1, "f32": 4, "s32": 4}
_REPEATED = 8
"""Registers of a fragment of f16, whose elements may be repeated."""


def _sizes(shape: str) -> tuple[int, int, int]:
    m, rest = shape[1:].split("n")
    n, k = rest.split("k")
    return int(m), int(n), int(k)


def _extent(ins: Instruction, matrix: str) -> tuple[int, int]:
    """Rows and columns of a matrix: "a", "b", or "c" and "d"."""
    m, n, k = _sizes(ins.mod("shape"))
    return {"a": (m, k), "b": (k, n)}.get(matrix, (m, n))


def _registers(kind: str, count: int, matrix: str) -> int:
    """Registers of a fragment of `count` elements."""
    if kind == "f16" and matrix in "ab":
        return _REPEATED
    return count * _BYTES[kind] // 128


def _whole(warp: WarpContext) -> None:
    if warp.active != 0xFFFF_FFFF:
        raise Fault(f"a .sync.aligned instruction with active mask {warp.active:#010x}: the whole warp must execute it")


def _same(value: Any, what: str) -> int:
    lanes = np.broadcast_to(np.asarray(value, np.int64), 32)
    if (lanes != lanes[0]).any():
        raise Fault(f"the {what} of a wmma instruction differs between the lanes of the warp")
    return int(lanes[0])


class _Lines:
    """The lines of a matrix in memory: rows, or columns for `.col`, `stride` elements apart.

    The ISA has lines begin at multiples of a thread's part of the fragment (9.7.15.4.2); CUDA C++ asks for 32 bytes of
    the address and 16 of the stride, which is less where that part has 32 bytes, and is what is asked for then.
    """

    def __init__(self, warp: WarpContext, ins: Instruction, address: Any, stride: Any, matrix: str, kind: str) -> None:
        _whole(warp)
        rows, columns = _extent(ins, matrix)
        self.count, self.length = (rows, columns) if ins.mod("layout") == "row" else (columns, rows)
        self.transposed = ins.mod("layout") == "col"
        self.size = _BYTES[kind]
        self._start = _same(address, "address")
        self._stride = (self.length if stride is None else _same(stride, "stride")) * self.size
        self._warp = warp
        fragment = 4 * _registers(kind, rows * columns, matrix)
        if self._start % min(fragment, 32):
            raise Fault(f"wmma: the address {self._start:#x} is not a multiple of {min(fragment, 32)}")
        step = min(fragment, 16)
        if self._stride % step or self._stride < self.length * self.size:
            raise Fault(
                f"wmma: a stride of {self._stride // self.size} elements; it is at least {self.length}, and a multiple "
                f"of {step // self.size}"
            )

    def _places(self) -> list[int]:
        return [self._start + line * self._stride for line in range(self.count)]

    def _shared(self, address: int, ins: Instruction) -> int | None:
        """The offset in the CTA's shared memory, None for global memory."""
        if address >= GLOBAL_BASE and not ins.mod("space").startswith("shared"):
            return None
        place = address - SHARED_WINDOW if address >= SHARED_WINDOW else address
        if ins.mod("space") == "global" or place >> RANK_SHIFT != self._warp.cta.rank:
            raise Fault(f"wmma: the address {address:#x} is not in the memory that the instruction names")
        return place & ((1 << RANK_SHIFT) - 1)

    def read(self, ins: Instruction) -> npt.NDArray[np.uint8]:
        """The bytes [line, byte]."""
        width, found = self.length * self.size, list[npt.NDArray[np.uint8]]()
        for address in self._places():
            offset = self._shared(address, ins)
            if offset is None:
                found.append(np.frombuffer(self._warp.memory.read(address, width), np.uint8))
            else:
                self._warp.cta.shared.check_read(offset, width)
                found.append(self._warp.cta.shared.data[offset : offset + width])
        return np.stack(found)

    def write(self, ins: Instruction, lines: npt.NDArray[np.uint8]) -> None:
        """Changes the bytes [line, byte]."""
        for address, line in zip(self._places(), lines, strict=True):
            offset = self._shared(address, ins)
            if offset is None:
                self._warp.memory.write(address, line.tobytes())
            else:
                self._warp.cta.shared.check_write(offset, line.size, proxy="generic")
                self._warp.cta.shared.data[offset : offset + line.size] = line


def _packed(raw: npt.NDArray[np.uint8], registers: int) -> Words:
    """The bytes of the elements in their order as registers [register, lane], repeated as often as there is room."""
    whole = np.resize(raw.reshape(-1), registers * 32 * 4)
    return np.ascontiguousarray(whole.view(np.uint32).reshape(32, registers).T)


def _unpacked(values: list[Words], registers: int, used: int) -> npt.NDArray[np.uint8]:
    """The first `used` bytes of a fragment."""
    if len(values) != registers:
        raise Fault(f"{len(values)} registers where the fragment has {registers}")
    words = np.stack([np.broadcast_to(np.asarray(value, np.uint32), 32) for value in values])
    return np.ascontiguousarray(words.T).view(np.uint8).reshape(-1)[:used]


@instruction(
    "wmma.load.a",
    f"sync aligned {LAYOUT} shape={WIDE} {SPACE} type=f16|bf16|s8|u8",
    f"sync aligned {LAYOUT} shape=m16n16k8 {SPACE} type=tf32",
    style="warp",
    section="9.7.15.4.3",
    outputs=1,
)
@instruction(
    "wmma.load.b",
    f"sync aligned {LAYOUT} shape={WIDE} {SPACE} type=f16|bf16|s8|u8",
    f"sync aligned {LAYOUT} shape=m16n16k8 {SPACE} type=tf32",
    style="warp",
    section="9.7.15.4.3",
    outputs=1,
)
@instruction(
    "wmma.load.c",
    f"sync aligned {LAYOUT} shape={WIDE} {SPACE} type=f16|f32|s32",
    f"sync aligned {LAYOUT} shape=m16n16k8 {SPACE} type=f32",
    style="warp",
    section="9.7.15.4.3",
    outputs=1,
)
def load(warp: WarpContext, ins: Instruction, address: Any, stride: Any = None) -> Words:
    """A matrix in memory to a fragment."""
    matrix, kind = ins.rule.opcode[-1], ins.mod("type")
    lines = _Lines(warp, ins, address, stride, matrix, kind)
    raw = lines.read(ins)
    if matrix == "c" and lines.transposed:
        raw = _turned(raw, lines.size)
    return _packed(raw, _registers(kind, lines.count * lines.length, matrix))


@instruction(
    "wmma.store.d",
    f"sync aligned {LAYOUT} shape={WIDE} {SPACE} type=f16|f32|s32",
    f"sync aligned {LAYOUT} shape=m16n16k8 {SPACE} type=f32",
    style="warp",
    section="9.7.15.4.4",
)
def store(warp: WarpContext, ins: Instruction, address: Any, values: list[Words], stride: Any = None) -> None:
    """A fragment of an accumulator to memory."""
    kind = ins.mod("type")
    lines = _Lines(warp, ins, address, stride, "d", kind)
    rows, columns = _extent(ins, "d")
    count = rows * columns
    raw = _unpacked(values, _registers(kind, count, "d"), count * lines.size).reshape(rows, -1)
    lines.write(ins, _turned(raw, lines.size) if lines.transposed else raw)


def _turned(raw: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """The transpose of a matrix [line, byte] of `size`-byte elements."""
    elements = raw.reshape(len(raw), -1, size).transpose(1, 0, 2)
    return np.ascontiguousarray(elements).reshape(elements.shape[0], -1)


def _operand(ins: Instruction, values: list[Words], matrix: str, kind: str) -> npt.NDArray[np.float64]:
    rows, columns = _extent(ins, matrix)
    raw = _unpacked(values, _registers(kind, rows * columns, matrix), rows * columns * _BYTES[kind])
    flat = operands.decode_bytes(raw, _ELEMENTS[kind]).reshape(-1).astype(np.float64)
    return flat.reshape(columns, rows).T if ins.mod(f"{matrix}layout") == "col" else flat.reshape(rows, columns)


_LAYOUTS = "sync aligned alayout=row|col blayout=row|col"


@instruction(
    "wmma.mma",
    f"{_LAYOUTS} shape={WIDE} d=f16|f32 c=f16|f32",
    f"{_LAYOUTS} shape={WIDE} d=f32 a=bf16 b=bf16 c=f32",
    f"{_LAYOUTS} shape=m16n16k8 d=f32 a=tf32 b=tf32 c=f32",
    f"{_LAYOUTS} shape={WIDE} d=s32 a=s8|u8 b=s8|u8 c=s32 [satfinite]",
    style="warp",
    section="9.7.15.4.5",
    outputs=1,
)
def mma(warp: WarpContext, ins: Instruction, a: list[Words], b: list[Words], c: list[Words]) -> Words:
    """D = A * B + C."""
    _whole(warp)
    kinds = [ins.mod(name) or "f16" for name in "ab"]
    if kinds[0] != kinds[1]:
        raise Fault(f"wmma.mma of .{kinds[0]} and .{kinds[1]}: both have the same type")
    product = multiply(_operand(ins, a, "a", kinds[0]), np.ascontiguousarray(_operand(ins, b, "b", kinds[1]).T))
    rows, columns = _extent(ins, "d")
    count, to, add = rows * columns, ins.mod("d"), ins.mod("c")
    raw = _unpacked(c, _registers(add, count, "c"), count * _BYTES[add])
    if to == "s32":
        whole = product.astype(np.int64).reshape(-1) + raw.view(np.int32)
        if ins.has("satfinite"):
            whole = np.clip(whole, -(1 << 31), (1 << 31) - 1)
        result: Any = whole.astype(np.int32)
    else:
        dtype = {"f16": np.float16, "f32": np.float32}
        with np.errstate(over="ignore", invalid="ignore"):
            result = (product.reshape(-1) + raw.view(dtype[add])).astype(dtype[to])
    return _packed(np.ascontiguousarray(result).view(np.uint8), _registers(to, count, "d"))

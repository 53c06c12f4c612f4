"""tcgen05.mma: D = A * B (+ D) with D in tensor memory (PTX ISA, "tcgen05.mma", "Data path layout organization",
"Block scaling for tcgen05.mma").

Numbers. Operands decode to float32 exactly, scales included, and are multiplied by one BLAS product in float32 (in
float64 where block scales would leave float32's range, and for integers). So a sum that is exact in float32 in every
order comes out exact, and any other one within the usual n * 2^-24 * sum|x| of it. The hardware's own order of
additions is not documented, and not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fp4emu import descriptors, operands, tmem
from fp4emu.errors import Fault
from fp4emu.instruction_descriptor import MmaShape
from fp4emu.machine import Cta
from fp4emu.memory import TensorMemory
from fp4emu.operands import Element
from fp4emu.products import multiply

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

# Scale codes of ue8m0 between which no product of a scale and an element leaves float32's normal range.
_SAFE_E8M0 = (40, 214)


@dataclass(frozen=True, slots=True)
class Block:
    """A part of D in one CTA: `lanes` of tensor memory hold `rows` and, from the first column of D on, columns
    `columns`."""

    lanes: slice
    rows: slice
    columns: slice


def layout(m: int, n: int, group: int, rank: int, lane: int, ws: bool) -> tuple[list[Block], int]:
    """Where D lies in the CTA with parity `rank` of its pair, and the width of D in columns."""
    if group == 1 and m == 64 and not ws:
        if lane not in (0, 16):
            raise Fault(f"D of an M = 64 MMA starts at lane {lane}; it must be 0 or 16")
        quarters = [
            Block(slice(32 * q + lane, 32 * q + lane + 16), slice(16 * q, 16 * q + 16), slice(0, n)) for q in range(4)
        ]
        return quarters, n
    if lane:
        raise Fault(f"D starts at lane {lane}; it must be lane 0")
    rows = m // group
    first = rows * rank
    parts = 128 // rows
    width = n // parts
    blocks = [
        Block(slice(rows * p, rows * p + rows), slice(first, first + rows), slice(width * p, width * p + width))
        for p in range(parts)
    ]
    return blocks, width


@dataclass(frozen=True, slots=True)
class Mma:
    """One instruction, decoded. `a` is a descriptor, or with `a_in_tmem` a tensor-memory address."""

    shape: MmaShape
    ctas: tuple[Cta, ...]
    d: int
    a: int
    b: int
    a_in_tmem: bool
    accumulate: bool
    scale_d: int = 0
    scale_a: int = 0
    scale_b: int = 0
    disabled: tuple[int, ...] = ()
    ws: bool = False

    def run(self) -> None:
        """The whole effect."""
        shape = self.shape
        a = _stack([self._operand_a(cta, r) for r, cta in enumerate(self.ctas)])
        b = _stack([self._operand_b(cta) for cta in self.ctas])
        if shape.negate_a:
            a = -a
        if shape.negate_b:
            b = -b
        wide = shape.kind == "i8"
        if shape.block:
            a, b, wide = self._apply_scales(a, b)
        if wide:
            a, b = a.astype(np.float64), b.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            self._accumulate(multiply(a, b))

    # --- operands ---

    def _operand_a(self, cta: Cta, rank: int) -> Floats:
        shape, rows = self.shape, self.shape.m // len(self.ctas)
        if self.a_in_tmem:
            return self._operand_from_tmem(cta, rank, rows)
        return _from_shared(cta, self.a, rows, shape.k, shape.a, shape.transpose_a)

    def _operand_b(self, cta: Cta) -> Floats:
        shape = self.shape
        return _from_shared(cta, self.b, shape.n // len(self.ctas), shape.k, shape.b, shape.transpose_b)

    def _operand_from_tmem(self, cta: Cta, rank: int, rows: int) -> Floats:
        shape = self.shape
        contained = shape.a.packing == "padded"  # a sub-byte element has a byte of its own in tensor memory
        lane, column = tmem.split(self.a)
        width = shape.k * (8 if contained else shape.a.bits) // 32
        tmem.check_columns(cta.tensor, column, width, "A of tcgen05.mma")
        blocks, _ = layout(shape.m, 8, len(self.ctas), rank, lane, self.ws)
        columns = slice(column, column + width)
        parts: list[npt.NDArray[np.uint32]] = []
        for block in blocks:
            tmem.check_written(cta.tensor, block.lanes, columns, "A of tcgen05.mma")
            if cta.tensor.touch is not None:
                cta.tensor.touch((block.lanes, columns), False)
            parts.append(cta.tensor.data[block.lanes, columns])
        if blocks[0].rows == blocks[-1].rows and len(blocks) > 1:
            if any((part != parts[0]).any() for part in parts[1:]):
                raise Fault(f"A of an M = {shape.m} MMA must be repeated in every group of {rows} lanes")
            parts = parts[:1]
        data = np.ascontiguousarray(np.concatenate(parts)).view(np.uint8)
        return operands.decode_contained(data, shape.a) if contained else operands.decode_bytes(data, shape.a)

    # --- block scales ---

    def _apply_scales(self, a: Floats, b: Floats) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating], bool]:
        shape = self.shape
        group = len(self.ctas)
        split_b = group == 2 and shape.m == 128
        count, rows = shape.k // shape.block, shape.m // group
        codes_a = _stack([scale_bytes(c.tensor, self.scale_a, rows, count, shape.id_a, "A") for c in self.ctas])
        each_b = [
            scale_bytes(c.tensor, self.scale_b, shape.n, count, shape.id_b, "B", halves=split_b) for c in self.ctas
        ]
        codes_b = each_b[0]
        if group == 2 and (each_b[1] != codes_b).any():
            raise Fault(
                "the scales of B differ between the two CTAs of the pair",
                hint="with cta_group::2 each CTA holds the scales of all N rows of B",
            )
        wide = False
        if shape.scale == "ue8m0":
            low, high = _SAFE_E8M0
            for codes in (codes_a, codes_b):
                wide = wide or bool(codes.min() < low or codes.max() > high)
        elif (codes_a & 0x80).any() or (codes_b & 0x80).any():
            raise Fault(
                "a ue4m3 scale byte has its sign bit set", hint="scales are unsigned; was an e4m3 value stored?"
            )
        table = operands.scale_table(shape.scale)
        kind = np.float64 if wide else np.float32
        return _scaled(a, np.take(table, codes_a), kind), _scaled(b, np.take(table, codes_b), kind), wide

    # --- the accumulator ---

    def _accumulate(self, product: npt.NDArray[np.floating]) -> None:
        shape, group = self.shape, len(self.ctas)
        lane, column = tmem.split(self.d)
        for rank, cta in enumerate(self.ctas):
            blocks, width = layout(shape.m, shape.n, group, rank, lane, self.ws)
            tmem.check_columns(cta.tensor, column, width, "D of tcgen05.mma")
            enabled = _enabled(self.disabled, rank)
            for block in blocks:
                columns = slice(column, column + block.columns.stop - block.columns.start)
                if self.accumulate:
                    tmem.check_written(cta.tensor, block.lanes, columns, "D of tcgen05.mma")
                if cta.tensor.touch is not None:
                    cta.tensor.touch((block.lanes, columns), True)
                old = cta.tensor.data[block.lanes, columns]
                new = self._combine(old, product[block.rows, block.columns])
                if enabled is not None:
                    new = np.where(enabled[block.lanes, None], new, old)
                cta.tensor.data[block.lanes, columns] = new
                written = cta.tensor.written[block.lanes, columns]
                written |= True if enabled is None else enabled[block.lanes, None]

    def _combine(self, old: npt.NDArray[np.uint32], product: npt.NDArray[np.floating]) -> npt.NDArray[np.uint32]:
        d = self.shape.d
        if d == "s32":
            total = product.astype(np.int64)
            if self.accumulate:
                total = total + old.view(np.int32)
            if self.shape.saturate:
                total = np.clip(total, -(1 << 31), (1 << 31) - 1)
            return total.astype(np.int32).view(np.uint32)
        total = product
        if self.accumulate:
            addend = old.view(np.float32) if d == "f32" else (old & 0xFFFF).astype(np.uint16).view(np.float16)
            total = product + (addend * np.float32(2.0**-self.scale_d) if self.scale_d else addend)
        if d == "f32":
            return np.ascontiguousarray(total, dtype=np.float32).view(np.uint32)
        return total.astype(np.float16).view(np.uint16).astype(np.uint32)


def _stack(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _from_shared(cta: Cta, value: int, rows: int, depth: int, element: Element, transposed: bool) -> Floats:
    """An operand [rows, depth] that a matrix descriptor names in `cta`'s shared memory."""
    descriptor = descriptors.tcgen05_descriptor(value)
    if transposed:
        addresses = descriptors.mn_major_bytes(descriptor, rows, depth, element.bits // 8)
        data = descriptors.gather_elements(cta.shared, addresses, element.bits // 8)
        return operands.decode_bytes(data.reshape(rows, -1), element)
    chunks = descriptors.k_major_chunks(descriptor, rows, depth // element.per_chunk)
    return operands.decode_chunks(descriptors.gather_chunks(cta.shared, chunks, element.used), element)


def _scaled(x: Floats, scales: Floats, kind: type[np.floating]) -> npt.NDArray[np.floating]:
    rows, count = scales.shape
    grouped = x.reshape(rows, count, -1).astype(kind, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        return (grouped * scales[:, :, None].astype(kind, copy=False)).reshape(rows, -1)


def scale_bytes(
    memory: TensorMemory, address: int, rows: int, count: int, first: int, name: str, *, halves: bool = False
) -> Bytes:
    """Scale codes [rows, count] of an operand from tensor memory (PTX ISA, "Scale factor layout").

    Row 32 g + i has byte (first + j) % 4 of lane i, column base + (first + j) // 4 * G + g, where G = 4 * ceil(rows /
    128). All four groups of 32 lanes hold a copy. With `halves` (M = 128 over two CTAs) the two upper groups of lanes
    hold the second half of the rows instead.
    """
    if halves:
        upper = scale_bytes_of(memory, address, rows // 2, count, first, name, (2, 3))
        return np.concatenate([scale_bytes_of(memory, address, rows // 2, count, first, name, (0, 1)), upper])
    return scale_bytes_of(memory, address, rows, count, first, name, (0, 1, 2, 3))


def scale_bytes_of(
    memory: TensorMemory, address: int, rows: int, count: int, first: int, name: str, copies: tuple[int, ...]
) -> Bytes:
    """`scale_bytes` from those groups of 32 lanes, which must agree."""
    lane, base = tmem.split(address & 0x3FFF_FFFF)
    what = f"the scales of {name}"
    if lane:
        raise Fault(f"{what} start at lane {lane}; they must start at lane 0")
    groups = -(-rows // 32)
    stride = 4 * -(-rows // 128)
    last = (first + count - 1) // 4
    reach = last * stride + groups
    tmem.check_columns(memory, base, reach, what)
    pieces: list[Bytes] = []
    for word in range(last + 1):
        start = base + word * stride
        columns = slice(start, start + groups)
        lanes = slice(32 * copies[0], 32 * copies[-1] + 32)
        tmem.check_written(memory, lanes, columns, what)
        if memory.touch is not None:
            memory.touch((lanes, columns), False)
        cells = memory.data[lanes, columns].reshape(len(copies), 32, groups)
        if (cells != cells[0]).any():
            raise Fault(
                f"{what} differ between the groups of 32 lanes (columns {start} to {start + groups - 1})",
                hint="scales are repeated in all four: tcgen05.cp .32x128b.warpx4",
            )
        words = np.ascontiguousarray(cells[0].T)  # [group, lane]
        pieces.append(words.view(np.uint8).reshape(groups * 32, 4))
    return np.concatenate(pieces, axis=1)[:rows, first : first + count]


def _enabled(disabled: tuple[int, ...], rank: int) -> npt.NDArray[np.bool_] | None:
    """Lanes of CTA `rank` of the pair that D may be written to; None if all."""
    if not any(disabled):
        return None
    words = np.array(disabled[4 * rank : 4 * rank + 4], np.uint32)
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    return bits == 0

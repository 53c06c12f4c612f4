"""atom and red: read, change and write one place in memory (PTX ISA 9.7.13.6 and 9.7.13.7).

Threads execute in lane order, one after the other, so each sees what those before it wrote. The order in which hardware
runs them is not defined: a kernel whose result depends on it is wrong on both.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.isa import half
from fp4emu.machine import ThreadContext
from fp4emu.memory import GLOBAL_BASE, RANK_SHIFT, SHARED_WINDOW
from fp4emu.order import rules
from fp4emu.registry import instruction

ORDER = "[sem=relaxed|acquire|release|acq_rel] [scope=cta|cluster|gpu|sys]"
SPACE = "[space=global|shared|shared::cta|shared::cluster]"
INTEGERS = "type=u32|s32|u64|s64"
FORMS = (
    f"{ORDER} {SPACE} op=add|min|max {INTEGERS}",
    f"{ORDER} {SPACE} op=and|or|xor type=b32|b64",
    f"{ORDER} {SPACE} op=inc|dec type=u32",
    f"{ORDER} {SPACE} op=add type=f32|f64",
    f"{ORDER} {SPACE} op=add noftz type=f16|f16x2|bf16|bf16x2",
)
EXCHANGES = (f"{ORDER} {SPACE} op=exch|cas type=b32|b64", f"{ORDER} {SPACE} op=cas type=b16")
#: Bytes of the packed types; those of the others are in their names.
_PACKED = {"f16x2": 4, "bf16x2": 4, "bf16": 2}

_INTEGER: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "min": min,
    "max": max,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "inc": lambda a, b: 0 if a >= b else a + 1,
    "dec": lambda a, b: b if a == 0 or a > b else a - 1,
}


def _update(thread: ThreadContext, ins: Instruction, address: int, change: Callable[[int], int]) -> int:
    """Replace the bits in memory by `change` of them; returns the old ones."""
    kind = ins.mod("type")
    size = _PACKED.get(kind) or int(kind[1:]) // 8
    if address % size:
        raise Fault(f"atomic access of {size} bytes at {address:#x}, which is not a multiple of {size}")
    space = ins.mod("space")
    if not space and SHARED_WINDOW <= address < GLOBAL_BASE:
        space, address = "shared::cluster", address - SHARED_WINDOW
    if not space or space == "global":
        memory = thread.warp.memory
        old = int.from_bytes(memory.read(address, size), "little")
        new = change(old)
        _synchronise(thread, ins, (-1, address))
        memory.write(address, new.to_bytes(size, "little"))
        _seen(thread, memory.data, address - GLOBAL_BASE, (old, new), size, lambda: f"global {memory.name(address)}")
        return old
    if space != "shared::cluster" and address >> RANK_SHIFT != thread.cta.rank:
        raise Fault(f"the shared::cta address {address:#x} is not in the executing CTA (rank {thread.cta.rank})")
    shared, offset = thread.cluster.resolve(address)
    shared.check_read(offset, size)
    old = int.from_bytes(shared.data[offset : offset + size].tobytes(), "little")
    shared.check_write(offset, size, proxy="generic")
    new = change(old)
    _synchronise(thread, ins, (id(shared), offset))
    shared.data[offset : offset + size] = list(new.to_bytes(size, "little"))
    _seen(thread, shared.data, offset, (old, new), size, lambda: f"shared {shared.describe(offset)}")
    return old


def _synchronise(thread: ThreadContext, ins: Instruction, key: tuple[int, int]) -> None:
    """What an update acquires and releases at its place, for who watches the order of accesses."""
    observer = thread.machine.order
    if observer is not None:
        if ins.rule.opcode == "atom":
            rules.acquired(observer, thread.warp, thread.lane, ins, key)
        rules.released(observer, thread.warp, thread.lane, ins, key)


def _seen(
    thread: ThreadContext,
    data: NDArray[np.uint8],
    start: int,
    bits: tuple[int, int],
    size: int,
    where: Callable[[], str],
) -> None:
    """Tells who watches for spinning: an update that changes nothing (a failed compare and swap) is a read."""
    watch = thread.machine.watch
    if watch is None:
        return
    if bits[0] != bits[1]:
        watch.disturbed()
    watch.note(data, slice(start, start + size), where)


def _combined(ins: Instruction, old: int, operand: int) -> int:
    """The new bits of a reduction."""
    kind, op = ins.mod("type"), ins.mod("op")
    if "16" in kind:
        return _half_sum(old, operand, kind)
    bits = int(kind[1:])
    if kind[0] == "f":
        return _float_sum(old, operand, bits, quiet=ins.mod("space") not in ("", None, "global"))
    mask = (1 << bits) - 1
    values = [v & mask for v in (old, operand)]
    if kind[0] == "s":
        values = [v - (1 << bits) if v >> (bits - 1) else v for v in values]
    return _INTEGER[op](*values) & mask


def _float_sum(old: int, operand: int, bits: int, *, quiet: bool) -> int:
    """IEEE sum, rounded once (f32 through f64 is: 53 bits are more than 2 * 24 + 1). A NaN of f32 is the canonical one,
    that of f64 the first operand's, which is made quiet in shared memory and stays as it is in global memory (so an
    H100 has it)."""
    code, integer = ("<f", "<I") if bits == 32 else ("<d", "<Q")
    a, b = (struct.unpack(code, struct.pack(integer, v & ((1 << bits) - 1)))[0] for v in (old, operand))
    total = a + b
    if math.isnan(total) and bits == 32:
        return 0x7FFF_FFFF
    if math.isnan(total):
        first = old if math.isnan(a) else operand if math.isnan(b) else 0xFFF8 << 48
        return first | quiet << 51
    try:
        packed = struct.pack(code, total)
    except OverflowError:
        packed = struct.pack(code, math.copysign(math.inf, total))
    return struct.unpack(integer, packed)[0]


def _half_sum(old: int, operand: int, kind: str) -> int:
    """The sum of each half by itself, rounded once; subnormals stay, which is what `.noftz` says."""
    brain, count = kind.startswith("bf16"), 2 if kind.endswith("x2") else 1
    a, b = (half.widen(np.array([bits], "<u4").view("<u2")[:count], brain) for bits in (old, operand & 0xFFFF_FFFF))
    with np.errstate(over="ignore", invalid="ignore"):
        codes = half.narrow(np.add(a, b), brain).astype("<u2")
    return int.from_bytes(codes.tobytes(), "little")


@instruction("red", *FORMS, style="thread", section="9.7.13.7", quiet=True, any_order=True)
def red(thread: ThreadContext, ins: Instruction, address: int, operand: int) -> None:
    _update(thread, ins, address, lambda old: _combined(ins, old, operand))


@instruction("atom", *FORMS, style="thread", section="9.7.13.6", outputs=1, quiet=True, any_order=True)
def atom(thread: ThreadContext, ins: Instruction, address: int, operand: int) -> int:
    return _update(thread, ins, address, lambda old: _combined(ins, old, operand))


@instruction(
    "atom", *EXCHANGES, style="thread", operands="2+cas", section="9.7.13.6", outputs=1, quiet=True, any_order=True
)
def exchange(thread: ThreadContext, ins: Instruction, address: int, first: int, second: int = 0) -> int:
    """exch: the operand; cas: the second operand where memory holds the first."""
    mask = (1 << int(ins.mod("type")[1:])) - 1

    def change(old: int) -> int:
        if ins.mod("op") == "exch":
            return first & mask
        return second & mask if old == first & mask else old

    return _update(thread, ins, address, change)

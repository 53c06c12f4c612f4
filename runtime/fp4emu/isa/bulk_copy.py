"""Bulk copies without a tensor map, bulk reductions, and bulk async-groups (PTX ISA 9.7.9.25, "Asynchronous copy:
bulk")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fp4emu import tma
from fp4emu.effects import BulkGroups, require_live, submit, submit_in_group
from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.isa.bulk_tensor import targets
from fp4emu.lockstep import Lockstep
from fp4emu.machine import ThreadContext, WarpContext
from fp4emu.memory import RANK_SHIFT, SharedMemory
from fp4emu.order import rules
from fp4emu.recording import barrier_at, note
from fp4emu.registry import Wait, instruction
from fp4emu.tensormap import DataType

Bytes = npt.NDArray[np.uint8]

SECTION = "9.7.9.25.4"
HINT = "[hint=L2::cache_hint]"
OFFSET_MASK = (1 << RANK_SHIFT) - 1


def _check(size: int, *addresses: int) -> None:
    if size % 16:
        raise Fault(f"a bulk copy of {size} bytes; the size must be a multiple of 16")
    for address in addresses:
        if address % 16:
            raise Fault(f"bulk copy address {address:#x} is not a multiple of 16")


def _read_shared(shared: SharedMemory, offset: int, size: int) -> Bytes:
    shared.check_read(offset, size, proxy="async")
    return shared.data[offset : offset + size].copy()


def _write_shared(shared: SharedMemory, offset: int, data: Bytes) -> None:
    shared.check_write(offset, len(data))
    shared.data[offset : offset + len(data)] = data


def _own(thread: ThreadContext, address: int) -> SharedMemory:
    if address >> RANK_SHIFT != thread.cta.rank:
        raise Fault(f"the shared::cta address {address:#x} is not in the executing CTA (rank {thread.cta.rank})")
    return thread.cta.shared


def _same_cta(dst: int, barrier: int) -> None:
    if dst >> RANK_SHIFT != barrier >> RANK_SHIFT:
        raise Fault(f"the mbarrier {barrier:#x} is not in the CTA of the destination {dst:#x}")


@instruction(
    "cp.async.bulk",
    f"dst=shared::cluster|shared::cta global mbarrier::complete_tx::bytes [multicast=multicast::cluster] {HINT}",
    style="thread",
    operands="4+multicast+hint",
    section=SECTION,
)
def load(thread: ThreadContext, ins: Instruction, dst: int, src: int, size: int, barrier: int, *rest: int) -> None:
    """Global to shared memory of one CTA, or of all CTAs of a mask."""
    _check(size, dst, src)
    if ins.has("multicast"):
        places = targets(thread, ins, barrier, rest[0] & 0xFFFF, pair=False)
    else:
        if ins.mod("dst") == "shared::cta":
            _own(thread, dst)
        _same_cta(dst, barrier)
        places = [(dst >> RANK_SHIFT, barrier)]
    for _, signal in places:
        thread.cluster.barrier(signal)

    def effect() -> None:
        data = np.frombuffer(thread.memory.read(src, size), np.uint8)
        for rank, signal in places:
            require_live(thread.cluster.ctas[rank], "the bulk copy")
            _write_shared(thread.cluster.ctas[rank].shared, dst & OFFSET_MASK, data)
            thread.cluster.barrier(signal).complete_tx(size)

    note(thread.warp, "load", size, tuple((rank, barrier_at(signal)) for rank, signal in places), 1)
    submit(thread, ins, effect)


@instruction(
    "cp.async.bulk", "shared::cluster src=shared::cta mbarrier::complete_tx::bytes", style="thread", section=SECTION
)
def send(thread: ThreadContext, ins: Instruction, dst: int, src: int, size: int, barrier: int) -> None:
    """Own shared memory to that of a CTA of the cluster."""
    _to_shared(thread, ins, dst, src, size, barrier, lambda _, data: data)


def _to_shared(
    thread: ThreadContext,
    ins: Instruction,
    dst: int,
    src: int,
    size: int,
    barrier: int,
    new: Callable[[Callable[[], Bytes], Bytes], Bytes],
) -> None:
    """Own shared memory to that of a CTA of the cluster: `new` makes its bytes of what reads the old ones, and the
    source's."""
    _check(size, dst, src)
    _same_cta(dst, barrier)
    source = _own(thread, src)
    thread.cluster.barrier(barrier)

    def effect() -> None:
        require_live(thread.cta, "the read of a bulk copy")
        data = _read_shared(source, src & OFFSET_MASK, size)
        require_live(thread.cluster.ctas[dst >> RANK_SHIFT], "the bulk copy")
        target, offset = thread.cluster.resolve(dst)
        _write_shared(target, offset, new(lambda: _read_shared(target, offset, size), data))
        thread.cluster.barrier(barrier).complete_tx(size)

    note(thread.warp, "load", size, ((dst >> RANK_SHIFT, barrier_at(barrier)),), 1)
    submit(thread, ins, effect)


@instruction(
    "cp.async.bulk",
    f"global src=shared::cta bulk_group {HINT} [cp_mask]",
    style="thread",
    operands="3+hint+cp_mask",
    section=SECTION,
    once=True,
)
def store(thread: ThreadContext, ins: Instruction, dst: int, src: int, size: int, *rest: int) -> None:
    """Own shared memory to global memory; with `.cp_mask`, bit i of the mask selects byte i of every 16."""
    _check(size, dst, src)
    source = _own(thread, src)
    mask = rest[-1] & 0xFFFF if ins.has("cp_mask") else 0xFFFF

    def read() -> Callable[[], None]:
        require_live(thread.cta, "the read of a bulk copy")
        data = _read_shared(source, src & OFFSET_MASK, size)
        if mask == 0xFFFF:
            return lambda: thread.memory.write(dst, data)
        return lambda: _write_masked(thread, dst, data, mask)

    note(thread.warp, "store", size)
    submit_in_group(thread, ins, read, (source, src & OFFSET_MASK, size))


def _write_masked(thread: ThreadContext, dst: int, data: Bytes, mask: int) -> None:
    for i in np.flatnonzero([mask >> (byte % 16) & 1 for byte in range(len(data))]):
        thread.memory.write(dst + int(i), data[i : i + 1])


_TYPES: dict[str, DataType] = {
    "u32": DataType.U32,
    "s32": DataType.I32,
    "u64": DataType.U64,
    "s64": DataType.I64,
    "b32": DataType.U32,
    "b64": DataType.U64,
    "f16": DataType.F16,
    "bf16": DataType.BF16,
    "f32": DataType.F32_FTZ,
    "f64": DataType.F64,
}
_OPERATIONS = "op=add|min|max|inc|dec|and|or|xor"
_TYPE = "type=u32|s32|u64|s64|b32|b64|f16|bf16|f32|f64"


@instruction(
    "cp.reduce.async.bulk",
    f"shared::cluster src=shared::cta mbarrier::complete_tx::bytes {_OPERATIONS} {_TYPE}",
    style="thread",
    section="9.7.9.25.5",
)
def reduce_shared(thread: ThreadContext, ins: Instruction, dst: int, src: int, size: int, barrier: int) -> None:
    """Own shared memory reduced into that of a CTA of the cluster (integer types)."""
    if ins.mod("type") not in ("u32", "s32", "u64", "b32", "b64"):
        raise Fault(f"cp.reduce.async.bulk to shared memory does not take .{ins.mod('type')}")
    kind, op = _TYPES[ins.mod("type")], ins.mod("op")
    _to_shared(thread, ins, dst, src, size, barrier, lambda old, data: tma.reduce_bytes(old(), data, kind, op))


@instruction(
    "cp.reduce.async.bulk",
    f"global src=shared::cta bulk_group {HINT} {_OPERATIONS} [noftz] {_TYPE}",
    style="thread",
    operands="3+hint",
    section="9.7.9.25.5",
)
def reduce_global(thread: ThreadContext, ins: Instruction, dst: int, src: int, size: int, *_hint: int) -> None:
    """Own shared memory reduced into global memory."""
    _check(size, dst, src)
    kind = ins.mod("type")
    if (kind in ("f16", "bf16") and ins.mod("op") == "add") != ins.has("noftz"):
        raise Fault(".noftz belongs to .add of .f16 and .bf16, and only there")
    source = _own(thread, src)

    def read() -> Callable[[], None]:
        require_live(thread.cta, "the read of a bulk copy")
        data = _read_shared(source, src & OFFSET_MASK, size)

        def write() -> None:
            old = np.frombuffer(thread.memory.read(dst, size), np.uint8).copy()
            thread.memory.write(dst, tma.reduce_bytes(old, data, _TYPES[kind], ins.mod("op")))

        return write

    note(thread.warp, "store", size)
    submit_in_group(thread, ins, read, (source, src & OFFSET_MASK, size))


@instruction("cp.async.bulk.prefetch", f"L2 global {HINT}", style="thread", operands="2+hint", section="9.7.9.25.4.2")
def prefetch(thread: ThreadContext, ins: Instruction, address: int, size: int, *_hint: int) -> None:
    """Has no effect on results."""
    _check(size, address)
    thread.memory.offset(address, size)


def _lanes_with_groups(g: Lockstep, mask: Any) -> list[tuple[int, WarpContext, int, BulkGroups]]:
    """(row, warp, lane, groups) of the executing threads that have ever issued a bulk operation: for the others
    there is nothing to do."""
    found: list[tuple[int, WarpContext, int, BulkGroups]] = []
    for row, warp, word in g.executing(mask):
        for lane, state in warp.threads.items():
            if word >> lane & 1 and (groups := state.find(BulkGroups)) is not None:
                found.append((row, warp, lane, groups))
    return found


@instruction("cp.async.bulk.commit_group", "", style="group", section="9.7.9.25.6.1")
def commit_group(g: Lockstep, ins: Instruction, mask: Any) -> None:
    """Closes the open bulk group of each thread, even an empty one."""
    for _, warp, _, groups in _lanes_with_groups(g, mask):
        groups.commit()
        note(warp, "bulk commit")


@instruction("cp.async.bulk.wait_group", "[read]", style="group", section="9.7.9.25.6.2", blocking=True)
def wait_group(g: Lockstep, ins: Instruction, mask: Any, allowed: Any) -> None:
    """Waits until at most `allowed` of the newest groups are pending; with `.read`, until the others have read their
    source."""
    read, limit = ins.has("read"), int(allowed)
    for row, warp, lane, groups in _lanes_with_groups(g, mask):
        if groups.reached(limit, read=read):
            if g.order is not None:
                rules.completed(g.order, warp, lane, groups.operations(limit, read=read))
            groups.release(limit)
            note(warp, "bulk wait", read, limit)
        else:
            g.waits[row] = Wait(
                lambda groups=groups: groups.reached(limit, read=read),
                lambda groups=groups: (
                    f"cp.async.bulk.wait_group{'.read' if read else ''} {limit}: "
                    f"{len(groups.committed)} groups committed"
                ),
            )

"""Asynchronous copies without TMA: cp.async (PTX ISA 9.7.9.25.3), st.async (9.7.9.12), st.bulk (9.7.9.13), red.async
(9.7.13.7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fp4emu.effects import submit
from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.machine import ThreadContext
from fp4emu.memory import RANK_SHIFT, SHARED_WINDOW
from fp4emu.order import rules
from fp4emu.recording import barrier_at, note
from fp4emu.registry import Wait, instruction

OFFSET_MASK = (1 << RANK_SHIFT) - 1


@dataclass(slots=True)
class Copies:
    """A thread's cp.async groups, oldest first: copies that have not finished in each, and in the open one. `issued`
    counts copies, `ends` those up to the end of each group that was ever committed."""

    committed: list[list[int]] = field(default_factory=list["list[int]"])
    open: list[int] = field(default_factory=lambda: [0])
    issued: int = 0
    ends: list[int] = field(default_factory=list[int])

    def pending(self, allowed: int) -> bool:
        while self.committed and not self.committed[0][0]:
            self.committed.pop(0)
        older = self.committed[: len(self.committed) - allowed] if allowed else self.committed
        return any(group[0] for group in older)


def _copies(thread: ThreadContext) -> Copies:
    return thread.state.of(Copies)


@instruction(
    "cp.async",
    "cache=ca|cg [space=shared|shared::cta] global [hint=L2::cache_hint] [prefetch=L2::64B|L2::128B|L2::256B]",
    style="thread",
    operands="3-4+hint",
    section="9.7.9.25.3.1",
)
def cp_async(thread: ThreadContext, ins: Instruction, dst: int, src: int, size: int, *rest: int) -> None:
    """Copies `size` bytes, of which those behind the optional source size are zeros."""
    if size not in (4, 8, 16) or (ins.mod("cache") == "cg" and size != 16):
        raise Fault(f"cp.async.{ins.mod('cache')} of {size} bytes")
    taken = size
    if rest and not (ins.has("hint") and len(rest) == 1):
        taken = 0 if rest[0] is True else size if rest[0] is False else min(int(rest[0]), size)
    if dst % size or (taken and src % size):
        raise Fault(f"cp.async of {size} bytes from {src:#x} to {dst:#x}: both must be multiples of {size}")
    if dst >> RANK_SHIFT != thread.cta.rank:
        raise Fault(f"the shared::cta destination {dst:#x} is not in the executing CTA")
    shared, offset, group = thread.cta.shared, dst & OFFSET_MASK, _copies(thread).open
    group[0] += 1
    _copies(thread).issued += 1

    def effect() -> None:
        data = thread.memory.read(src, taken) if taken else b""
        shared.check_write(offset, size, proxy="generic")
        shared.data[offset : offset + size] = memoryview(data.ljust(size, b"\0"))
        group[0] -= 1

    note(thread.warp, "copy", size)
    submit(thread, ins, effect)


@instruction("cp.async.commit_group", "", style="thread", section="9.7.9.25.3.2")
def cp_async_commit(thread: ThreadContext, ins: Instruction) -> None:
    copies = _copies(thread)
    copies.committed.append(copies.open)
    copies.open = [0]
    copies.ends.append(copies.issued)
    note(thread.warp, "copy commit")


@instruction("cp.async.wait_group", "", style="thread", section="9.7.9.25.3.3", blocking=True)
def cp_async_wait(thread: ThreadContext, ins: Instruction, allowed: int) -> Wait | None:
    copies = _copies(thread)
    if not copies.pending(allowed):
        note(thread.warp, "copy wait", allowed)
        older = copies.ends[: max(len(copies.ends) - allowed, 0)]
        if older and thread.machine.order is not None:
            rules.copied(thread.machine.order, thread.warp, thread.lane, older[-1])
        return None
    return Wait(
        lambda: not copies.pending(allowed),
        lambda: f"cp.async.wait_group {allowed}: {len(copies.committed)} groups committed",
    )


@instruction("cp.async.wait_all", "", style="thread", section="9.7.9.25.3.3", blocking=True)
def cp_async_wait_all(thread: ThreadContext, ins: Instruction) -> Wait | None:
    copies = _copies(thread)

    def done() -> bool:
        return not copies.open[0] and not copies.pending(0)

    if not done():
        return Wait(done, lambda: "cp.async.wait_all")
    note(thread.warp, "copy wait", 0)
    if thread.machine.order is not None:
        rules.copied(thread.machine.order, thread.warp, thread.lane, copies.issued)
    return None


@instruction(
    "cp.async.mbarrier.arrive", "[noinc] [space=shared|shared::cta] b64", style="thread", section="9.7.13.15.15"
)
def cp_async_arrive(thread: ThreadContext, ins: Instruction, address: int) -> None:
    """Arrives when the thread's copies so far are done; without .noinc the pending count is raised by one first."""
    barrier = thread.cluster.barrier(address)
    note(thread.warp, "copy arrive", barrier_at(address), not ins.has("noinc"))
    if not ins.has("noinc"):
        barrier.pending += 1
    copies = _copies(thread)
    waiting = [group for group in (*copies.committed, copies.open) if group[0]]

    observer = thread.machine.order
    operation = None if observer is None else observer.begin(thread.warp, thread.lane, ins)

    def effect() -> None:
        if any(group[0] for group in waiting):
            submit(thread, ins, effect, operation=operation)
        else:
            barrier.arrive()

    submit(thread, ins, effect, operation=operation)


@instruction(
    "st.async",
    "[sem=weak] shared::cluster mbarrier::complete_tx::bytes [vec=v2|v4] type=b32|b64|u32|u64|s32|s64|f32|f64",
    style="thread",
    section="9.7.9.12",
)
def st_async(thread: ThreadContext, ins: Instruction, dst: int, value: Any, barrier: int) -> None:
    """Writes to the shared memory of a CTA of the cluster and completes the bytes at an mbarrier of the same CTA."""
    width = int(ins.mod("type")[1:]) // 8
    words = value if isinstance(value, tuple) else (value,)
    data = b"".join((int(word) & ((1 << 8 * width) - 1)).to_bytes(width, "little") for word in words)
    if dst % len(data):
        raise Fault(f"st.async of {len(data)} bytes to {dst:#x}, which is no multiple of them")
    if dst >> RANK_SHIFT != barrier >> RANK_SHIFT:
        raise Fault(f"st.async: the mbarrier {barrier:#x} is not in the CTA of the destination {dst:#x}")
    shared, offset = thread.cluster.resolve(dst)
    signal = thread.cluster.barrier(barrier)

    def effect() -> None:
        shared.check_write(offset, len(data))
        shared.data[offset : offset + len(data)] = memoryview(data)
        signal.complete_tx(len(data))

    submit(thread, ins, effect)


@instruction(
    "red.async",
    "[sem=relaxed] [scope=cluster] shared::cluster mbarrier::complete_tx::bytes op=inc|dec|min|max|add|and|or|xor "
    "type=u32|s32|b32|u64",
    style="thread",
    section="9.7.13.7",
)
def red_async(thread: ThreadContext, ins: Instruction, dst: int, value: int, barrier: int) -> None:
    width = int(ins.mod("type")[1:]) // 8
    if dst % width:
        raise Fault(f"red.async of {width} bytes at {dst:#x}, which is no multiple of them")
    if dst >> RANK_SHIFT != barrier >> RANK_SHIFT:
        raise Fault(f"red.async: the mbarrier {barrier:#x} is not in the CTA of the destination {dst:#x}")
    shared, offset = thread.cluster.resolve(dst)
    signal = thread.cluster.barrier(barrier)
    signed = ins.mod("type")[0] == "s"
    operand = int.from_bytes((value & ((1 << 8 * width) - 1)).to_bytes(width, "little"), "little", signed=signed)

    def effect() -> None:
        shared.check_read(offset, width)
        old = int.from_bytes(shared.data[offset : offset + width].tobytes(), "little", signed=signed)
        new = {
            "add": lambda: old + operand,
            "and": lambda: old & operand,
            "or": lambda: old | operand,
            "xor": lambda: old ^ operand,
            "min": lambda: min(old, operand),
            "max": lambda: max(old, operand),
            "inc": lambda: 0 if old >= operand else old + 1,
            "dec": lambda: operand if old == 0 or old > operand else old - 1,
        }[ins.mod("op")]()
        shared.data[offset : offset + width] = memoryview((new & ((1 << 8 * width) - 1)).to_bytes(width, "little"))
        signal.complete_tx(width)

    submit(thread, ins, effect)


@instruction(
    "st.bulk",
    "[sem=weak] [space=shared::cta]",
    style="thread",
    section="9.7.9.13",
    targets=("sm_100a", "sm_103a", "sm_120a"),
    once=True,
)
def st_bulk(thread: ThreadContext, ins: Instruction, dst: int, size: int, value: int) -> None:
    """Zeroes a multiple of 8 bytes of the executing CTA's shared memory."""
    address = dst - SHARED_WINDOW if dst >= SHARED_WINDOW else dst
    if value:
        raise Fault(f"st.bulk of the value {value}; it stores zero only")
    if address % 8 or size % 8:
        raise Fault(f"st.bulk of {size} bytes at {address:#x}: both must be multiples of 8")
    if address >> RANK_SHIFT != thread.cta.rank:
        raise Fault(f"st.bulk at {address:#x}, which is not in the executing CTA")
    offset = address & OFFSET_MASK
    thread.cta.shared.check_write(offset, size, proxy="generic")
    thread.cta.shared.data[offset : offset + size] = 0

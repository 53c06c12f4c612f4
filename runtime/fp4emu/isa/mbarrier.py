"""mbarrier (PTX ISA 9.7.13.15)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fp4emu.barrier import MAX_COUNT, Barrier
from fp4emu.builder import Builder
from fp4emu.calls import argument
from fp4emu.errors import Fault
from fp4emu.instruction import Instruction, Sink
from fp4emu.lockstep import Lockstep
from fp4emu.machine import Cluster, WarpContext
from fp4emu.memory import GLOBAL_BASE, RANK_SHIFT, SHARED_WINDOW
from fp4emu.order import rules
from fp4emu.recording import barrier_at, note
from fp4emu.registry import Wait, instruction
from fp4emu.shapes import LANES, row_of

LOCAL = "[space=shared|shared::cta]"
ANY = "[space=shared|shared::cta|shared::cluster]"
SEMANTICS = "[sem=release|relaxed] [scope=cta|cluster]"


def _address(address: int) -> int:
    """A shared::cluster address from a shared or a generic one."""
    if address >= GLOBAL_BASE or (address >= 1 << 32 and address < SHARED_WINDOW):
        raise Fault(f"mbarrier address {address:#x} is not in shared memory")
    return address - SHARED_WINDOW if address >= SHARED_WINDOW else address


def _at(warp: WarpContext, address: int, local: bool) -> Barrier:
    place = _address(address)
    if local and place >> RANK_SHIFT != warp.cta.rank:
        raise Fault(f"the shared::cta mbarrier {place:#x} is not in the executing CTA (rank {warp.cta.rank})")
    return warp.cta.cluster.barrier(place)


def _offset(warp: WarpContext, address: int) -> int:
    place = _address(address)
    if place >> RANK_SHIFT != warp.cta.rank:
        raise Fault(f"the mbarrier {place:#x} is not in the executing CTA (rank {warp.cta.rank})")
    return place & ((1 << RANK_SHIFT) - 1)


def _each(g: Lockstep, mask: Any, *values: Any) -> list[tuple[int, WarpContext, int, tuple[int, ...]]]:
    """(row, warp, its lanes as bits, operands) of the executing lanes, those of a warp with the same operands
    together."""
    result: list[tuple[int, WarpContext, int, tuple[int, ...]]] = []
    for row, warp, word in g.executing(mask):
        lines: list[list[int]] = [
            row_of(value, row).tolist() if isinstance(value, np.ndarray) else [value] for value in values
        ]
        if all(len(line) == 1 for line in lines):
            result.append((row, warp, word, tuple(line[0] for line in lines)))
            continue
        alike: dict[tuple[int, ...], int] = {}
        for lane in range(LANES):
            if word >> lane & 1:
                key = tuple(line[lane if len(line) > 1 else 0] for line in lines)
                alike[key] = alike.get(key, 0) | 1 << lane
        result += [(row, warp, lanes, key) for key, lanes in alike.items()]
    return result


@instruction("mbarrier.init", f"{LOCAL} b64", style="group", section="9.7.13.15.9")
def init(g: Lockstep, ins: Instruction, mask: Any, address: Any, count: Any) -> None:
    for row, warp, lanes, (place, expected) in _each(g, mask, address, count):
        g.row = row
        offset = _offset(warp, place)
        if g.order is not None:
            g.order.acts(warp, lanes, ins)
        again = offset in warp.cta.shared.barriers
        warp.cta.barrier_init(offset, expected)
        note(warp, "init", (warp.cta.rank, offset), expected)
        if g.order is not None:
            warp.cta.shared.barriers[offset].order = rules.initialised(g.order, warp.cta, again=again)


@instruction("mbarrier.inval", f"{LOCAL} b64", style="group", section="9.7.13.15.10")
def inval(g: Lockstep, ins: Instruction, mask: Any, address: Any) -> None:
    for row, warp, _, (place,) in _each(g, mask, address):
        g.row = row
        warp.cta.barrier_invalidate(_offset(warp, place))


def _transactions(g: Lockstep, ins: Instruction, mask: Any, address: Any, count: Any) -> Iterator[tuple[Barrier, int]]:
    """Each barrier that lanes name, and the transactions of all those lanes together."""
    for row, warp, lanes, (place, tx) in _each(g, mask, address, count):
        g.row = row
        if g.order is not None:
            g.order.acts(warp, lanes, ins)
        amount = lanes.bit_count() * tx
        note(
            warp, "expect", barrier_at(_address(place)), amount if ins.rule.opcode == "mbarrier.expect_tx" else -amount
        )
        yield _at(warp, place, False), amount


@instruction(
    "mbarrier.expect_tx", f"[sem=relaxed] [scope=cta|cluster] {ANY} b64", style="group", section="9.7.13.15.11"
)
def expect_tx(g: Lockstep, ins: Instruction, mask: Any, address: Any, count: Any) -> None:
    for barrier, transactions in _transactions(g, ins, mask, address, count):
        barrier.expect_tx(transactions)


@instruction(
    "mbarrier.complete_tx", f"[sem=relaxed] [scope=cta|cluster] {ANY} b64", style="group", section="9.7.13.15.12"
)
def complete_tx(g: Lockstep, ins: Instruction, mask: Any, address: Any, count: Any) -> None:
    for barrier, transactions in _transactions(g, ins, mask, address, count):
        barrier.complete_tx(transactions)


# The state that an arrival returns: the current phase, and the pending count before the arrival (9.7.13.15.13).
_PENDING_BITS = MAX_COUNT.bit_length()


def _arrive(e: Builder, ins: Instruction, drop: bool = False) -> None:
    target = ins.operands[0]
    if (ins.has("expect") or ins.has("noComplete")) and len(ins.operands) < 3:
        e.fail(f"{ins.name} needs a count")
    arguments = ", ".join(e.assign(argument(e, ins, operand)) for operand in ins.operands[1:])
    remote = ins.mod("space") == "shared::cluster"
    wanted = not isinstance(target, Sink)
    how = e.constant(_How(remote, ins.has("expect"), drop, ins.has("noComplete"), wanted))
    call = f"{e.constant(arrive)}(g, {e.mask()}, {how}, {arguments})"
    if not wanted:
        with e.when():
            e.emit(call)
        return
    if remote:
        e.fail("an arrival at shared::cluster has no state: write `_`")
    if e.guard is not None and e.kind(e.guard) == "U":
        call = f"({call} if {e.rep(e.guard, 'b')} else {e.constant(_NO_STATE)})"
    e.set(target, "V", "u", call, 64)


_NO_STATE = np.zeros((1, LANES), np.uint64)


@dataclass(frozen=True, slots=True)
class _How:
    """The kind of an arrival: at any CTA of the cluster, after expecting bytes, for this and all later phases, without
    completing the phase; and whether its states are wanted."""

    remote: bool
    expect: bool
    drop: bool
    incomplete: bool
    wanted: bool


def arrive(g: Lockstep, mask: Any, how: _How, address: Any, count: Any = 1) -> Any:
    """`count` is the number of arrivals, or with `expect` the bytes to expect before one arrival. Returns the states of
    the lanes, which arrive one after the other."""
    states = np.zeros((len(g.warps), LANES), np.uint64)
    mask = g.live if mask is None else mask
    for row, warp, lanes, (place, number) in _each(g, mask, address, count):
        g.row = row
        barrier = _at(warp, place, not how.remote and place < 1 << 32)
        before, phase = barrier.pending, barrier.phase
        if g.order is not None:
            g.order.acts(warp, lanes, g.order.ins)
        if how.expect:
            barrier.expect_tx(lanes.bit_count() * number)
            note(warp, "expect", barrier_at(_address(place)), lanes.bit_count() * number)
        each = 1 if how.expect else number
        amount = lanes.bit_count() * each
        if how.incomplete and amount >= before:
            raise Fault(
                f"an arrival of {amount} with .noComplete completes the phase: {before} were pending",
                hint="the last arrival of a phase must be one without .noComplete",
            )
        barrier.arrive_drop(amount) if how.drop else barrier.arrive(amount)
        note(warp, "arrive", barrier_at(_address(place)), amount)
        if how.wanted:
            arrived = [lane for lane in range(LANES) if lanes >> lane & 1]
            states[row, arrived] = [phase << _PENDING_BITS | before - i * each for i in range(len(arrived))]
    g.row = None
    return states


_ARRIVE = f"[expect=expect_tx] {SEMANTICS} {ANY} b64"
instruction(
    "mbarrier.arrive",
    _ARRIVE,
    f"[expect=expect_tx] [noComplete] {SEMANTICS} {LOCAL} b64",
    style="emit",
    operands="1-2",
    section="9.7.13.15.13",
    outputs=1,
    quiet=False,
)(_arrive)


@instruction(
    "mbarrier.arrive_drop",
    _ARRIVE,
    f"[expect=expect_tx] [noComplete] {SEMANTICS} {LOCAL} b64",
    style="emit",
    operands="1-2",
    section="9.7.13.15.14",
    outputs=1,
    quiet=False,
)
def _arrive_drop(e: Builder, ins: Instruction) -> None:
    _arrive(e, ins, drop=True)


@instruction("mbarrier.pending_count", "b64", style="emit", operands="1", section="9.7.13.15.18", outputs=1)
def pending_count(e: Builder, ins: Instruction) -> None:
    """The pending count that a state holds: the one before the arrival that returned it."""
    text, kind = e.source(ins.operands[1], "u", 64)
    count = f"({text} & {MAX_COUNT})"
    e.set(ins.operands[0], kind, "u", count if kind == "U" else f"{count}.astype(U4)", 32)


# --- waiting ---

_WAIT = "[sem=acquire|relaxed] [scope=cta|cluster]"


def _wait(e: Builder, ins: Instruction) -> None:
    """A failed test is asked again when the phase has completed: a warp may always be that late."""
    arguments = ", ".join(e.assign(argument(e, ins, operand)) for operand in ins.operands[1:3])
    call = f"{e.constant(wait)}(g, {e.constant(ins)}, {e.mask()}, {arguments})"
    if e.guard is not None and e.kind(e.guard) == "U":
        call = f"({call} if {e.rep(e.guard, 'b')} else False)"
    e.set(ins.operands[0], "U", "b", call, 1)


def wait(g: Lockstep, ins: Instruction, mask: Any, address: Any, phase: Any) -> bool:
    """True if the phase has completed for all rows that go on; False only if the group may not wait any longer."""
    by_parity = ins.has("parity")
    pending: list[tuple[int, WarpContext, Barrier, int, int]] = []
    done: list[tuple[int, WarpContext, int, Barrier]] = []
    places: dict[int, tuple[int, int]] = {}
    ready: set[int] = set()
    for row, warp, lanes, (place, wanted) in _each(g, g.live if mask is None else mask, address, phase):
        g.row = row
        barrier = _at(warp, place, True)
        wanted = wanted if by_parity else wanted >> _PENDING_BITS
        ready.add(row)
        places[row] = (place, wanted)
        if not (barrier.passed(wanted) if by_parity else barrier.phase != wanted):
            pending.append((row, warp, barrier, place, wanted))
        else:
            done.append((row, warp, lanes, barrier))
    g.row = None
    if not pending:
        _passed(g, ins, done)
        _noted(done, places)
        return True
    if g.impatient:
        return False
    for row, warp, barrier, place, wanted in pending:
        g.waits[row] = _waiting(warp.cta.cluster, barrier, place, wanted, by_parity)
        ready.discard(row)
    if not g.eager:
        for row in ready:
            g.waits[row] = READY
    over = [each for each in done if each[0] not in g.waits]
    _passed(g, ins, over)
    _noted(over, places)
    return True


def _noted(done: list[tuple[int, WarpContext, int, Barrier]], places: dict[int, tuple[int, int]]) -> None:
    """Tells a recording what was waited for."""
    for row, warp, _, _ in done:
        place, wanted = places[row]
        note(warp, "wait", barrier_at(_address(place)), wanted & 1)


def _passed(g: Lockstep, ins: Instruction, done: list[tuple[int, WarpContext, int, Barrier]]) -> None:
    """Tells who watches the order of accesses which lanes have waited for what."""
    if g.order is not None:
        for _, warp, lanes, barrier in done:
            rules.waited(g.order, barrier.order, warp, lanes, ins)


READY = Wait(lambda: True, lambda: "ready, but waiting for the warps it runs with", limited=True)


def _waiting(cluster: Cluster, barrier: Barrier, place: int, wanted: int, by_parity: bool) -> Wait:
    def describe() -> str:
        shared, offset = cluster.resolve(_address(place))
        what = f"parity {wanted & 1}" if by_parity else f"phase {wanted}"
        return f"mbarrier {shared.describe(offset)}: waits for {what}; it is in {barrier}"

    if by_parity:
        return Wait(lambda: barrier.passed(wanted), describe, limited=True)
    return Wait(lambda: barrier.phase != wanted, describe, limited=True)


instruction(
    "mbarrier.test_wait",
    f"[parity] {_WAIT} {LOCAL} b64",
    style="emit",
    operands="2",
    section="9.7.13.15.16",
    outputs=1,
    blocking=True,
    quiet=False,
)(_wait)
instruction(
    "mbarrier.try_wait",
    f"[parity] {_WAIT} {LOCAL} b64",
    style="emit",
    operands="2-3",
    section="9.7.13.15.16",
    outputs=1,
    blocking=True,
    quiet=False,
)(_wait)

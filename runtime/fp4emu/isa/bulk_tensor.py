"""Tensor copies by TMA: cp.async.bulk.tensor, cp.reduce.async.bulk.tensor, cp.async.bulk.prefetch.tensor
(PTX ISA 9.7.9.27, "Data Movement and Conversion: Tensor copy")."""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache

from fp4emu import tma
from fp4emu.effects import require_live, submit, submit_in_group
from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.machine import ThreadContext, signed
from fp4emu.memory import ALLOCATED, GLOBAL_BASE, RANK_SHIFT, READ_ONLY, WRITTEN, GlobalMemory
from fp4emu.order import tensor_maps
from fp4emu.recording import barrier_at, note
from fp4emu.registry import instruction
from fp4emu.tensormap import MAP_BYTES, USED_BYTES, TensorMap

SECTION = "9.7.9.27"
DIMS = "dim=1d|2d|3d|4d|5d"
HINT = "[hint=L2::cache_hint]"
OPS = "op=add|min|max|inc|dec|and|or|xor"
OFFSET_MASK = (1 << RANK_SHIFT) - 1

TensorOperand = tuple[int, tuple[int, ...]]


def _read_map(thread: ThreadContext, address: int) -> bytes:
    thread.memory.offset(address, MAP_BYTES)
    return thread.memory.read(address, USED_BYTES) + bytes(MAP_BYTES - USED_BYTES)


def _usual_map(memory: GlobalMemory, address: int) -> TensorMap | None:
    """The tensor map at an address, None if something is wrong with it."""
    start = address - GLOBAL_BASE
    if not 0 <= start <= len(memory.data) - MAP_BYTES:
        return None
    return _decoded(
        memory.data[start : start + USED_BYTES].tobytes(), memory.state[start : start + MAP_BYTES].tobytes()
    )


@lru_cache(maxsize=256)
def _decoded(used: bytes, state: bytes) -> TensorMap | None:
    """The tensor map in memory with these shadow bytes; None if that may not be read."""
    if not all(byte & ALLOCATED for byte in state) or not all(byte & WRITTEN for byte in state[:USED_BYTES]):
        return None
    return tma.decode_map(used + bytes(MAP_BYTES - USED_BYTES))


def _map(thread: ThreadContext, ins: Instruction, operand: TensorOperand) -> tuple[TensorMap, tuple[int, ...]]:
    """The decoded tensor map and the signed coordinates of `[map, {c0, c1, ...}]`."""
    address, coordinates = operand
    if address % 64:
        raise Fault(f"tensor map address {address:#x} is not a multiple of 64")
    order = thread.machine.order
    tmap = _usual_map(thread.memory, address)
    if tmap is None:
        with nullcontext() if order is None else order.aside():
            tmap = tma.decode_map(_read_map(thread, address))
    if order is not None:
        fixed = bool(thread.memory.state[address - GLOBAL_BASE] & READ_ONLY)
        tensor_maps.read(order, address, fixed=fixed)
    dims = int(ins.mod("dim")[0])
    if dims != tmap.rank:
        raise Fault(f"a .{dims}d instruction with a tensor map of rank {tmap.rank}")
    return tmap, tuple(signed(c) for c in coordinates)


def targets(
    thread: ThreadContext, ins: Instruction, barrier: int, mask: int | None, pair: bool
) -> list[tuple[int, int]]:
    """(destination rank, shared::cluster address of the barrier) of each CTA that a copy writes to.

    Without multicast there is one. With `.cta_group::2` the signal may go to the barrier of the destination's peer:
    the destination's CTA pair, the parity of the barrier address (PTX ISA, `.cta_group`).
    """
    size = len(thread.cluster.ctas)
    offset, rank = barrier & OFFSET_MASK, barrier >> RANK_SHIFT
    ranks = [r for r in range(16) if mask is not None and mask >> r & 1]
    if mask is not None and (not ranks or ranks[-1] >= size):
        raise Fault(f"multicast mask {mask:#x} does not select CTAs of a cluster of {size}")
    found: list[tuple[int, int]] = []
    for r in ranks:
        signal = (r & ~1) | (rank & 1) if pair else r
        found.append((r, signal << RANK_SHIFT | offset))
    return found


@instruction(
    "cp.async.bulk.tensor",
    f"{DIMS} dst=shared::cta|shared::cluster global [tile] mbarrier::complete_tx::bytes "
    f"[multicast=multicast::cluster] [cta_group=cta_group::1|cta_group::2] {HINT}",
    f"{DIMS} dst=shared::cta|shared::cluster global [tile] mbarrier::complete_tx::bytes "
    f"[multicast=multicast::cluster] {HINT} cta_group=cta_group::1|cta_group::2",
    style="thread",
    operands="3+multicast+hint",
    section=SECTION,
    targets=("sm_90a", "sm_100a", "sm_103a", "sm_120a"),
)
def load(thread: ThreadContext, ins: Instruction, dst: int, source: TensorOperand, barrier: int, *rest: int) -> None:
    """Global to shared memory; each destination's barrier gets `complete_tx` of the box's packed bytes."""
    tmap, coordinates = _map(thread, ins, source)
    multicast, pair = ins.has("multicast"), ins.mod("cta_group") == "cta_group::2"
    offset = dst & OFFSET_MASK
    if multicast:
        places = targets(thread, ins, barrier, rest[0] & 0xFFFF, pair)
    else:
        rank = dst >> RANK_SHIFT
        allowed = {thread.cta.rank, thread.cta.rank ^ 1} if pair else {thread.cta.rank}
        if rank not in allowed and ins.mod("dst") == "shared::cta":
            raise Fault(f"the shared::cta destination {dst:#x} is in CTA rank {rank}, not in the executing CTA")
        if not pair and barrier >> RANK_SHIFT != rank:
            raise Fault(
                f"the mbarrier {barrier:#x} is not in the CTA of the destination {dst:#x}",
                hint="only .cta_group::2 lets a copy signal the peer CTA",
            )
        if pair and (barrier >> RANK_SHIFT) >> 1 != rank >> 1:
            raise Fault(f"the mbarrier {barrier:#x} is not in the CTA pair of the destination {dst:#x}")
        places = [(rank, barrier)]

    def effect() -> None:
        packed = tma.read_box(thread.memory, tmap, coordinates)
        for rank, signal in places:
            require_live(thread.cluster.ctas[rank], "the TMA load")
            tma.place_box(thread.cluster.ctas[rank].shared, offset, tmap, packed)
            thread.cluster.barrier(signal).complete_tx(tmap.transaction_bytes)

    for rank, signal in places:
        if rank >= len(thread.cluster.ctas):
            raise Fault(f"destination {dst:#x} names CTA rank {rank} of a cluster of {len(thread.cluster.ctas)}")
        thread.cluster.barrier(signal)
    reached = tuple((rank, barrier_at(signal)) for rank, signal in places)
    note(
        thread.warp,
        "load",
        tmap.transaction_bytes,
        reached,
        tmap.transaction_bytes // max(1, tmap.box[0] * tmap.bits // 8),
    )
    submit(thread, ins, effect)


@instruction(
    "cp.async.bulk.tensor",
    f"{DIMS} global shared::cta [tile] bulk_group {HINT}",
    style="thread",
    operands="2+hint",
    section=SECTION,
    once=True,
)
def store(thread: ThreadContext, ins: Instruction, target: TensorOperand, src: int, *_hint: int) -> None:
    """Shared to global memory, in the thread's bulk group."""
    tmap, coordinates = _map(thread, ins, target)
    shared = _own_shared(thread, src)

    def read():
        require_live(thread.cta, "the read of a TMA store")
        packed = tma.fetch_box(shared, src & OFFSET_MASK, tmap)
        return lambda: tma.write_box(thread.memory, tmap, coordinates, packed)

    note(thread.warp, "store", tmap.transaction_bytes)
    offset = src & OFFSET_MASK
    submit_in_group(thread, ins, read, (shared, offset, tma.placement(tmap, offset).reach))


@instruction(
    "cp.reduce.async.bulk.tensor",
    f"{DIMS} global shared::cta {OPS} [tile] bulk_group {HINT}",
    style="thread",
    operands="2+hint",
    section="9.7.9.27.3",
)
def reduce(thread: ThreadContext, ins: Instruction, target: TensorOperand, src: int, *_hint: int) -> None:
    """Shared memory reduced into global memory, in the thread's bulk group."""
    tmap, coordinates = _map(thread, ins, target)
    shared = _own_shared(thread, src)

    def read():
        require_live(thread.cta, "the read of a TMA store")
        packed = tma.fetch_box(shared, src & OFFSET_MASK, tmap)
        return lambda: tma.reduce_box(thread.memory, tmap, coordinates, packed, ins.mod("op"))

    note(thread.warp, "store", tmap.transaction_bytes)
    offset = src & OFFSET_MASK
    submit_in_group(thread, ins, read, (shared, offset, tma.placement(tmap, offset).reach))


def _own_shared(thread: ThreadContext, address: int):
    if address >> RANK_SHIFT != thread.cta.rank:
        raise Fault(f"the shared::cta address {address:#x} is not in the executing CTA (rank {thread.cta.rank})")
    return thread.cta.shared


@instruction(
    "cp.async.bulk.prefetch.tensor",
    f"{DIMS} L2 global [tile] {HINT}",
    style="thread",
    operands="1+hint",
    section="9.7.9.27.4",
    once=True,
)
def prefetch(thread: ThreadContext, ins: Instruction, source: TensorOperand, *_hint: int) -> None:
    """Has no effect on results; the map is still checked."""
    tmap, coordinates = _map(thread, ins, source)
    tma.locate(tmap, coordinates)


@instruction("prefetch", "[param|const] tensormap", style="thread", section="9.7.9.16", once=True)
def prefetch_tensormap(thread: ThreadContext, ins: Instruction, address: int) -> None:
    """Has no effect on results; the map must be legal."""
    if any(raw := _read_map(thread, address)):
        tma.decode_map(raw)

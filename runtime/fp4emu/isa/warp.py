"""Communication in a warp (PTX ISA 9.7.9.6, 9.7.13.9 to 9.7.13.14)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fp4emu.builder import Builder
from fp4emu.errors import Fault
from fp4emu.instruction import Instruction, Pair, Sink
from fp4emu.lockstep import Lockstep
from fp4emu.registry import instruction
from fp4emu.representation import Value, join
from fp4emu.shapes import LANES, full, typed, words
from fp4emu.values import F4, Array

LANE = np.arange(32, dtype=np.int64).reshape(1, 32)
_WEIGHTS = np.uint64(1) << np.arange(32, dtype=np.uint64)


def _words(flags: Array) -> Array:
    """[row, lane] flags as one uint32 a row, [row, 1]."""
    return words(flags)[:, None]


def _active(g: Lockstep, mask: Any) -> Array:
    """The lanes that execute, [row, 32]."""
    return full(g.live if mask is None else mask, len(g.warps))


def check_members(g: Lockstep, mask: Any, members: Any) -> None:
    """Every live lane that a membermask names must execute the instruction, and every lane that executes must be
    named. Lanes of one warp may give different masks, such as those of tiles of 8: one for all lanes that it names."""
    if mask is None and g.live is None and not isinstance(members, np.ndarray) and members == 0xFFFF_FFFF:
        return
    lanes = _active(g, mask)
    active = _words(lanes).astype(np.int64)
    live = _words(_active(g, None)).astype(np.int64)
    named = np.where(lanes, np.asarray(members, np.int64) & 0xFFFF_FFFF, 0)
    if (named & live & ~active).any():
        raise Fault(
            "the membermask names lanes that do not execute this instruction",
            hint="the warp has diverged here: the result is undefined",
        )
    if (lanes & (named >> LANE & 1 == 0)).any():
        raise Fault("a lane executes this instruction without being in its membermask")
    if (lanes & (named != named.max(axis=1, keepdims=True))).any():
        others = _participants(g, mask, named)
        if (others & (named[:, None, :] != named[:, :, None])).any():
            raise Fault("lanes that one membermask names give different membermasks")


def _participants(g: Lockstep, mask: Any, members: Any) -> Array:
    """The lanes j whose values count for lane i: [row, 1, j] where all lanes of a warp give one membermask, which is
    checked to name those that execute, and [row, i, j] where each lane gives its own."""
    active = _active(g, mask)[:, None, :]
    if isinstance(members, np.ndarray) and members.shape[1] == LANES:
        return active & (members.astype(np.int64)[:, :, None] >> LANE & 1 != 0)
    return active


def _members(e: Builder, ins: Instruction, index: int) -> None:
    """The check of the membermask, where it can fail."""
    text, _ = e.source(ins.operands[index], "u", 32)
    if e.context.mask == "F" and e.guard is None and text == str(0xFFFF_FFFF):
        return
    with e.when():
        e.emit(f"{e.constant(check_members)}(g, {e.mask()}, {text})")


def _leaders(g: Lockstep, mask: Any, members: Any) -> Array:
    """The lowest lane of each warp's membermask, [row, 1]; its lanes give one."""
    lanes = _active(g, mask)
    named = np.where(lanes, np.asarray(members, np.int64) & 0xFFFF_FFFF, 0)
    found = named.max(axis=1, keepdims=True)
    if (lanes & (named != found)).any():
        raise Fault("elect.sync with membermasks that differ between the lanes of a warp")
    return np.argmax(found >> LANE & 1, axis=1).astype(np.uint32)[:, None]


@instruction("elect.sync", "", style="emit", operands="1", section="9.7.13.14", outputs=1, members=1)
def elect(e: Builder, ins: Instruction) -> None:
    """The leader is the lowest lane of the membermask."""
    target = ins.operands[0]
    if not isinstance(target, Pair):
        e.fail("elect.sync writes a register and a predicate: d|p")
    text, kind = e.source(ins.operands[1], "u", 32)
    _members(e, ins, 1)
    if kind != "U":
        leader = e.assign(f"{e.constant(_leaders)}(g, {e.mask()}, {text})")
        if not isinstance(target.second, Sink):
            e.set(target.second, "V", "b", f"(LANES == {leader})", 1)
        if not isinstance(target.first, Sink):
            e.set(target.first, "W", "u", leader, 32)
        return
    if text == str(0xFFFF_FFFF):
        if not isinstance(target.second, Sink):
            e.put(target.second, Value("V", 1, {}, None, "E"))
        leader = "0"
    else:
        leader = e.assign(f"(({text} & -{text}).bit_length() - 1)")
        if not isinstance(target.second, Sink):
            e.set(target.second, "V", "b", f"(LANES == {leader})", 1)
    if not isinstance(target.first, Sink):
        e.set(target.first, "U", "u", leader, 32)


@instruction(
    "shfl.sync", "mode=up|down|bfly|idx b32", style="emit", operands="4", section="9.7.9.6", outputs=1, members=4
)
def shfl(e: Builder, ins: Instruction) -> None:
    target = ins.operands[0]
    first, second = (target.first, target.second) if isinstance(target, Pair) else (target, Sink())
    value = e.value(ins.operands[1], 32)
    rep = "f" if "f" in value.reps and "u" not in value.reps and not value.parts else "u"
    text, kind = e.rep(value, rep), e.kind(value)
    lane, lane_kind = e.source(ins.operands[2], "u", 32)
    clamp, clamp_kind = e.source(ins.operands[3], "u", 32)
    _members(e, ins, 4)
    full = e.context.mask == "F" and e.guard is None
    if kind != "V" and isinstance(second, Sink) and full:
        if not isinstance(first, Sink):
            e.set(first, kind, rep, text, 32)
        return
    if ins.mod("mode") == "idx" and clamp == "31" and lane.isdigit() and isinstance(second, Sink) and full:
        index = int(lane) & 31
        if e.context.single_row:
            got = f"{text}[0, {index}]" if rep == "f" else f"int({text}[0, {index}])"
            e.set(first, "U", rep, got, 32)
        else:
            e.set(first, "W", rep, f"{text}[:, {index}:{index + 1}]", 32)
        return
    pair = e.assign(f"{e.constant(shuffle)}(g, {e.mask()}, {ins.mod('mode')!r}, {text}, {lane}, {clamp})")
    result_kind = join("V", kind, lane_kind, clamp_kind)
    if not isinstance(first, Sink):
        e.set(first, result_kind, rep, f"{pair}[0]", 32)
    if not isinstance(second, Sink):
        e.set(second, result_kind, "b", f"{pair}[1]", 1)


def shuffle(g: Lockstep, mask: Any, mode: str, value: Any, lane: Any, clamp: Any) -> tuple[Array, Array]:
    """(values, in-range flags)."""
    rows = len(g.warps)
    source = np.broadcast_to(
        value
        if isinstance(value, np.ndarray)
        else np.array([[value]], F4 if isinstance(value, np.floating) else np.uint32),
        (rows, 32),
    )
    b, c = np.asarray(lane, np.int64) & 31, np.asarray(clamp, np.int64)
    limit, segment = c & 31, (c >> 8) & 31
    top = (LANE & segment) | (limit & ~segment)
    low = LANE & segment
    if mode == "up":
        chosen = LANE - b
        ok = chosen >= top
    elif mode == "down":
        chosen = LANE + b
        ok = chosen <= top
    elif mode == "bfly":
        chosen = LANE ^ b
        ok = chosen <= top
    else:
        chosen = low | (b & ~segment)
        ok = chosen <= top
    chosen = np.broadcast_to(np.where(ok, chosen, LANE), (rows, 32))
    active = _active(g, mask)
    if mask is not None or g.live is not None:
        from_idle = active & ~np.take_along_axis(active, chosen, axis=1)
        if from_idle.any():
            row, lane_number = (int(i[0]) for i in np.nonzero(from_idle))
            g.row, g.lane = row, lane_number
            raise Fault(f"shfl reads lane {int(chosen[row, lane_number])}, which does not execute it")
    return np.take_along_axis(source, chosen, axis=1), np.broadcast_to(ok, (rows, 32))


def _flags(predicate: Any) -> Any:
    """A predicate, to be combined with the participants of each lane: [row, 1, lane], or a scalar."""
    return predicate[..., None, :] if isinstance(predicate, np.ndarray) else np.asarray(predicate)


@instruction(
    "vote.sync",
    "op=all|any|uni pred",
    style="group",
    section="9.7.13.9",
    outputs=1,
    per_warp=True,
    quiet=True,
    members=2,
)
def vote(g: Lockstep, ins: Instruction, mask: Any, predicate: Any, members: Any) -> Any:
    check_members(g, mask, members)
    together, flags = _participants(g, mask, members), _flags(predicate)
    every = (flags | ~together).all(axis=2)
    some = (flags & together).any(axis=2)
    return {"all": every, "any": some, "uni": every | ~some}[ins.mod("op")]


@instruction(
    "vote.sync", "op=ballot b32", style="group", section="9.7.13.9", outputs=1, per_warp=True, quiet=True, members=2
)
def ballot(g: Lockstep, ins: Instruction, mask: Any, predicate: Any, members: Any) -> Any:
    check_members(g, mask, members)
    return ((_flags(predicate) & _participants(g, mask, members)) * _WEIGHTS).sum(axis=2).astype(np.uint32)


@instruction("activemask", "b32", style="group", section="9.7.13.11", outputs=1, per_warp=True, quiet=True)
def activemask(g: Lockstep, ins: Instruction, mask: Any) -> Any:
    return _words(_active(g, mask))


@instruction(
    "match", "op=any|all sync type=b32|b64", style="group", section="9.7.13.10", outputs=1, quiet=True, members=2
)
def match(g: Lockstep, ins: Instruction, mask: Any, value: Any, members: Any) -> Any:
    check_members(g, mask, members)
    active = _active(g, mask)
    lanes = np.broadcast_to(typed(value, np.uint64 if ins.mod("type") == "b64" else np.uint32), active.shape)
    together = _participants(g, mask, members)
    same = (lanes[:, :, None] == lanes[:, None, :]) & together
    found = (same * _WEIGHTS).sum(axis=2).astype(np.uint32)
    if ins.mod("op") == "any":
        return found
    everyone = (together * _WEIGHTS).sum(axis=2).astype(np.uint32)
    agree = ((found == everyone)[:, None, :] | ~together).all(axis=2)
    masks = np.where(agree, everyone, np.uint32(0))
    return (masks, agree) if isinstance(ins.operands[0], Pair) else masks


_INTEGER = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


@instruction(
    "redux.sync",
    "op=add|min|max type=u32|s32",
    "op=and|or|xor type=b32",
    style="group",
    section="9.7.13.12",
    outputs=1,
    per_warp=True,
    quiet=True,
    members=2,
)
def redux(g: Lockstep, ins: Instruction, mask: Any, value: Any, members: Any) -> Any:
    check_members(g, mask, members)
    op, active = ins.mod("op"), _active(g, mask)
    lanes = np.array(np.broadcast_to(typed(value, np.uint32), active.shape))
    if ins.mod("type") == "s32":
        lanes = lanes.view(np.int32)
    kind = lanes.dtype
    info = np.iinfo(kind)
    neutral = {
        "add": 0,
        "min": info.max,
        "max": info.min,
        "and": info.max if kind == np.uint32 else -1,
        "or": 0,
        "xor": 0,
    }[op]
    filled = np.where(_participants(g, mask, members), lanes[:, None, :], kind.type(neutral))
    return _INTEGER[op].reduce(filled, axis=2, dtype=kind).view(np.uint32)


@instruction(
    "redux.sync",
    "op=min|max [abs] [NaN] f32",
    style="group",
    section="9.7.13.12",
    outputs=1,
    per_warp=True,
    quiet=True,
    members=2,
    targets=("sm_100a", "sm_103a"),
)
def redux_float(g: Lockstep, ins: Instruction, mask: Any, value: Any, members: Any) -> Any:
    """NaNs are ignored unless .NaN is given or all are NaN; -0 is below +0."""
    check_members(g, mask, members)
    active = _active(g, mask)
    bits = np.array(np.broadcast_to(typed(value, np.uint32), active.shape))
    if ins.has("abs"):
        bits &= np.uint32(0x7FFF_FFFF)
    lanes = bits.view(F4)
    low = ins.mod("op") == "min"
    # Order by value with the sign of zero: the integer image of a float.
    image = np.where(bits >> np.uint32(31) != 0, ~bits, bits | np.uint32(0x8000_0000)).astype(np.int64)
    together, number = _participants(g, mask, members), (lanes == lanes)[:, None, :]
    usable = together & number
    image = np.where(usable, image[:, None, :], (1 << 40) if low else -1)
    best = (image.min if low else image.max)(axis=2)
    none = ~usable.any(axis=2)
    value32 = (best & 0xFFFF_FFFF).astype(np.uint32)
    result = np.where(value32 >> np.uint32(31) != 0, value32 & np.uint32(0x7FFF_FFFF), ~value32)
    if ins.has("NaN"):
        none |= (together & ~number).any(axis=2)
    return np.where(none, np.uint32(0x7FFF_FFFF), result)

"""Calls the handlers of styles "thread", "warp" and "group" for the rows and lanes that execute."""

from __future__ import annotations

from typing import Any

import numpy as np

from fp4emu.instruction import Instruction, Operand, Pair, Register, Vector
from fp4emu.lockstep import Lockstep
from fp4emu.machine import ThreadContext
from fp4emu.registry import Rule, Wait
from fp4emu.representation import width_of
from fp4emu.shapes import LANES, Mask, columns, full, row_of, words

_DTYPES = {1: np.bool_, 8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}


def _row_of(value: Any, row: int) -> Any:
    """A source operand of one warp: an int, or the list of its lanes' values; tuples stay tuples."""
    if isinstance(value, np.ndarray):
        line = row_of(value, row)
        return line.item() if len(line) == 1 else line.tolist()
    if isinstance(value, tuple):
        return tuple(_row_of(item, row) for item in value)
    return value


def _uniform(value: Any) -> bool:
    """Whether a `_row_of` has no list in it."""
    return all(_uniform(item) for item in value) if isinstance(value, tuple) else not isinstance(value, list)


def _scalar(value: Any, lane: int) -> Any:
    """The element of one thread from a `_row_of`."""
    if isinstance(value, list):
        return value[lane]
    if isinstance(value, tuple):
        return tuple(_scalar(item, lane) for item in value)
    return value


def _lanes(value: Any, row: int, operand: Operand | None) -> Any:
    """The 32 lanes of one warp; immediates stay ints."""
    if isinstance(value, np.ndarray):
        line = value[row if len(value) > 1 else 0]  # row_of, without a call: this runs for each register of a `wgmma`
        return line if len(line) == LANES else np.broadcast_to(line, (LANES,))
    if isinstance(value, tuple):
        items = operand.items if isinstance(operand, Vector) else (None,) * len(value)
        return [_lanes(item, row, inner) for item, inner in zip(value, items, strict=True)]
    if isinstance(operand, Register):
        return np.full(32, value, _DTYPES[width_of(operand.type)])
    return value


def _shape(operand: Operand, rows: int, lanes: int = LANES) -> Any:
    """Zeroed result arrays for a destination; a vector of equal registers is one array [register, row, lane]."""
    if isinstance(operand, Vector):
        types = {item.type if isinstance(item, Register) else None for item in operand.items}
        if len(types) == 1 and None not in types:
            register = operand.items[0]
            assert isinstance(register, Register)
            return np.zeros((len(operand.items), rows, lanes), _DTYPES[width_of(register.type)])
        return [_shape(item, rows, lanes) for item in operand.items]
    if isinstance(operand, Pair):
        return [_shape(operand.first, rows, lanes), _shape(operand.second, rows, lanes)]
    if isinstance(operand, Register):
        return np.zeros((rows, lanes), _DTYPES[width_of(operand.type)])
    return None


def _store(target: Any, result: Any, where: tuple[Any, ...]) -> None:
    if target is None:
        return
    if isinstance(target, list):
        for item, value in zip(target, result, strict=True):
            _store(item, value, where)
        return
    target[where if target.ndim == 2 else (slice(None), *where)] = result


def blank(g: Lockstep, ins: Instruction, per_warp: bool) -> Any:
    """Zeros in the shape of the results of an instruction that nobody executes."""
    lanes = 1 if per_warp else LANES
    return _results([_shape(operand, len(g.warps), lanes) for operand in ins.operands[: ins.rule.outputs]])


def _results(results: list[Any]) -> Any:
    return results[0] if len(results) == 1 else results


def _executing(g: Lockstep, mask: Mask | None) -> Mask:
    """The lanes that execute, [row, 32]."""
    return full(g.live if mask is None else mask, len(g.warps))


def threads(g: Lockstep, ins: Instruction, mask: Mask | None, arguments: tuple[Any, ...]) -> Any:
    """Once for each executing thread, in order of row and lane."""
    rule = ins.rule
    results = [_shape(operand, len(g.warps)) for operand in ins.operands[: rule.outputs]]
    handler, waits, once = rule.handler, g.waits, rule.once and not _apart(g, rule)
    executing = _executing(g, mask)
    for row, warp in enumerate(g.warps):
        lanes: list[int] = np.flatnonzero(executing[row]).tolist()
        g.row = row
        own = [_row_of(a, row) for a in arguments]
        uniform = all(map(_uniform, own))
        done: set[Any] = set()
        for lane in lanes:
            g.lane = lane
            if g.order is not None:
                g.order.acts(warp, 1 << lane, ins)
            values = own if uniform else [_scalar(a, lane) for a in own]
            if once:
                if (key := tuple(values)) in done:
                    continue
                done.add(key)
            result = handler(ThreadContext(warp, lane), ins, *values)
            if isinstance(result, Wait):
                waits[row] = result
                break
            if results:
                _assign(results, result, (row, lane))
    g.row = g.lane = None
    return _results(results)


def _apart(g: Lockstep, rule: Rule) -> bool:
    """Whether copies by several lanes are told apart although they have the same operands: by the letter, they race."""
    return g.order is not None and g.order.strict and rule.opcode.startswith("cp.async.bulk")


def warps(g: Lockstep, ins: Instruction, mask: Mask | None, arguments: tuple[Any, ...]) -> Any:
    """Once for each warp with an executing lane."""
    rule = ins.rule
    results = [_shape(operand, len(g.warps)) for operand in ins.operands[: rule.outputs]]
    sources = ins.operands[rule.first_source :]
    every = g.live if mask is None else mask
    executing: list[int] = [] if every is None else words(full(every, len(g.warps))).tolist()
    for row, warp in enumerate(g.warps):
        active = 0xFFFF_FFFF if every is None else executing[row]
        if not active:
            continue
        g.row, warp.active = row, active
        if g.order is not None:
            g.order.acts(warp, active, ins)
        values = [_lanes(a, row, operand) for a, operand in zip(arguments, sources, strict=True)]
        result = rule.handler(warp, ins, *values)
        if isinstance(result, Wait):
            g.waits[row] = result
        elif results:
            _assign(results, result, (row,))
    g.row = None
    return _results(results)


def groups(g: Lockstep, ins: Instruction, mask: Mask | None, arguments: tuple[Any, ...]) -> Any:
    """Once for the whole group: `handler(group, instruction, mask, *arguments)` of ints and arrays."""
    rule = ins.rule
    result = rule.handler(g, ins, g.live if mask is None else mask, *arguments)
    if not rule.outputs:
        return None
    members = None if rule.members is None else arguments[rule.members - rule.first_source]
    tiles = isinstance(members, np.ndarray) and members.shape[1] == LANES
    return columns(result, len(g.warps), rule.per_warp and not tiles)


def _assign(results: list[Any], result: Any, where: tuple[Any, ...]) -> None:
    if len(results) == 1:
        _store(results[0], result, where)
    else:
        for target, value in zip(results, result, strict=True):
            _store(target, value, where)

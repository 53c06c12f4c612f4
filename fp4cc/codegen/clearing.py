"""Operands whose contracted axis is rows in groups: what a step holds past its group, and how instructions read it."""

from __future__ import annotations

from fp4cc.codegen.feeds.spec import CallText
from fp4cc.codegen.parts import bytes_name
from fp4cc.ir.lowered import LoweredKernel, Mainloop, Operand

#: Bytes of a row of shared memory, in which the 128-byte swizzle stays; an instruction takes 16 elements along K.
_ROW, _DEPTH = 128, 16
#: Rows of an operand that lies across side by side in a row of shared memory: 16-bit elements.
_SIDE_BY_SIDE = _ROW // 2
#: The leading byte offset of a descriptor of an operand with K along its rows: the swizzle gives what it would say.
_NO_LEADING = 16


def bytes_of_step(operand: Operand) -> int:
    """Bytes from what one instruction reads of an operand in a stage to what the next one does."""
    return _DEPTH * _ROW if operand.across else 32


def leading_bytes(operand: Operand, tile_k: int) -> int:
    """The leading byte offset of its descriptor: of one that lies across, from 64 of its rows to the next 64."""
    return tile_k * _ROW if operand.across else _NO_LEADING


def clearing(lowered: LoweredKernel, mainloop: Mainloop, thread: str, threads: int) -> list[CallText]:
    """The calls that set to 0 what a stage holds past `left` elements along K, of all operands; none without groups."""
    if lowered.products.contracted is None:
        return []
    calls: list[CallText] = []
    slotted = {feed.part for feed in mainloop.slotted}
    for part, operand in mainloop.operands:
        if part in slotted:  # whoever converts it makes zeros
            continue
        if operand.divided:
            rows = lowered.tile.m if part.role == "A" else lowered.tile.n
            address = f"shared_address({part.buffer}) + stage * {bytes_name(part)}"
            found = (address, str(rows), "left", str(128 // operand.bits), thread, str(threads))
            calls.append(CallText("clear_past_blocks", found))
            continue
        runs = (lowered.tile.m if part.role == "A" else lowered.tile.n) // _SIDE_BY_SIDE
        address = f"shared_address({part.buffer}) + stage * {bytes_name(part)}"
        arguments = (address, str(runs), "left", str(mainloop.tile_k), thread, str(threads))
        calls.append(CallText("clear_past", arguments))
    return calls

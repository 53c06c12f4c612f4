"""Loads of rows by number, as text: all lanes of the load warp have TMA bring some rows of a stage each.

A box of one row of 128 bytes lies in shared memory as it would in a box of all: the swizzle goes by addresses. A number
that is none of the argument's rows, or past the end of the product's, is a coordinate outside of the tensor map: zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.fragments import Call, Fragment, fragment
from fp4cc.codegen.mainloops import numbered
from fp4cc.codegen.placing import rows_end
from fp4cc.ir.lowered import Load, LoweredKernel, Mainloop, RowNumbers

_LANE = "thread % 32"


@dataclass(frozen=True, slots=True)
class RowLoad:
    """A load of a stage's rows. `only_if`: on the CTAs and lanes that have any; None: on all."""

    call: str
    arguments: tuple[str, ...]
    only_if: str | None


def gathered(mainloop: Mainloop, load: Load) -> bool:
    """Whether a load brings rows by number."""
    return not load.part.scales and mainloop.operand(load.part).gather is not None


def numbers_text(lowered: LoweredKernel) -> Fragment:
    """Once a tile: the numbers of its rows, for each mainloop that gathers some."""
    found: list[Call] = []
    for number, mainloop in enumerate(lowered.mainloops):
        for load in mainloop.loads:
            gather = mainloop.operand(load.part).gather
            if gather is not None and not load.part.scales:
                found.append(_numbers(lowered, gather, number, load))
    return fragment(*found)


def row_load(number: int, load: Load, offset: str, k: str, how: tuple[str, ...] = ()) -> RowLoad:
    """The load of a stage's rows to byte `offset` of their buffer, from element `k` on.

    `how`: what a load in a cluster is told besides.
    """
    call = "load_rows_in_cluster" if how else "load_rows"
    arguments = (load.buffer, offset, load.tensor_map, k, _name(number), _LANE, "ab_full.subview(stage)", *how)
    return RowLoad(call, arguments, f"{_LANE} < {load.boxes}" if load.boxes < 32 else None)


def _numbers(lowered: LoweredKernel, gather: RowNumbers, number: int, load: Load) -> Call:
    first = "m0" if load.slices == 1 else f"m0 + cta_n * {load.boxes}"
    before = "Int64(batch) * m_size" if gather.batched else "0"
    arguments = (gather.pointer, before, first, rows_end(lowered), _LANE, str(load.boxes))
    return Call(f"{_name(number)} = row_numbers", arguments)


def _name(number: int) -> str:
    return f"a_rows{numbered(number)}"

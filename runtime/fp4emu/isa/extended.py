"""Integer arithmetic of extended precision: chains through the condition code register CC.CF (PTX ISA 9.7.2).

The register has no name in PTX: the parser puts it behind the destination of what writes it and behind the sources of
what reads it (`Rule.carry`), one for each function.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fp4emu.instruction import Instruction
from fp4emu.isa.integer import bits_of, high_product
from fp4emu.registry import instruction
from fp4emu.values import Array

TYPES = "type=u32|u64|s32|s64"
PART = "part=lo|hi"


def _sum(a: Any, b: Any, carry: Any) -> tuple[Array, Array]:
    """a + b + carry, and whether it leaves the width."""
    total = a + b
    over = total < a
    whole = total + carry.astype(total.dtype)
    return whole, over | (whole < total)


def _difference(a: Any, b: Any, borrow: Any) -> tuple[Array, Array]:
    """a - b - borrow, and whether it needs a borrow."""
    total = a - b
    whole = total - borrow.astype(total.dtype)
    return whole, (a < b) | (total < whole)


_NONE = np.zeros((1, 1), np.bool_)


@instruction("add.cc", TYPES, style="lane", section="9.7.2.1", outputs=2, carry="out")
def add_cc(ins: Instruction, a: Any, b: Any) -> tuple[Array, Array]:
    return _sum(a, b, _NONE)


@instruction("addc", TYPES, style="lane", section="9.7.2.2", outputs=1, carry="in")
def addc(ins: Instruction, a: Any, b: Any, carry: Any) -> Array:
    return _sum(a, b, carry)[0]


@instruction("addc", f"cc {TYPES}", style="lane", section="9.7.2.2", outputs=2, carry="both")
def addc_cc(ins: Instruction, a: Any, b: Any, carry: Any) -> tuple[Array, Array]:
    return _sum(a, b, carry)


@instruction("sub.cc", TYPES, style="lane", section="9.7.2.3", outputs=2, carry="out")
def sub_cc(ins: Instruction, a: Any, b: Any) -> tuple[Array, Array]:
    return _difference(a, b, _NONE)


@instruction("subc", TYPES, style="lane", section="9.7.2.4", outputs=1, carry="in")
def subc(ins: Instruction, a: Any, b: Any, borrow: Any) -> Array:
    return _difference(a, b, borrow)[0]


@instruction("subc", f"cc {TYPES}", style="lane", section="9.7.2.4", outputs=2, carry="both")
def subc_cc(ins: Instruction, a: Any, b: Any, borrow: Any) -> tuple[Array, Array]:
    return _difference(a, b, borrow)


def _product(ins: Instruction, a: Any, b: Any) -> Array:
    """The low or the high half of a * b."""
    kind = ins.mod("type")
    bits, signed = bits_of(kind), kind[0] == "s"
    if ins.mod("part") == "lo":
        return a * b
    if bits == 64:
        left, right = (x.view(np.int64) if signed else x for x in (a, b))
        return high_product(left, right, signed)
    wide, narrow = (np.int64, np.int32) if signed else (np.uint64, np.uint32)
    full = a.view(narrow).astype(wide) * b.view(narrow).astype(wide)
    return (full >> wide(32)).astype(np.uint32)


@instruction("mad", f"{PART} cc {TYPES}", style="lane", section="9.7.2.5", outputs=2, carry="out")
def mad_cc(ins: Instruction, a: Any, b: Any, c: Any) -> tuple[Array, Array]:
    return _sum(_product(ins, a, b), c, _NONE)


@instruction("madc", f"{PART} {TYPES}", style="lane", section="9.7.2.6", outputs=1, carry="in")
def madc(ins: Instruction, a: Any, b: Any, c: Any, carry: Any) -> Array:
    return _sum(_product(ins, a, b), c, carry)[0]


@instruction("madc", f"{PART} cc {TYPES}", style="lane", section="9.7.2.6", outputs=2, carry="both")
def madc_cc(ins: Instruction, a: Any, b: Any, c: Any, carry: Any) -> tuple[Array, Array]:
    return _sum(_product(ins, a, b), c, carry)

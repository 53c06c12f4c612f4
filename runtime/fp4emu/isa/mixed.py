"""Sums of f32 with f16 or bf16 factors (PTX ISA 9.7.5, "Mixed Precision Floating Point Instructions").

The narrow sources are exact in f32, subnormals too, so the result is that of the f32 instruction, rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fp4emu.instruction import Instruction
from fp4emu.isa.floating import NEED_ROUND, ROUND, directed_add, directed_fma, directed_sub
from fp4emu.isa.half import widen
from fp4emu.registry import instruction
from fp4emu.values import F4, Array, canonical32, fma32, saturate

TARGETS = ("sm_100a", "sm_103a", "sm_120a")
TYPES = "[sat] f32 narrow=f16|bf16"


def _rounded(
    ins: Instruction, nearest: Callable[..., Any], directed: Callable[..., Any], narrow: tuple[Array, ...], wide: Array
) -> Array:
    mode = ins.mod("round") or "rn"
    sources = [*(widen(x, ins.mod("narrow") == "bf16") for x in narrow), wide.view(F4)]
    result = nearest(*sources) if mode == "rn" else directed(mode, *sources)
    return canonical32(np.asarray(saturate(result) if ins.has("sat") else result, F4))


@instruction("add", f"{ROUND} {TYPES}", style="lane", section="9.7.5.1", outputs=1, targets=TARGETS)
def add(ins: Instruction, a: Array, c: Array) -> Array:
    return _rounded(ins, np.add, directed_add, (a,), c)


@instruction("sub", f"{ROUND} {TYPES}", style="lane", section="9.7.5.2", outputs=1, targets=TARGETS)
def sub(ins: Instruction, a: Array, c: Array) -> Array:
    return _rounded(ins, np.subtract, directed_sub, (a,), c)


@instruction("fma", f"{NEED_ROUND} {TYPES}", style="lane", section="9.7.5.3", outputs=1, targets=TARGETS)
def fma(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    return _rounded(ins, fma32, directed_fma, (a, b), c)

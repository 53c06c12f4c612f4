"""Rings of slots as text."""

from __future__ import annotations

from fp4cc.codegen.fragments import Block, Fragment, fragment


def advance(slot: str, slots: str, parity: str | None = None) -> Fragment:
    """Go on to the next slot; `parity` is that of the phase which is waited for, where there are barriers."""
    wraps = [f"{slot} = cutlass.Int32(0)", *([f"{parity} ^= 1"] if parity is not None else [])]
    return fragment(f"{slot} += 1", Block(f"if {slot} == {slots}:", fragment(*wraps)))

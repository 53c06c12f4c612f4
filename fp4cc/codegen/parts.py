"""The parts of a stage as text: the constants with their bytes."""

from __future__ import annotations

from fp4cc.ir.part import Part


def bytes_name(part: Part) -> str:
    """The constant with the bytes of a part in a stage: one for all parts of a kind."""
    return f"{part.kind}_BYTES"

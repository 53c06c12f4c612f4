"""What converter warps cost, for estimates: clocks of an SM and bytes of ordinary loads, by operand.

Instructions are those counted in SASS for a unit or a row; that converter warps issue two a clock beside the epilogue,
and that ordinary loads touch a line of memory a clock, are assumptions: nothing here was measured on a GPU.
"""

from __future__ import annotations

from fp4cc.ir.lowered_converters import Conversion, Relaid

#: Warp instructions that converter warps issue a clock: half of what an SM can.
_ISSUED = 2.0
#: Lines of memory that ordinary loads touch a clock.
_LINES = 1.0
#: Instructions for a load: its address, its predicate, itself.
_LOAD = 6
#: Instructions to convert two elements: to f16 by one, by f32 to bf16; and to scale them.
_TO = {"f16": 1, "bf16": 4}
_SCALE = 1


def stage_clocks(conversion: Conversion) -> float:
    """Clocks that a CTA's converter warps take for a stage of an operand."""
    if isinstance(conversion, Relaid):
        rows = 4 * conversion.row_atoms  # of a lane
        loads = rows * conversion.per_row // conversion.scales.width
        parts = conversion.per_row - conversion.per_row // 4 if conversion.scales.width < 4 else 0  # joined to words
        return max((loads * _LOAD + rows * parts) / _ISSUED, 32 * loads / _LINES)
    loads = 1 if conversion.unit_words == 4 else conversion.unit_words
    pair = _TO[conversion.to]
    if conversion.scales is not None:
        loads += conversion.unit_scales // min(conversion.unit_scales, conversion.scales.width)
        pair += _SCALE
    issued = loads * _LOAD + conversion.unit // 2 * pair + conversion.unit // 8  # and stores of 16 bytes
    lines = loads * conversion.rows_at_once
    return conversion.units * max(issued / _ISSUED, lines / _LINES)

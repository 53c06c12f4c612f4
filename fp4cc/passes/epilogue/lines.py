"""How the blocks of quantized outputs lie in a tile: what must be seen before a scale is known, and who sees it.

A thread sees a *line*: 32 elements of its row, or of a column of a warp's rows. Larger blocks take a *panel* of columns
that is walked twice, first to measure, then to store. What is known before needs no measuring.
"""

from __future__ import annotations

from typing import Literal

from fp4cc.ir.kernel import Arg, Value
from fp4cc.ir.lowered_epilogue import CTA_ROWS, LINE
from fp4num import BlockFormat

#: The widest panel.
PANEL = 256

#: Modes of `quantize` whose second operand is known of each line: its scale, or its statistic.
KNOWN = ("scale", "statistic")

Measure = Literal["line", "panel", "known"]
Along = Literal["columns", "rows"]


def along(arg: Arg, n_axis: str) -> Along:
    """Where the columns of an output's blocks lie: along the columns of the product, or, transposed, its rows."""
    return "columns" if str(arg.axes[-1].name) == n_axis else "rows"


def measure(value: Value, along: Along) -> Measure | None:
    """What a block's scale takes; None for blocks that fit nowhere."""
    if value.attrs.get("mode") in KNOWN:
        return "known"
    fmt = value.dtype
    if not isinstance(fmt, BlockFormat):
        raise TypeError(f"quantize to {fmt!r}")
    rows, columns = fmt.block
    if not isinstance(rows, int) or not isinstance(columns, int):
        return None
    if LINE % columns == 0 and LINE % rows == 0:
        return "line"
    powers = rows & (rows - 1) == 0 and columns & (columns - 1) == 0
    widest = PANEL if along == "columns" else CTA_ROWS
    return "panel" if powers and LINE <= columns <= widest and rows <= CTA_ROWS else None

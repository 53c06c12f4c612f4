"""How the blocks of quantized outputs lie in a tile: what must be seen before a scale is known, and who sees it.

A thread sees a *line*: 32 elements of its row, or of a column of a warp's rows. Larger blocks take a *panel* of columns
that is walked twice, first to measure, then to store. What is known before needs no measuring.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.ir.kernel import Arg, Value
from fp4cc.ir.lowered_epilogue import CTA_ROWS, LINE
from fp4cc.passes.problem.unzip import Frame
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


def is_spread(value: Value) -> bool:
    """Whether it is a Hadamard transform of more points than a thread or a warp has."""
    size = value.attrs.get("size")
    return value.op == "hadamard" and isinstance(size, int) and size > LINE


def panel(frame: Frame) -> int:
    """Columns of a tile that are walked together; 0 where one walk of the tile is enough."""
    return max(_panels(frame), default=0)


def whole_panels(frame: Frame, widths: Sequence[int]) -> tuple[int, ...]:
    """Those of the tile widths that have whole panels of the columns that the epilogue sees."""
    columns = panel(frame) * (1 if frame.group is None else 2)
    return tuple(n for n in widths if not columns or n % columns == 0)


class TooNarrow(DiagnosticError):
    """No tile is wide enough for a block or a transform: `columns` is how many the epilogue sees of the widest."""

    def __init__(self, frame: Frame, widest: int, why: str) -> None:
        self.n_axis, kernel = frame.problem.n_axis, frame.kernel
        self.columns = widest if frame.group is None else widest // 2
        what = f"the epilogue of `{kernel.name}` takes {panel(frame)} columns at a time"
        super().__init__([
            error("FP4025", f"{what}, and its tiles have {self.columns}", kernel.span, why,
                  help="quantize or transform in a second kernel"),
        ])  # fmt: skip


def columns_of_transform(value: Value, n_axis: str) -> int:
    """The columns of a tile that must meet for a value: 0 but for a large Hadamard transform."""
    if not is_spread(value):
        return 0
    size = value.attrs["size"]
    return size if isinstance(size, int) and value.attrs["axis"] == n_axis else LINE


def columns_of_block(arg: Arg, value: Value, n_axis: str) -> int:
    """The columns of a tile that must meet for an output: 0 where one walk of the tile is enough."""
    if arg.format is None or value.op != "quantize" or measure(value, along(arg, n_axis)) != "panel":
        return 0
    rows, columns = arg.format.block
    extent = columns if along(arg, n_axis) == "columns" else rows
    return max(LINE, extent if isinstance(extent, int) else LINE)


def _panels(frame: Frame) -> Iterator[int]:
    """What each quantized output, and each transform that sub-tiles must meet for, asks for."""
    kernel, n_axis = frame.kernel, frame.problem.n_axis
    for value in kernel.values:
        yield columns_of_transform(value, n_axis)
    for store in kernel.stores:
        yield columns_of_block(kernel.arg(store.arg), kernel.values[store.value], n_axis)

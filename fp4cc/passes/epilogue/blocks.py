"""Panels: the columns of a tile that an epilogue walks several times, because something of them must be seen first."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.passes.epilogue.registry import CONSTRUCTS
from fp4cc.passes.problem.unzip import Frame


def panel(frame: Frame) -> int:
    """Columns of a tile that are walked together; 0 where one walk of the tile is enough."""
    return max(construct.panel(frame) for construct in CONSTRUCTS.known)


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

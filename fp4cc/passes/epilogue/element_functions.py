"""What is computed for one element from other values of the same element."""

from __future__ import annotations

from fp4cc.passes.epilogue.construct import Construct
from fp4cc.passes.problem.unzip import Frame
from fp4rt.ops import OPS


class Elements(Construct):
    """Elementwise operations. Elements are read and written by axis name and logical index: a transpose is nothing.

    Nor is it anything to take what a tile's group has for its rows.
    """

    name = "elements"

    def makes(self, index: int, frame: Frame) -> bool:
        op = frame.kernel.values[index].op
        return OPS[op].kind == "elementwise" or op in ("transpose", "of_group")

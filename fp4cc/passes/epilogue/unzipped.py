"""Halves of accumulators and of what an epilogue reads: those of inputs are read as inputs."""

from __future__ import annotations

from collections.abc import Iterable

from fp4cc.diagnostics import Diagnostic
from fp4cc.passes.epilogue.construct import Construct
from fp4cc.passes.problem import halves
from fp4cc.passes.problem.unzip import Frame


class Unzipped(Construct):
    """What `unzip` has left in the epilogue's view of a kernel."""

    name = "unzipped"

    def makes(self, index: int, frame: Frame) -> bool:
        return frame.kernel.values[index].op == "unzip"

    def refusals(self, index: int, frame: Frame) -> Iterable[Diagnostic]:
        return halves.refusals(frame.kernel.values[index], frame.kernel, frame.problem)

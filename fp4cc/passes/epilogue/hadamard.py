"""Hadamard transforms, and those for which sub-tiles meet in shared memory: of 64 or 128 points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Kernel, Value
from fp4cc.ir.lowered import EPILOGUE_BARRIER, KernelParam, NamedBarrier, SmemBuffer
from fp4cc.ir.lowered_epilogue import CTA_ROWS, LINE, EpilogueInput, EpilogueProgram, SpreadPlan
from fp4cc.passes.epilogue.construct import Construct, Planning
from fp4cc.passes.epilogue.inputs import pointer
from fp4cc.passes.problem.unzip import Frame

#: Bytes that keep neighboring rows off each other's banks.
_PADDING = 16


class Hadamard(Construct):
    """The transforms of an epilogue, and the signs that they read."""

    name = "hadamard"
    reads = ("points",)

    def makes(self, index: int, frame: Frame) -> bool:
        return frame.kernel.values[index].op == "hadamard"

    def refusals(self, index: int, frame: Frame) -> Iterable[Diagnostic]:
        value, problem = frame.kernel.values[index], frame.problem
        axis, what = value.attrs["axis"], None
        if axis not in (problem.m_axis, problem.n_axis):
            what = f"along {axis}, a batch axis"
        elif not {problem.m_axis, problem.n_axis} <= set(value.axes):
            what = "of something that is not computed for each element"
        if what is not None:
            yield error("FP4020", f"this Hadamard transform cannot be compiled yet: {what}", value.span,
                        "transformed here",
                        help="it runs on the reference: `fp4cc run --device reference`")  # fmt: skip

    def panel(self, frame: Frame) -> int:
        return max((columns_of_transform(value, frame.problem.n_axis) for value in frame.kernel.values), default=0)

    def add(self, program: EpilogueProgram, planning: Planning) -> EpilogueProgram:
        return replace(program, spread=plan_spread(planning.kernel, planning.live, planning.panel))

    def input_params(self, leaf: EpilogueInput, planning: Planning) -> Sequence[KernelParam]:
        return [pointer(leaf, planning.kernel)]

    def buffers(self, program: EpilogueProgram) -> Sequence[SmemBuffer]:
        what = "a panel's rows on their way to a Hadamard transform"
        return [SmemBuffer(plan.buffer, 0, CTA_ROWS * plan.row_bytes, 1, 16, what) for plan in program.spread]

    def barriers(self, program: EpilogueProgram) -> Sequence[NamedBarrier]:
        axes = {program.kernel.values[plan.value].attrs["axis"] for plan in program.spread}
        return [EPILOGUE_BARRIER] if program.problem.m_axis in axes else []


def is_spread(value: Value) -> bool:
    """Whether it is a Hadamard transform of more points than a thread or a warp has."""
    size = value.attrs.get("size")
    return value.op == "hadamard" and isinstance(size, int) and size > LINE


def columns_of_transform(value: Value, n_axis: str) -> int:
    """The columns of a tile that must meet for a value: 0 but for a large Hadamard transform."""
    if not is_spread(value):
        return 0
    size = value.attrs["size"]
    return size if isinstance(size, int) and value.attrs["axis"] == n_axis else LINE


def plan_spread(kernel: Kernel, live: Sequence[int], panel: int) -> tuple[SpreadPlan, ...]:
    """A plan for each of the live values that is such a transform."""
    depths: dict[int, int] = {}
    found: list[SpreadPlan] = []
    for index in live:
        value = kernel.values[index]
        below = max((depths.get(operand, 0) for operand in value.operands), default=0)
        depths[index] = below
        if is_spread(value):
            depths[index] = below + 1
            found.append(SpreadPlan(index, f"points{len(found) + 1}_smem", 4 * panel + _PADDING, below))
    return tuple(found)

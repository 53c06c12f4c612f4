"""Inputs whose rows are read by number: of tables with a row for each, and of vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.lowered import KernelParam
from fp4cc.ir.lowered_epilogue import EpilogueInput
from fp4cc.passes.epilogue.construct import Construct, Planning
from fp4cc.passes.epilogue.inputs import numbers_params, pointer
from fp4cc.passes.problem.unzip import Frame
from fp4num import BlockFormat
from fp4rt.manifest import Param


class Gathered(Construct):
    """`x[rows]` of elements: the number of a row is loaded first, then what the row has."""

    name = "gathered"
    reads = ("gathered",)

    def makes(self, index: int, frame: Frame) -> bool:
        return frame.kernel.values[index].op in ("gather", "pick")

    def refusals(self, index: int, frame: Frame) -> Iterable[Diagnostic]:
        value, space = frame.kernel.values[index], frame.problem
        if value.op != "gather":
            return
        source, numbers = (frame.kernel.values[operand] for operand in value.operands)
        if isinstance(value.dtype, BlockFormat) and frame.accumulators:
            yield error("FP4054", f"rows of {value.dtype.name} by number cannot be read in an epilogue yet", value.span,
                        "dequantized here",
                        help="multiply them, or dequantize them in a kernel of its own")  # fmt: skip
        elif not (
            numbers.axes in ((space.m_axis,), (*space.batch_axes, space.m_axis))
            and source.axes[1:] in ((), (space.n_axis,))
        ):
            product = ", ".join((*space.batch_axes, space.m_axis, space.n_axis))
            yield error("FP4055", f"rows [{', '.join(source.axes)}] by numbers [{', '.join(numbers.axes)}] cannot be "
                        "read here yet", value.span, f"the kernel works on [{product}]",
                        help=f"numbers are i32[{space.m_axis}], of rows [S, {space.n_axis}] or of [S]")  # fmt: skip

    def input_params(self, leaf: EpilogueInput, planning: Planning) -> Sequence[KernelParam]:
        return [pointer(leaf, planning.kernel), *numbers_params(leaf)]

    def input_flags(self, leaf: EpilogueInput) -> Sequence[KernelParam]:
        if leaf.vector is None or leaf.vector is True:
            return []
        return [KernelParam(leaf.flag, Param("i32", leaf.vector), "rows start on 16 bytes")]

"""Random numbers: made by logical index from a state in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.lowered import KernelParam
from fp4cc.ir.lowered_epilogue import EpilogueInput
from fp4cc.passes.epilogue.construct import Construct, Planning
from fp4cc.passes.problem.unzip import Frame
from fp4rt.manifest import Param


class Uniform(Construct):
    """The random numbers of the spec, one for each element."""

    name = "uniform"
    reads = ("uniform",)

    def makes(self, index: int, frame: Frame) -> bool:
        return frame.kernel.values[index].op == "uniform"

    def refusals(self, index: int, frame: Frame) -> Iterable[Diagnostic]:
        value, problem = frame.kernel.values[index], frame.problem
        product = (*problem.batch_axes, problem.m_axis, problem.n_axis)
        across = (*problem.batch_axes, problem.n_axis, problem.m_axis)  # as the rows of swapped operands see them
        halved = any(other.op == "unzip" for other in frame.kernel.values)
        if value.axes != product and (value.axes != across or halved or not frame.accumulators):
            yield error("FP4020", "random numbers without all axes of the product cannot be compiled yet", value.span,
                        f"this has the axes [{', '.join(value.axes)}]",
                        help=f"draw them for [{', '.join(product)}]")  # fmt: skip

    def input_params(self, leaf: EpilogueInput, planning: Planning) -> Sequence[KernelParam]:
        return [KernelParam(leaf.param_name, Param("pointer", leaf.source), "random state")]

"""Quantized inputs as numbers: each element times its block's scale, read by the thread that needs it.

Of kernels without a product only: the loads take whole runs of 32 columns, as a thread or a lane has them there. Where
scales lie is planned by the engine (`fp4cc.passes.engines.none.decoded`), by the way of converted operands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Arg, Axis, Value
from fp4cc.ir.lowered import KernelParam
from fp4cc.ir.lowered_epilogue import SUBTILE, EpilogueInput
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.epilogue.construct import Construct, Planning
from fp4cc.passes.epilogue.inputs import numbers_params
from fp4cc.passes.problem.divides import divides
from fp4cc.passes.problem.unzip import Frame
from fp4num import BlockFormat
from fp4rt.manifest import Param

_ELEMENTS = ("e2m1", "e3m2", "e2m3", "e4m3", "e5m2")
_SCALES = ("e4m3", "e8m0")
#: Elements of a row that fill whole loads, by their bits: 16 bytes, of six-bit codes the 24 of a run.
WHOLE = {4: 32, 6: 64, 8: 16}


class Decoded(Construct):
    """`dequantize` of an argument."""

    name = "decoded"
    reads = ("codes",)

    def makes(self, index: int, frame: Frame) -> bool:
        value = frame.kernel.values[index]
        return value.op == "dequantize" and frame.kernel.values[value.operands[0]].op in ("arg", "gather")

    def refusals(self, index: int, frame: Frame) -> Iterable[Diagnostic]:
        value = frame.kernel.values[index]
        source = frame.kernel.values[value.operands[0]]
        leaf = frame.kernel.values[source.operands[0]] if source.op == "gather" else source
        arg = as_gathered(frame.kernel.arg(str(leaf.attrs["name"])), source)
        what = why_not_decoded(arg, frame)
        if what is not None:
            yield error("FP4020", f"this `dequantize` cannot be compiled in an epilogue yet: {what}", value.span,
                        "computed here", help="it runs on the reference: `fp4cc run --device reference`")  # fmt: skip

    def input_params(self, leaf: EpilogueInput, planning: Planning) -> Sequence[KernelParam]:
        fmt = planning.kernel.arg(leaf.source).format
        what = "" if fmt is None else f"{fmt.element} codes of {leaf.source}"
        return [KernelParam(leaf.param_name, Param("pointer", f"{leaf.source}.codes"), what), *numbers_params(leaf)]


def as_gathered(arg: Arg, value: Value) -> Arg:
    """An argument with the axes of a value that it is, or has the rows of."""
    return replace(arg, axes=tuple(Axis(axis, axis) for axis in value.axes))


def whole_blocks(fmt: BlockFormat) -> bool:
    """Whether a run of 32 columns has whole blocks of eight columns or more, or lies within one."""
    columns = fmt.stored[1]
    if isinstance(columns, str):
        return True
    return columns % SUBTILE == 0 or (columns >= 8 and SUBTILE % columns == 0)


def why_not_decoded(arg: Arg, frame: Frame) -> str | None:
    """Why a quantized argument cannot be read as numbers; None if it can."""
    fmt, space = arg.format, frame.problem
    if frame.accumulators or fmt is None:
        return "of an argument, beside a product"
    if fmt.tensor_scale is not None or fmt.element not in _ELEMENTS or fmt.scale not in _SCALES:
        return f"of {fmt.name}, whose scales are not e4m3 or e8m0 alone"
    axes, sizes = tuple(axis.name for axis in arg.axes), Sizes.of(frame.kernel.dims)
    if axes not in ((*space.batch_axes, space.m_axis, space.n_axis), (space.m_axis, space.n_axis)):
        return f"of an argument whose blocks do not lie along the columns, {space.n_axis}"
    if space.groups is not None:
        return "of rows in groups"
    if not whole_blocks(fmt):
        return f"of blocks of {fmt.stored[1]} columns"
    if not divides(WHOLE[fmt.bits], space.n, frame.kernel.constraints, sizes):
        return f"rows of {arg.name} need not be whole loads (`where {space.n_axis} % {WHOLE[fmt.bits]} == 0`)"
    return None

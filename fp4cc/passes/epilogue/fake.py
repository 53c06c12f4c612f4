"""Values quantized and dequantized in place; any other use of a quantized one is refused."""

from __future__ import annotations

from collections.abc import Iterable

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Value
from fp4cc.ir.lowered_epilogue import Space
from fp4cc.passes.epilogue.construct import Construct
from fp4cc.passes.epilogue.lines import measure
from fp4cc.passes.problem.unzip import Frame
from fp4num import BlockFormat


class FakeQuantize(Construct):
    """Values quantized and dequantized in place, as quantization-aware training does."""

    name = "fake_quantize"

    def makes(self, index: int, frame: Frame) -> bool:
        value = frame.kernel.values[index]
        fake = value.op == "dequantize" and frame.kernel.values[value.operands[0]].op == "quantize"
        return fake or value.op == "quantize"

    def refusals(self, index: int, frame: Frame) -> Iterable[Diagnostic]:
        value = frame.kernel.values[index]
        what = why_not_in_place(value, frame.problem) if value.op == "quantize" else None
        if what is not None:
            yield error("FP4020", f"this `{value.op}` cannot be compiled in an epilogue yet: {what}", value.span,
                        "computed here", help="it runs on the reference: `fp4cc run --device reference`")  # fmt: skip


def why_not_in_place(value: Value, problem: Space) -> str | None:
    """Why a `quantize` that is not stored but dequantized cannot be built yet; None if it can."""
    fmt = value.dtype
    if not isinstance(fmt, BlockFormat):
        raise TypeError(f"quantize to {fmt!r}")
    if value.axes != (*problem.batch_axes, problem.m_axis, problem.n_axis):
        return "its blocks do not lie along the columns"
    if value.attrs.get("rounding", "nearest") != "nearest" or value.attrs.get("mode") == "scale":
        return "it rounds stochastically, or its scales are given"
    if fmt.scale is None or fmt.block[0] != 1 or measure(value, "columns") != "line":
        return f"blocks of {fmt.block[0]} x {fmt.block[1]}"
    return None

"""What an epilogue cannot do yet, each refused by name."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Arg, Kernel, Value
from fp4cc.ir.lowered_epilogue import Space
from fp4cc.passes.epilogue import quantize as quantized
from fp4cc.passes.epilogue import reduce as reduced
from fp4cc.passes.problem import halves
from fp4cc.passes.problem.unzip import Frame
from fp4rt.ops import OPS

STORED = ("f32", "bf16", "f16", "e4m3", "e5m2")
#: Operations on tensors that are nothing special here: elements are read and written by axis name and logical index.
_TENSOR_OPS = ("transpose", "uniform", "hadamard", "of_group")


def operation_refusals(index: int, kernel: Kernel, problem: Space) -> Iterator[Diagnostic]:
    """Why an operation cannot be computed in an epilogue, if so."""
    value = kernel.values[index]
    kind = OPS[value.op].kind
    product = (*problem.batch_axes, problem.m_axis, problem.n_axis)
    if value.op == "unzip":
        yield from halves.refusals(value, kernel, problem)
    elif value.op == "uniform" and value.axes != product:
        yield error("FP4020", "random numbers without all axes of the product cannot be compiled yet", value.span,
                    f"this has the axes [{', '.join(value.axes)}]",
                    help=f"draw them for [{', '.join(product)}]")  # fmt: skip
    elif value.op == "hadamard":
        yield from _transform_refusals(value, problem)
    elif value.op in ("quantize", "dequantize"):
        yield from _fake_refusals(value, kernel, problem)
    elif value.op == "reduce":
        users = [v for v in kernel.values if index in v.operands]
        yield error("FP4020", "a reduction is used in the kernel that computes it: this cannot be compiled yet",
                    users[0].span if users else value.span, "uses a reduction", also=[(value.span, "reduced here")],
                    notes=["a reduction is known only after all tiles are done; it can be an output of its own, bare, "
                           "over the columns, the rows or all of the product"],
                    help=_two_kernels(value))  # fmt: skip
    elif kind == "tensor" and value.op not in _TENSOR_OPS:
        yield error("FP4020", f"`{value.op}` cannot be compiled in an epilogue yet", value.span, "computed here",
                    help="it runs on the reference: `fp4cc run --device reference`")  # fmt: skip


def _two_kernels(reduction: Value) -> str:
    """How to do what a use of a reduction wants in two kernels."""
    axes = ", ".join(reduction.axes)
    kind = str(reduction.attrs["kind"])
    return (
        f"output the reduction by itself (`out r : f32[{axes}]`, `r = {kind}(...)`) beside the values it is used with, "
        f"and compute with both in a second kernel that takes them as inputs"
    )


def _fake_refusals(value: Value, kernel: Kernel, problem: Space) -> Iterator[Diagnostic]:
    """A tensor that is quantized and dequantized in place; any other use of a quantized one is refused."""
    what = None
    if value.op == "quantize":
        what = quantized.why_not_in_place(value, problem)
    elif kernel.values[value.operands[0]].op != "quantize":
        what = "of an argument"
    if what is not None:
        yield error("FP4020", f"this `{value.op}` cannot be compiled in an epilogue yet: {what}", value.span,
                    "computed here", help="it runs on the reference: `fp4cc run --device reference`")  # fmt: skip


def _transform_refusals(value: Value, problem: Space) -> Iterator[Diagnostic]:
    axis = value.attrs["axis"]
    what = None
    if axis not in (problem.m_axis, problem.n_axis):
        what = f"along {axis}, a batch axis"
    elif not {problem.m_axis, problem.n_axis} <= set(value.axes):
        what = "of something that is not computed for each element"
    if what is not None:
        yield error("FP4020", f"this Hadamard transform cannot be compiled yet: {what}", value.span,
                    "transformed here", help="it runs on the reference: `fp4cc run --device reference`")  # fmt: skip


def output_refusals(arg: Arg, value: Value, frame: Frame) -> Iterator[Diagnostic]:
    """Why an output cannot be written, if so."""
    problem = frame.problem
    if arg.format is not None:
        yield from quantized.refusals(arg, value, problem)
        return
    if value.op == "reduce":
        yield from reduced.refusals(arg, value, frame)
        return
    axes = tuple(axis.name for axis in arg.axes)
    product = (*problem.batch_axes, problem.m_axis, problem.n_axis)
    if arg.dtype not in STORED:
        yield error("FP4021", f"an epilogue cannot store {arg.dtype} yet", arg.span, "declared here",
                    help=f"types it stores: {', '.join(STORED)}")  # fmt: skip
    elif sorted(map(str, axes)) != sorted(product):
        of = "of the product" if frame.accumulators else f"[{', '.join(product)}] that this kernel works on"
        yield error("FP4022", f"`{arg.name}` does not have the axes {of}", arg.span,
                    f"its axes are [{', '.join(map(str, axes))}]",
                    help=f"an output of this kernel has the axes {', '.join(product)} (in any order), or is a bare "
                    f"reduction; compute `{arg.name}` in a kernel of its own")  # fmt: skip

"""Which part of the kernel is the product, and which axis is M, N, K and batch."""

from __future__ import annotations

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Kernel, Value
from fp4cc.ir.lowered import Operand, Problem, Role
from fp4cc.passes.sizes import Sizes, mul


def find_roles(kernel: Kernel, sizes: Sizes) -> Problem:
    """The problem of a kernel with one block-scaled product. Raises DiagnosticError for one with several or others."""
    products = [i for i, value in enumerate(kernel.values) if value.op == "matmul"]
    if len(products) > 1:
        first, second = (kernel.values[i].span for i in products[:2])
        raise DiagnosticError([
            error("FP4002", "a kernel with more than one product cannot be compiled yet", second, "the second product",
                  also=[(first, "the first product")], help="write one kernel for each product"),
        ])  # fmt: skip
    product = kernel.values[products[0]]
    found: list[Arg] = []
    errors: list[Diagnostic] = []
    for role, index in zip(("A", "B"), product.operands, strict=True):
        arg = _argument(kernel, kernel.values[index], role, product)
        if isinstance(arg, Diagnostic):
            errors.append(arg)
        else:
            errors.extend(_axis_errors(arg, product.axes[:-2]))
            found.append(arg)
    if errors:
        raise DiagnosticError(errors)
    a, b = found
    extents = {axis.name: axis.extent for arg in (a, b) for axis in arg.axes}
    return Problem(
        m=sizes(a.axes[-2].extent),
        n=sizes(b.axes[-2].extent),
        k=sizes(a.axes[-1].extent),
        batch=mul(*(sizes(extents[name]) for name in product.axes[:-2])),
        m_axis=product.axes[-2],
        n_axis=product.axes[-1],
        k_axis=a.axes[-1].name or "K",
        batch_axes=product.axes[:-2],
        a=_operand("A", a, sizes),
        b=_operand("B", b, sizes),
        accumulator=products[0],
    )


def _operand(role: Role, arg: Arg, sizes: Sizes) -> Operand:
    if arg.format is None:
        raise ValueError(f"{arg.name} is not quantized")
    return Operand(role, arg.name, arg.format, sizes(arg.axes[-2].extent), len(arg.axes) > 2)


def _argument(kernel: Kernel, value: Value, role: Role, product: Value) -> Arg | Diagnostic:
    """The argument under an operand (A: as it is, B: under one transpose), or why it cannot be multiplied."""
    side = "left" if role == "A" else "right"
    leaf = kernel.values[value.operands[0]] if value.op == "transpose" else value
    if leaf.op != "arg":
        return error(
            "FP4004", f"the {side} operand of `@` is computed: an operand must be an input of the kernel", value.span,
            "computed inside the kernel",
            help="write the computed tensor with one kernel and multiply it in a second one",
        )  # fmt: skip
    arg = kernel.arg(str(leaf.attrs["name"]))
    if arg.format is None:
        return error(
            "FP4005", f"the {side} operand of `@` is {arg.dtype}: only block-scaled operands can be multiplied yet",
            arg.span, "not quantized", also=[(product.span, "multiplied here")],
            help="give it a block format such as nvfp4 or mxfp8_e4m3",
        )  # fmt: skip
    if (value.op == "transpose") != (role == "B"):
        # The checker has refused this: scale blocks lie on the last axis, so that is the one to contract.
        raise ValueError(f"{arg.name} does not have the contracted axis last")
    return arg


def _axis_errors(arg: Arg, batch_axes: tuple[str, ...]) -> list[Diagnostic]:
    for axis in arg.axes:
        if axis.by is not None or axis.upto is not None:
            what = f"{axis.name} by {axis.by}" if axis.by is not None else f"{axis.name} upto {axis.upto}"
            return [
                error("FP4006", f"ragged and masked axes cannot be compiled yet: `{what}`", arg.span, "declared here",
                      help="it runs on the reference: `fp4cc run --device reference`"),
            ]  # fmt: skip
    names = tuple(axis.name for axis in arg.axes[:-2])
    if batch_axes and names and names != batch_axes:
        wanted = ", ".join(batch_axes)
        return [
            error("FP4007", f"`{arg.name}` does not have the batch axes [{wanted}] in that order", arg.span,
                  f"its leading axes are [{', '.join(str(n) for n in names)}]",
                  help=f"give it all of [{wanted}] in that order, or none: then every batch shares it"),
        ]  # fmt: skip
    return []

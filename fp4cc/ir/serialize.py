"""The typed kernel as the manifest carries it: the same tree in `fp4rt.typed`'s classes, spans as text."""

from __future__ import annotations

from fp4cc.ir.kernel import Constraint, Kernel
from fp4rt import typed


def to_typed(kernel: Kernel) -> typed.TypedKernel:
    """The kernel in the runtime's classes; `fp4rt.typed.dump_kernel` makes JSON of it. Schedules stay behind."""
    return typed.TypedKernel(
        name=kernel.name,
        dims=tuple(typed.Dim(d.name, d.value, None if d.value is not None else d.expr) for d in kernel.dims),
        args=tuple(
            typed.Arg(
                a.name,
                a.direction,
                a.dtype,
                tuple(typed.Axis(x.name, x.extent, x.by, x.upto) for x in a.axes),
                a.default,
            )
            for a in kernel.args
        ),
        values=tuple(typed.Value(v.op, v.operands, v.dtype, v.axes, dict(v.attrs)) for v in kernel.values),
        stores=tuple(typed.Store(s.arg, s.value) for s in kernel.stores),
        constraints=tuple(to_constraint(c) for c in kernel.constraints),
    )


def to_constraint(constraint: Constraint) -> typed.Constraint:
    """A constraint with its span as "file:line:column"."""
    return typed.Constraint(constraint.expr, constraint.text, str(constraint.span), constraint.reason)

"""The typed kernel as JSON: what the manifest carries and the reference interprets.

The runtime has its own dataclasses for it (`fp4rt.typed`), so that a deployed kernel needs no compiler; `to_typed`
makes them, and `to_json` dumps them.
"""

from __future__ import annotations

from fp4cc.ir.kernel import Arg, Attr, Constraint, Kernel, Value
from fp4rt import typed
from fp4rt.strict import Json


def to_json(kernel: Kernel) -> Json:
    """The JSON of a typed kernel; docs/architecture.md lists its fields. Schedules are not part of the meaning."""
    return typed.dump_kernel(to_typed(kernel))


def to_typed(kernel: Kernel) -> typed.TypedKernel:
    """The same kernel in the runtime's dataclasses."""
    return typed.TypedKernel(
        name=kernel.name,
        dims=tuple(typed.Dim(d.name, d.value, d.expr) for d in kernel.dims),
        args=tuple(_arg(a) for a in kernel.args),
        values=tuple(_value(v) for v in kernel.values),
        stores=tuple(typed.Store(s.arg, s.value, s.at) for s in kernel.stores),
        constraints=tuple(to_constraint(c) for c in kernel.constraints),
    )


def to_constraint(c: Constraint) -> typed.Constraint:
    """A constraint in the runtime's dataclass; its span becomes "file:line:column"."""
    return typed.Constraint(c.expr, c.text, str(c.span), c.reason)


def _arg(arg: Arg) -> typed.Arg:
    axes = tuple(typed.Axis(a.name, a.extent, a.by, a.upto) for a in arg.axes)
    return typed.Arg(arg.name, arg.direction, arg.dtype, axes, arg.default)


def _value(value: Value) -> typed.Value:
    attrs: dict[str, Attr] = dict(value.attrs)
    return typed.Value(value.op, value.operands, value.dtype, value.axes, attrs)

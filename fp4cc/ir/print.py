"""The typed kernel as text, for `fp4cc emit --stage ir` and golden files."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.ir.kernel import Arg, Attr, Axis, Dim, Kernel, Schedule, Value
from fp4num import BlockFormat
from fp4rt.ops import OPS
from fp4rt.sizes import text as size_text

_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
    "and": "and",
    "or": "or",
    "matmul": "@",
}
_HIDDEN = frozenset(("name", "k"))


def format_kernel(kernel: Kernel) -> str:
    """The kernel, one value a line: `%3 : f32[M, N] = %0 @ %2`."""
    return "\n".join(_lines(kernel)) + "\n"


def _lines(kernel: Kernel) -> Iterator[str]:
    yield f"kernel {kernel.name}({', '.join(_dim(d) for d in kernel.dims)}) {{"
    for arg in kernel.args:
        yield f"    {_arg(arg)}"
    for c in kernel.constraints:
        yield f"    where {size_text(c.expr)}" + (f"    # {c.reason}" if c.reason else "")
    yield ""
    for index, value in enumerate(kernel.values):
        name = value.attrs.get("name") if OPS[value.op].kind != "leaf" else None
        left = f"%{index} : {_type(value)}"
        yield f"    {left} = {_operation(kernel, value)}" + (f"    # {name}" if name else "")
    yield ""
    for store in kernel.stores:
        rows = "" if store.at is None else f"[%{store.at}]"
        yield f"    {store.arg}{rows} = %{store.value}"
    yield "}"
    for schedule in kernel.schedules:
        yield from _schedule(kernel, schedule)


def _dim(dim: Dim) -> str:
    known = dim.value if dim.value is not None else dim.expr
    return dim.name if known is None else f"{dim.name} = {size_text(known)}"


def _arg(arg: Arg) -> str:
    axes = f"[{', '.join(_axis(a) for a in arg.axes)}]" if arg.direction != "param" else ""
    default = f" = {arg.default:g}" if arg.default is not None else ""
    return f"{arg.direction} {arg.name} : {_dtype(arg.dtype)}{axes}{default}"


def _axis(axis: Axis) -> str:
    suffix = f" by {axis.by}" if axis.by is not None else f" upto {axis.upto}" if axis.upto is not None else ""
    return size_text(axis.extent) + suffix


def _dtype(dtype: str | BlockFormat) -> str:
    return dtype if isinstance(dtype, str) else dtype.name


def _type(value: Value) -> str:
    return f"{_dtype(value.dtype)}[{', '.join(a or '_' for a in value.axes)}]"


def _operation(kernel: Kernel, value: Value) -> str:
    operands = [f"%{o}" for o in value.operands]
    match value.op:
        case "arg":
            return str(value.attrs["name"])
        case "const":
            return repr(value.attrs["value"])
        case "dim":
            return f"size {_attr(value.attrs['expr'])}"
        case "tensor_scale":
            return f"{value.attrs['name']}.tensor_scale"
        case "transpose":
            return f"{operands[0]}.T"
        case "neg" | "not":
            return f"{'-' if value.op == 'neg' else 'not '}{operands[0]}"
        case "cast":
            return f"{_dtype(value.dtype)}({operands[0]})"
        case _:
            attrs = [f"{k} = {_attr(v)}" for k, v in value.attrs.items() if k not in _HIDDEN]
            if value.op in _INFIX:
                return f" {_INFIX[value.op]} ".join(operands) + "".join(f", {a}" for a in attrs)
            return f"{value.op}({', '.join([*operands, *attrs])})"


def _attr(attr: Attr) -> str:
    if isinstance(attr, tuple):
        operator = attr[0] if attr else ""
        return f"({', '.join(_attr(a) for a in attr)})" if attr else str(operator)
    return str(attr)


def _schedule(kernel: Kernel, schedule: Schedule) -> Iterator[str]:
    when = f" when {size_text(schedule.when)}" if schedule.when is not None else ""
    yield f"schedule {kernel.name} on {schedule.target}{when} {{"
    for name, values in schedule.fields.items():
        yield f"    {name} {' x '.join(_word(v) for v in values)}"
    yield "}"


def _word(value: Attr) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)

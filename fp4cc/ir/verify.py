"""Invariants of the typed kernel. A pass that breaks one is at fault, not the user: hence FP9001."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Kernel, Value
from fp4num import BlockFormat
from fp4rt import sizes
from fp4rt.ops import OPS

_ATTRS = {
    "arg": ("name",),
    "const": ("value",),
    "dim": ("expr",),
    "tensor_scale": ("name",),
    "matmul": ("k",),
    "quantize": ("mode", "rounding"),
    "reduce": ("kind", "over"),
    "unzip": ("axis", "into", "group", "part"),
    "hadamard": ("axis", "size"),
    "of_group": ("ragged", "groups", "rows"),
    "uniform": ("stream",),
}


def verify(kernel: Kernel, after: str = "sema") -> None:
    """Raise DiagnosticError (FP9001) naming every invariant that `kernel` breaks; `after` is the pass that made it."""
    found = list(_problems(kernel))
    if found:
        raise DiagnosticError(found_in(kernel, after, text) for text in found)


def found_in(kernel: Kernel, after: str, text: str) -> Diagnostic:
    """The diagnostic of a broken invariant."""
    return error(
        "FP9001",
        f"fp4cc made an invalid program of `{kernel.name}` after {after}",
        kernel.span,
        text,
        help="this is a fault of fp4cc: please report it with the spec",
    )


def _problems(kernel: Kernel) -> Iterator[str]:
    dims = {d.name for d in kernel.dims}
    args = {a.name: a for a in kernel.args}
    if len(dims) < len(kernel.dims) or len(args) < len(kernel.args):
        yield "two dims or two arguments have one name"
    for name in (n for a in kernel.args for axis in a.axes for n in sizes.names(axis.extent)):
        if name not in dims:
            yield f"an axis has the unknown size `{name}`"
    for c in kernel.constraints:
        if not set(sizes.names(c.expr)) <= dims:
            yield f"the constraint `{c.text}` names an unknown size"
    for index, value in enumerate(kernel.values):
        for text in _value(kernel, index, value):
            yield f"value {index} ({value.op}): {text}"
    yield from _stores(kernel)


def _value(kernel: Kernel, index: int, value: Value) -> Iterator[str]:
    spec = OPS.get(value.op)
    if spec is None:
        yield "no such operation"
        return
    if not spec.arity[0] <= len(value.operands) <= spec.arity[1]:
        yield f"{len(value.operands)} operands"
    if any(not 0 <= o < index for o in value.operands):
        yield "an operand does not come before it"
        return
    missing = [a for a in _ATTRS.get(value.op, ()) if a not in value.attrs]
    if missing:
        yield f"without {', '.join(missing)}"
        return
    operands = [kernel.values[o] for o in value.operands]
    if value.op in ("arg", "tensor_scale"):
        yield from _leaf(kernel, value)
    elif spec.kind == "elementwise":
        yield from _elementwise(value, operands)
    elif value.op == "transpose" and value.axes != _swapped(operands[0].axes):
        yield "its axes are not its operand's with the last two swapped"
    elif value.op == "quantize" and (not isinstance(value.dtype, BlockFormat) or value.axes != operands[0].axes):
        yield "its type is not a format, or its axes are not its operand's"
    elif value.op == "of_group":
        groups, rows = value.attrs["groups"], value.attrs["rows"]
        if value.axes != tuple(rows if a == groups else a for a in operands[0].axes) or rows in operands[0].axes:
            yield f"it does not make {list(operands[0].axes)} into {list(value.axes)}"
    elif value.op == "matmul":
        k = value.attrs["k"]
        a, b = operands
        if a.axes[-1] != k or b.axes[-2] != k or k in value.axes or value.axes[-2:] != (a.axes[-2], b.axes[-1]):
            yield f"{list(a.axes)} @ {list(b.axes)} is not {list(value.axes)}"


def _leaf(kernel: Kernel, value: Value) -> Iterator[str]:
    found = [a for a in kernel.args if a.name == value.attrs["name"]]
    if not found:
        yield f"no argument is called `{value.attrs['name']}`"
    elif value.op == "arg":
        arg = found[0]
        if value.dtype != arg.dtype or value.axes != tuple(a.name or "" for a in arg.axes):
            yield f"its type is not that of `{arg.name}`"
    elif found[0].format is None or found[0].format.tensor_scale is None:
        yield f"`{found[0].name}` has no tensor scale"


def _elementwise(value: Value, operands: list[Value]) -> Iterator[str]:
    spec = OPS[value.op]
    if set(value.axes) != {a for o in operands for a in o.axes} or len(set(value.axes)) < len(value.axes):
        yield f"its axes {list(value.axes)} are not those of its operands"
    if spec.result != "attr" and value.dtype != spec.result:
        yield f"its type is {value.dtype}, not {spec.result}"
    types = [o.dtype for o in operands]
    if spec.takes != "any" and any(t != spec.takes for t in types):
        yield f"its operands are {types}, not {spec.takes}"
    if value.op == "where" and types != ["bool", "f32", "f32"]:
        yield f"its operands are {types}"


def _swapped(axes: tuple[str, ...]) -> tuple[str, ...]:
    return (*axes[:-2], *axes[:-3:-1])


def _stores(kernel: Kernel) -> Iterator[str]:
    written = [s.arg for s in kernel.stores]
    outputs = [a.name for a in kernel.args if a.direction in ("out", "inout")]
    if sorted(written) != sorted(outputs):
        yield f"it stores {written}, and its outputs are {outputs}"
        return
    for store in kernel.stores:
        arg = kernel.arg(store.arg)
        if not 0 <= store.value < len(kernel.values):
            yield f"`{arg.name}` is a value that does not exist"
            continue
        value = kernel.values[store.value]
        axes = tuple(a.name or "" for a in arg.axes)
        if arg.format is not None and (value.dtype != arg.format or value.axes != axes):
            yield f"`{arg.name}` is not given its own type"
        if arg.format is None and (
            isinstance(value.dtype, BlockFormat) or tuple(a for a in axes if a in value.axes) != value.axes
        ):
            yield f"`{arg.name}` is given a value it cannot hold"

"""The typed kernel as it stands in a manifest: what the kernel computes, which the reference device interprets.

Mirrors `fp4cc.ir.kernel`; a value's operands are indices of earlier values, and broadcasting is by axis name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from fp4num import BlockFormat
from fp4rt import sizes
from fp4rt.errors import DimensionError
from fp4rt.strict import Expr, Json, Node, dump_expr

Attr: TypeAlias = "None | int | float | str | bool | tuple[Attr, ...]"
#: An element type by name, or a block format.
DType: TypeAlias = "str | BlockFormat"

SCALARS = ("f32", "bf16", "f16", "e4m3", "e5m2", "i32", "u32", "u64", "bool")
DIRECTIONS = ("in", "out", "inout", "param")


@dataclass(frozen=True, slots=True)
class Dim:
    """A size: static (`value`), derived (`expr` of other dims), or dynamic (neither: found from the shapes)."""

    name: str
    value: int | None = None
    expr: Expr | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of an argument. `name` is None if anonymous; `by` and `upto` name the offsets or counts argument."""

    name: str | None
    extent: Expr
    by: str | None = None
    upto: str | None = None


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument of the kernel. No axes: a device scalar, or for `param` a scalar passed by value."""

    name: str
    direction: str
    dtype: DType
    axes: tuple[Axis, ...]
    default: float | None = None

    @property
    def format(self) -> BlockFormat | None:
        """The block format of a quantized argument, None for a plain one."""
        return self.dtype if isinstance(self.dtype, BlockFormat) else None


@dataclass(frozen=True, slots=True)
class Value:
    """One operation of the kernel; `op` is a key of `fp4rt.ops.OPS`."""

    op: str
    operands: tuple[int, ...]
    dtype: DType
    axes: tuple[str, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict[str, Attr])


@dataclass(frozen=True, slots=True)
class Store:
    """`arg = value`; with `at`, the value of the numbers of the rows that are stored, `arg[rows] = value`."""

    arg: str
    value: int
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Constraint:
    """A condition on the dims, its source text and span ("file:line:col"), and for a derived one the rule behind it."""

    expr: Expr
    text: str
    span: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TypedKernel:
    """A kernel's meaning: dims, arguments, values in single-assignment form, and what is stored."""

    name: str
    dims: tuple[Dim, ...]
    args: tuple[Arg, ...]
    values: tuple[Value, ...]
    stores: tuple[Store, ...]
    constraints: tuple[Constraint, ...] = ()

    def __repr__(self) -> str:
        args = ", ".join(f"{a.direction} {a.name}" for a in self.args)
        return f"<kernel {self.heading}: {args}; {len(self.values)} values>"

    @property
    def heading(self) -> str:
        """`NAME(DIMS)`."""
        return f"{self.name}({', '.join(d.name if d.value is None else f'{d.name} = {d.value}' for d in self.dims)})"

    def arg(self, name: str) -> Arg:
        """The argument of that name; KeyError if there is none."""
        for arg in self.args:
            if arg.name == name:
                return arg
        raise KeyError(name)

    @property
    def outputs(self) -> tuple[Arg, ...]:
        """The arguments the kernel writes: `out` and `inout`, in order."""
        return tuple(a for a in self.args if a.direction in ("out", "inout"))


def shape_of(arg: Arg, dims: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of an argument for these dims; DimensionError where an extent has no value, or a negative one."""
    shape: list[int] = []
    for axis in arg.axes:
        try:
            extent = int(sizes.evaluate(axis.extent, dims))
        except sizes.SizeError as error:
            raise DimensionError(f"{arg.name}: {sizes.text(axis.extent)}: {error}") from error
        if extent < 0:
            raise DimensionError(f"{arg.name}: {sizes.text(axis.extent)} is {extent}: an extent is not negative")
        shape.append(extent)
    return tuple(shape)


def parse_kernel(node: Node) -> TypedKernel:
    """Read a typed kernel; ArtifactError names the path of whatever does not fit."""
    f = node.fields(("name", "dims", "args", "values", "stores"), ("constraints",))
    args = tuple(_parse_arg(n) for n in f["args"].items())
    names = [a.name for a in args]
    if len(set(names)) != len(names):
        raise f["args"].fail("two arguments have the same name")
    values = tuple(_parse_value(n, i) for i, n in enumerate(f["values"].items()))
    stores: list[Store] = []
    for n in f["stores"].items():
        s = n.fields(("arg", "value"), ("at",))
        at = s["at"].integer(0, len(values) - 1) if "at" in s else None
        store = Store(s["arg"].choice(names), s["value"].integer(0, len(values) - 1), at)
        stores.append(store)
    constraints = tuple(parse_constraint(n) for n in f["constraints"].items()) if "constraints" in f else ()
    dims = tuple(_parse_dim(n) for n in f["dims"].items())
    return TypedKernel(f["name"].string(), dims, args, values, tuple(stores), constraints)


def dump_kernel(kernel: TypedKernel) -> Json:
    """The JSON of a typed kernel."""
    return {
        "name": kernel.name,
        "dims": [{"name": d.name, "value": d.value, "expr": _opt_expr(d.expr)} for d in kernel.dims],
        "args": [
            {
                "name": a.name,
                "direction": a.direction,
                "dtype": dump_dtype(a.dtype),
                "axes": [{"name": x.name, "extent": dump_expr(x.extent), "by": x.by, "upto": x.upto} for x in a.axes],
                "default": a.default,
            }
            for a in kernel.args
        ],
        "values": [
            {
                "op": v.op,
                "operands": list(v.operands),
                "dtype": dump_dtype(v.dtype),
                "axes": list(v.axes),
                "attrs": {k: _dump_attr(a) for k, a in v.attrs.items()},
            }
            for v in kernel.values
        ],
        "stores": [_dump_store(s) for s in kernel.stores],
        "constraints": [dump_constraint(c) for c in kernel.constraints],
    }


def _dump_store(store: Store) -> Json:
    if store.at is None:
        return {"arg": store.arg, "value": store.value}
    return {"arg": store.arg, "value": store.value, "at": store.at}


def parse_constraint(node: Node) -> Constraint:
    """Read {"expr", "text", "span", "reason"}."""
    f = node.fields(("expr", "text", "span"), ("reason",))
    reason = f["reason"].optional(Node.string) if "reason" in f else None
    return Constraint(f["expr"].expr(), f["text"].string(), f["span"].string(), reason)


def dump_constraint(c: Constraint) -> Json:
    """The JSON of a constraint."""
    return {"expr": dump_expr(c.expr), "text": c.text, "span": c.span, "reason": c.reason}


def dump_dtype(dtype: DType) -> Json:
    """An element type's name, or a block format's JSON."""
    return dtype if isinstance(dtype, str) else dtype.to_json()


def _parse_dtype(node: Node) -> DType:
    if isinstance(node.value, dict):
        try:
            fmt = BlockFormat.from_json(node.value)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise node.fail(f"not a block format: {error}") from error
        texts = cast("tuple[object, ...]", (fmt.name, fmt.quantizer))
        extents = cast("tuple[object, ...]", (*fmt.block, *fmt.stored))
        if not all(isinstance(text, str) for text in texts):
            raise node.fail("not a block format: its name and its quantizer are strings")
        if not all(extent == "all" or (type(extent) is int and extent < 2**32) for extent in extents):
            raise node.fail("not a block format: its blocks have whole numbers of rows and columns below 2^32, or all")
        return fmt
    return node.choice(SCALARS)


def _parse_dim(node: Node) -> Dim:
    f = node.fields(("name",), ("value", "expr"))
    value = f["value"].optional(lambda n: n.integer(0, 2**63 - 1)) if "value" in f else None
    expr = f["expr"].optional(Node.expr) if "expr" in f else None
    if value is not None and expr is not None:
        raise node.fail("a dim has a value or an expr, not both")
    return Dim(f["name"].string(), value, expr)


def _parse_axis(node: Node) -> Axis:
    f = node.fields(("name", "extent"), ("by", "upto"))
    by, upto = (f[k].optional(Node.string) if k in f else None for k in ("by", "upto"))
    return Axis(f["name"].optional(Node.string), f["extent"].expr(), by, upto)


def _parse_arg(node: Node) -> Arg:
    f = node.fields(("name", "direction", "dtype", "axes"), ("default",))
    default = f["default"].optional(Node.number) if "default" in f else None
    axes = tuple(_parse_axis(n) for n in f["axes"].items())
    arg = Arg(f["name"].string(), f["direction"].choice(DIRECTIONS), _parse_dtype(f["dtype"]), axes, default)
    if arg.direction == "param" and (axes or arg.format is not None):
        raise node.fail("a param is a scalar")
    return arg


def _parse_value(node: Node, index: int) -> Value:
    f = node.fields(("op", "operands", "dtype", "axes"), ("attrs",))
    operands = f["operands"].integers(low=0, high=index - 1)
    axes = tuple(n.string() for n in f["axes"].items())
    attrs = {k: _parse_attr(n) for k, n in f["attrs"].members()} if "attrs" in f else {}
    return Value(f["op"].string(), operands, _parse_dtype(f["dtype"]), axes, attrs)


def _parse_attr(node: Node) -> Attr:
    if isinstance(node.value, list):
        return tuple(_parse_attr(n) for n in node.items())
    if isinstance(node.value, dict):
        raise node.fail("an attribute is a number, a string, a boolean, null or a list of them")
    if isinstance(node.value, str):
        return node.string()
    if isinstance(node.value, float) and not math.isfinite(node.value):
        raise node.fail("the number is too large for a float")
    return node.value


def _dump_attr(attr: Attr) -> Json:
    return [_dump_attr(a) for a in attr] if isinstance(attr, tuple) else attr


def _opt_expr(expr: Expr | None) -> Json:
    return None if expr is None else dump_expr(expr)

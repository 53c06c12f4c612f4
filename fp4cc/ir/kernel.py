"""The typed kernel: what a kernel computes, after names, types and axes are resolved.

A kernel is a list of values in single-assignment form. A value names its operands by their index in
`Kernel.values`, which come earlier in the list. Broadcasting is by axis name, so no value is ever reshaped to
broadcast. `serialize.py` writes a kernel as JSON; that is what the manifest carries and `fp4rt` interprets.

Sizes (`Expr`) are prefix lists over dimension names: `7`, `"N"`, `("mul", "N", 2)`. Operators: add sub mul div (exact)
floordiv ceildiv mod min max neg, eq ne lt le gt ge, and or not, where.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from fp4cc.source import Span
from fp4num import BlockFormat

Expr: TypeAlias = "int | str | tuple[Expr, ...]"
Attr: TypeAlias = "int | float | str | bool | tuple[Attr, ...]"

#: Plain element types of tensors and values, by their name in the language.
Scalar = Literal["f32", "bf16", "f16", "e4m3", "e5m2", "i32", "u32", "u64", "bool"]
Direction = Literal["in", "out", "inout", "param"]


@dataclass(frozen=True, slots=True)
class Dim:
    """A size: static (`value`, from a default or `--set`), derived (`expr` of other dims), or dynamic (neither)."""

    name: str
    span: Span
    value: int | None = None
    expr: Expr | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a tensor type.

    `name` is None for an anonymous axis, which never broadcasts. `by` names the offsets tensor of a ragged axis
    (`M by offsets`), `upto` the counts tensor of a masked one (`M upto counts`).
    """

    name: str | None
    extent: Expr
    by: str | None = None
    upto: str | None = None


@dataclass(frozen=True, slots=True)
class Arg:
    """A tensor (or, for `param`, a scalar by value) in the kernel's signature. No axes: a device scalar.

    `source` is the buffer that a pass has made an argument of its own; None where it is the argument of that name.
    `stands_for`: the format of a quantized argument whose numbers, made by a launch before, it has as a plain type.
    `turned`: of each 32 columns they lie in the order of `fp4cc.ir.turned`.
    """

    name: str
    direction: Direction
    dtype: Scalar | BlockFormat
    axes: tuple[Axis, ...]
    span: Span
    default: float | None = None
    source: str | None = None
    stands_for: BlockFormat | None = None
    turned: bool = False

    @property
    def format(self) -> BlockFormat | None:
        """The block format of a quantized argument."""
        return self.dtype if isinstance(self.dtype, BlockFormat) else None


@dataclass(frozen=True, slots=True)
class Value:
    """One operation. `op` is a key of `fp4rt.ops.OPS`, which holds its arity, meaning and exactness.

    `axes` are the axis names of the result in order; `dtype` its element type, or a block format for `arg` of a
    quantized tensor and for `quantize`.
    """

    op: str
    operands: tuple[int, ...]
    dtype: Scalar | BlockFormat
    axes: tuple[str, ...]
    span: Span
    attrs: Mapping[str, Attr] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Store:
    """`arg = value`: the value is rounded once to the argument's type, or is already `quantize`d to it.

    `at`: the value of an i32 argument that numbers the rows of the argument that are stored: `arg[rows] = value`.
    """

    arg: str
    value: int
    span: Span
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Constraint:
    """A condition on the dims that holds at every call: from `where`, or derived by a pass (`reason` says why)."""

    expr: Expr
    text: str
    span: Span
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A `schedule` block: fields as written, not yet judged. `when` is None for one that always matches."""

    target: str
    when: Expr | None
    fields: Mapping[str, tuple[Attr, ...]]
    span: Span
    field_spans: Mapping[str, Span]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A checked kernel. `schedules` are those written for it, in source order; the first match wins."""

    name: str
    dims: tuple[Dim, ...]
    args: tuple[Arg, ...]
    values: tuple[Value, ...]
    stores: tuple[Store, ...]
    constraints: tuple[Constraint, ...]
    schedules: tuple[Schedule, ...]
    span: Span

    def arg(self, name: str) -> Arg:
        """The argument of that name; KeyError if there is none."""
        for arg in self.args:
            if arg.name == name:
                return arg
        raise KeyError(name)

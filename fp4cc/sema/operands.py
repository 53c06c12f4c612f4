"""What an expression evaluates to while a kernel is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from fp4cc.ir.kernel import Expr, Scalar
from fp4cc.source import Span
from fp4num import BlockFormat

DType: TypeAlias = "Scalar | BlockFormat"


@dataclass(frozen=True, slots=True)
class Poison:
    """An error was reported here; nothing more is said about what depends on it."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A number that has no type until it meets a typed operand."""

    value: int | float


@dataclass(frozen=True, slots=True)
class Size:
    """A size of the kernel, used as a number, and of how many parts it is made."""

    expr: Expr
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Val:
    """A value of the IR: its index, element type and axes ("" is an anonymous axis)."""

    index: int
    dtype: DType
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deferred:
    """A value with random numbers whose axes the rest of the expression decides.

    `axes` are those known so far, merged from `orders`; `build` makes the value once all are known.
    """

    dtype: DType
    axes: tuple[str, ...]
    build: Callable[[tuple[str, ...]], Val]
    span: Span
    orders: frozenset[tuple[str, ...]] = frozenset(((),))


@dataclass(frozen=True, slots=True)
class Pair:
    """The two halves that `unzip` makes."""

    first: Val
    second: Val


Operand: TypeAlias = Poison | Literal | Size | Val | Deferred | Pair

POISON = Poison()


def dtype_name(dtype: DType) -> str:
    """An element type as the language writes it."""
    return dtype if isinstance(dtype, str) else dtype.name


def type_text(dtype: DType, axes: tuple[str, ...]) -> str:
    """A type as the language writes it: `bf16[M, N]`, with `_` for an anonymous axis."""
    return f"{dtype_name(dtype)}[{', '.join(a or '_' for a in axes)}]"

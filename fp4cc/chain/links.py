"""A link of a chain: an output of one kernel that is an input of another."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.ir.kernel import Arg, Axis, Dim, Expr, Kernel
from fp4rt.sizes import substitute, text


@dataclass(frozen=True, slots=True)
class End:
    """One argument of one kernel. `label` names the kernel within its chain; its dims are called `label.NAME`."""

    label: str
    kernel: Kernel
    arg: Arg

    def __str__(self) -> str:
        return f"{self.label}.{self.arg.name}"

    @property
    def type_text(self) -> str:
        """The argument's type as it is written."""
        return type_text(self.arg)

    def extent(self, axis: Axis) -> Expr:
        """The size of an axis over the dynamic dims of the chain: derived dims spelled out, static ones numbers."""
        return spelled(self.label, self.kernel.dims, axis.extent)


@dataclass(frozen=True, slots=True)
class Link:
    """`producer` is written first, `consumer` reads it."""

    producer: End
    consumer: End

    def __str__(self) -> str:
        return f"{self.producer} = {self.consumer}"


def type_text(arg: Arg) -> str:
    """An argument's type in the language: `nvfp4[M, K]`."""
    name = arg.dtype if isinstance(arg.dtype, str) else arg.dtype.name
    return f"{name}[{', '.join(axis_text(a) for a in arg.axes)}]"


def axis_text(axis: Axis) -> str:
    """An axis in the language: `M`, `E + 1`, `M by offsets`."""
    suffix = f" by {axis.by}" if axis.by is not None else f" upto {axis.upto}" if axis.upto is not None else ""
    return text(axis.extent) + suffix


def qualified(label: str, name: str) -> str:
    """A dim's name within a chain."""
    return f"{label}.{name}"


def spelled(label: str, dims: tuple[Dim, ...], expr: Expr) -> Expr:
    """A size of a kernel over the dynamic dims of the chain."""
    known: dict[str, Expr] = {}
    for dim in dims:
        if dim.value is not None:
            known[dim.name] = dim.value
        elif dim.expr is not None:
            known[dim.name] = dim.expr
        else:
            known[dim.name] = qualified(label, dim.name)
    found = expr
    for _ in dims:
        found = substitute(found, {n: e for n, e in known.items() if e != n})
    return found  # type: ignore[return-value]  # substitute keeps tuples

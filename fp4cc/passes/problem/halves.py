"""`unzip` moved down to what it halves: an input, random numbers, an operand's rows, or a whole accumulator.

What lies between, elementwise operations for the most part, is computed for each half by itself. So an epilogue meets
`unzip` directly on something it reads, and each half of a product is a product of its own: `unzip(x @ w.T)` becomes
`x @ unzip(w).T`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Attr, Axis, Expr, Kernel, Value
from fp4cc.ir.lowered_epilogue import SUBTILE, Half, Space
from fp4cc.ir.polynomial import polynomial
from fp4cc.ir.sizes import Sizes
from fp4cc.ir.verify import verify
from fp4cc.passes.problem.divides import divides
from fp4num import BlockFormat
from fp4rt.sizes import text

#: What is halved where it is read or made.
_READ = ("arg", "uniform")
_ON_REFERENCE = "it runs on the reference: `fp4cc run --device reference`"


@dataclass(frozen=True, slots=True)
class Cut:
    """One half of an axis: part 0 or 1 of `axis`, cut in groups, which has the size `into`."""

    axis: str
    into: str
    group: Expr
    part: int

    @classmethod
    def of(cls, value: Value) -> Cut:
        """The cut that an `unzip` makes."""
        axis, into, group, part = (value.attrs[name] for name in ("axis", "into", "group", "part"))
        return cls(str(axis), str(into), cast("Expr", group), int(cast("int", part)))

    @property
    def attrs(self) -> dict[str, Attr]:
        """The attributes of the `unzip`."""
        return {"axis": self.axis, "into": self.into, "group": cast("Attr", self.group), "part": self.part}

    def axes(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        """The axes of the half of a value."""
        return tuple(self.into if axis == self.axis else axis for axis in axes)


#: For each value the halves of it that are asked for (None: the whole), each with the `unzip` that asks.
Wanted = list[dict[Cut | None, Value | None]]


@dataclass(frozen=True, slots=True)
class Sunk:
    """A kernel whose `unzip`s stand on what they halve. `places`: the new index of each (old index, half)."""

    kernel: Kernel
    places: Mapping[tuple[int, Cut | None], int]


def unzipped(kernel: Kernel) -> bool:
    """Whether a kernel unzips anything."""
    return any(value.op == "unzip" for value in kernel.values)


def half(cut: Cut, sizes: Sizes, value: Value) -> Half:
    """A cut in numbers. Raises DiagnosticError, at `value`, for groups that no epilogue can read."""
    group = sizes(cut.group)
    if (polynomial(group) - polynomial(sizes(cut.into))).constant == 0:
        return Half(cut.part, None)
    if not isinstance(group, int):
        raise refusal(value, f"groups of {text(group)}", f"a group is a number, or all of a half: `group = {cut.into}`")
    if SUBTILE % group and group % SUBTILE:
        raise refusal(
            value, f"groups of {group}", f"a thread holds {SUBTILE} columns: groups divide them or are multiples"
        )
    return Half(cut.part, group)


def wanted(kernel: Kernel, sizes: Sizes, stops: Collection[int] = ()) -> Wanted:
    """What of each value reaches a store. Raises DiagnosticError for what has no halves.

    Of the values `stops` the whole is computed, and then both halves are taken.
    """
    found: Wanted = [{} for _ in kernel.values]
    for store in kernel.stores:
        found[store.value][None] = None
        if store.at is not None:
            found[store.at][None] = None
    for index in reversed(range(len(kernel.values))):
        value = kernel.values[index]
        for cut, asker in list(found[index].items()):
            if cut is not None and asker is not None:
                if index in stops:
                    found[index].setdefault(replace(cut, part=1 - cut.part), asker)
                else:
                    _check(kernel, sizes, value, cut, asker)
                for operand, part in _operands(kernel, index, cut, stops):
                    found[operand].setdefault(part, asker)
        if None in found[index]:  # asked for by a store, another value, or a half of this one
            if value.op == "unzip":
                half(Cut.of(value), sizes, value)
            for operand, part in _operands(kernel, index, None, stops):
                found[operand].setdefault(part, value)
    return found


def sink(kernel: Kernel, sizes: Sizes, stops: Collection[int] = ()) -> Sunk:
    """The kernel with each `unzip` on what it halves, and without values that reach no store."""
    values: list[Value] = []
    places: dict[tuple[int, Cut | None], int] = {}
    for index, parts in enumerate(wanted(kernel, sizes, stops)):
        value = kernel.values[index]
        for cut in sorted(parts, key=lambda cut: -1 if cut is None else cut.part):
            asker = parts[cut]
            operands = tuple(places[o, c] for o, c in _operands(kernel, index, cut, stops))
            if cut is None:
                new = replace(value, operands=operands) if value.op != "unzip" else _named(value, operands)
            elif _halved_here(value, index, stops) and asker is not None:
                new = Value("unzip", operands, value.dtype, cut.axes(value.axes), asker.span, cut.attrs)
            else:
                new = replace(value, operands=operands, axes=cut.axes(value.axes), attrs=_attrs(value, cut))
            places[index, cut] = len(values)
            values.append(new)
    stores = tuple(
        replace(s, value=places[s.value, None], at=None if s.at is None else places[s.at, None]) for s in kernel.stores
    )
    sunk = replace(kernel, values=tuple(values), stores=stores)
    verify(sunk, after="unzip")
    return Sunk(sunk, places)


def twice(arg: Arg, value: Value) -> Arg:
    """The argument under an `unzip`, its axis called like that of its halves and twice as long."""
    cut = Cut.of(value)
    doubled = Axis(cut.into, ("mul", cut.into, 2))
    return replace(arg, axes=tuple(doubled if axis.name == cut.axis else axis for axis in arg.axes))


def halved(kernel: Kernel) -> list[Arg]:
    """The arguments with the axes by which they are read: those of their halves where they are unzipped."""
    found: list[Arg] = []
    for arg in kernel.args:
        cuts = (Cut.of(v) for v in kernel.values if v.op == "unzip" and _name(kernel, v.operands[0]) == arg.name)
        for cut in cuts:
            half_axis = Axis(cut.into, cut.into)
            arg = replace(arg, axes=tuple(half_axis if axis.name == cut.axis else axis for axis in arg.axes))
        found.append(arg)
    return found


def _name(kernel: Kernel, index: int) -> str | None:
    value = kernel.values[index]
    return str(value.attrs["name"]) if value.op == "arg" else None


def refusals(value: Value, kernel: Kernel, space: Space) -> tuple[Diagnostic, ...]:
    """Why an epilogue cannot read this half; empty if it can."""
    cut = Cut.of(value)
    if cut.into != space.n_axis:
        return refusal(value, f"its halves do not lie along the columns, {space.n_axis}", _ON_REFERENCE).diagnostics
    every = (*space.batch_axes, space.m_axis, space.n_axis)
    if kernel.values[value.operands[0]].op == "uniform" and value.axes != every:
        what = f"of random numbers for [{', '.join(value.axes)}]"
        return refusal(value, what, f"draw them for both halves of [{', '.join(every)}]").diagnostics
    return ()


def refusal(value: Value, what: str, help: str) -> DiagnosticError:
    """Why an `unzip` cannot be compiled."""
    return DiagnosticError([
        error("FP4020", f"this `unzip` cannot be compiled yet: {what}", value.span, "unzipped here", help=help),
    ])  # fmt: skip


def _named(value: Value, operands: tuple[int, ...]) -> Value:
    """What was an `unzip` as another name of the half."""
    names = {"name": value.attrs["name"]} if "name" in value.attrs else {}
    return Value("cast", operands, "f32", value.axes, value.span, names)


def _halved_here(value: Value, index: int, stops: Collection[int]) -> bool:
    return index in stops or value.op in _READ


def _operands(kernel: Kernel, index: int, cut: Cut | None, stops: Collection[int]) -> Iterator[tuple[int, Cut | None]]:
    """The operands of a value, or of its half, and which half of each."""
    value = kernel.values[index]
    if cut is not None and _halved_here(value, index, stops):
        yield index, None
        return
    part = Cut.of(value) if cut is None and value.op == "unzip" else cut
    for operand in value.operands:
        halved = part is not None and part.axis in kernel.values[operand].axes
        yield operand, part if halved else None


def _check(kernel: Kernel, sizes: Sizes, value: Value, cut: Cut, asker: Value) -> None:
    """Raise DiagnosticError for a value whose half is not made of the halves of its operands."""
    if value.op == "unzip":
        raise refusal(asker, "of what is unzipped already", _ON_REFERENCE)
    if value.op == "matmul" and value.axes[-1] != cut.axis:
        raise refusal(asker, f"along {cut.axis}, which is not the columns of the product", _ON_REFERENCE)
    run = _run(value, cut)
    if run == 1:
        return
    groups = half(cut, sizes, asker).group
    if isinstance(run, int):
        whole = divides(run, sizes(cut.into), kernel.constraints, sizes) if groups is None else groups % run == 0
        if whole:
            return
    what = f"runs of {run}" if isinstance(run, int) else f"all of {cut.axis}"
    raise refusal(asker, f"`{value.op}` works on {what} before it", f"unzip first, then `{value.op}` each half")


def _run(value: Value, cut: Cut) -> int | Literal["all"]:
    """How many elements along the axis an operation takes together."""
    if value.op == "hadamard" and value.attrs["axis"] == cut.axis:
        return int(cast("int", value.attrs["size"]))
    if value.op == "quantize" and isinstance(value.dtype, BlockFormat) and cut.axis in value.axes[-2:]:
        rows, columns = value.dtype.block
        return columns if value.axes[-1] == cut.axis else rows
    return 1


def _attrs(value: Value, cut: Cut) -> dict[str, Attr]:
    attrs = {key: attr for key, attr in value.attrs.items() if key != "name"}
    if value.op == "hadamard" and attrs["axis"] == cut.axis:
        attrs["axis"] = cut.into
    return attrs

"""Two versions of a spec compared kernel by kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from fp4cc.diff.changes import Aspect, Change, KernelChanges
from fp4cc.diff.graph import numeric_changes
from fp4cc.diff.renaming import IDENTITY, Renaming, renaming
from fp4cc.ir.kernel import Arg, Axis, Constraint, Dim, Kernel, Schedule
from fp4num import BlockFormat, ScaleLayout
from fp4num.layouts import COORDINATES
from fp4rt.sizes import text

#: What a property of a format decides.
_PROPERTIES: dict[str, tuple[Aspect, ...]] = {
    "element": ("interface", "numerics"),
    "pack": ("layout",),
    "scale": ("interface", "numerics"),
    "block": ("numerics",),
    "stored": ("layout",),
    "tensor_scale": ("interface", "numerics"),
    "each_batch": ("interface", "numerics"),
}


def compare(before: Sequence[Kernel], after: Sequence[Kernel]) -> tuple[KernelChanges, ...]:
    """The changes of every kernel of two files, in the order of the second, then those that are gone.

    Kernels of one name belong together; one without a partner in each file are one kernel that was renamed.
    """
    old = {k.name: k for k in before}
    new = {k.name: k for k in after}
    gone = [k for name, k in old.items() if name not in new]
    added = [k for name, k in new.items() if name not in old]
    renamed = gone[0] if len(gone) == len(added) == 1 else None
    found: list[KernelChanges] = []
    for name, kernel in new.items():
        partner = old.get(name, renamed)
        if partner is not None:
            found.append(KernelChanges(partner.name, name, compare_kernels(partner, kernel)))
        else:
            found.append(KernelChanges(None, name, (Change("interface", "a new kernel", None, kernel.span),)))
    for kernel in gone:
        if kernel is not renamed:
            found.append(
                KernelChanges(kernel.name, None, (Change("interface", "the kernel is gone", kernel.span, None),))
            )
    return tuple(found)


def compare_kernels(before: Kernel, after: Kernel) -> tuple[Change, ...]:
    """Everything that differs between two versions of a kernel, by aspect."""
    names = renaming(before, after)
    changes = [
        *_kernel_name(before, after),
        *_dims(before, after, names),
        *_args(before, after, names),
        *_constraints(before, after, names),
        *numeric_changes(before, after, names),
        *_schedules(before, after, names),
    ]
    return tuple(dict.fromkeys(changes))


def _kernel_name(before: Kernel, after: Kernel) -> Iterator[Change]:
    if before.name != after.name:
        yield Change("interface", f"`{before.name}` is called `{after.name}`", before.span, after.span)


def _dims(before: Kernel, after: Kernel, names: Renaming) -> Iterator[Change]:
    new = {d.name: d for d in after.dims}
    kept: set[str] = set()
    for dim in before.dims:
        other = new.get(names.axis(dim.name))
        if other is None:
            yield Change("interface", f"the dim `{dim.name}` is gone", dim.span, None)
            continue
        kept.add(other.name)
        if dim.name != other.name:
            yield Change("interface", f"the dim `{dim.name}` is called `{other.name}`", dim.span, other.span)
        if _dim_value(dim, names) != _dim_value(other, IDENTITY):
            what = f"the dim `{other.name}` was {_dim_text(dim)} and is {_dim_text(other)}"
            yield Change("interface", what, dim.span, other.span)
    for name, dim in new.items():
        if name not in kept:
            yield Change("interface", f"a new dim `{name}`", None, dim.span)


def _dim_value(dim: Dim, names: Renaming) -> object:
    return dim.value if dim.value is not None else None if dim.expr is None else names.size(dim.expr)


def _dim_text(dim: Dim) -> str:
    if dim.value is not None:
        return str(dim.value)
    return "dynamic" if dim.expr is None else text(dim.expr)


def _args(before: Kernel, after: Kernel, names: Renaming) -> Iterator[Change]:
    new = {a.name: a for a in after.args}
    kept: set[str] = set()
    for arg in before.args:
        other = new.get(names.arg(arg.name))
        if other is None:
            yield Change("interface", f"the argument `{arg.name}` is gone", arg.span, None)
            continue
        kept.add(other.name)
        for aspect, what in _arg(arg, other, names):
            yield Change(aspect, f"`{other.name}`: {what}", arg.span, other.span)
    for name, arg in new.items():
        if name not in kept:
            yield Change("interface", f"a new argument `{name}`", None, arg.span)


def _arg(arg: Arg, other: Arg, names: Renaming) -> Iterator[tuple[Aspect, str]]:
    if arg.name != other.name:
        yield "interface", f"it was called `{arg.name}`"
    if arg.direction != other.direction:
        yield "interface", f"`{arg.direction}` became `{other.direction}`"
    if [_axis(a, names) for a in arg.axes] != [_axis(a, IDENTITY) for a in other.axes]:
        yield "interface", "its axes differ"
    if repr(arg.default) != repr(other.default):
        yield "interface", f"its default was {arg.default} and is {other.default}"
    a, b = arg.dtype, other.dtype
    if isinstance(a, BlockFormat) and isinstance(b, BlockFormat):
        yield from _format(a, b, written=other.direction != "in")
    elif a != b:
        what = f"{a if isinstance(a, str) else a.name} became {b if isinstance(b, str) else b.name}"
        yield "interface", what
        yield "numerics", what


def _axis(axis: Axis, names: Renaming) -> tuple[object, ...]:
    by, upto = (None if n is None else names.arg(n) for n in (axis.by, axis.upto))
    return None if axis.name is None else names.axis(axis.name), names.size(axis.extent), by, upto


def _format(a: BlockFormat, b: BlockFormat, *, written: bool) -> Iterator[tuple[Aspect, str]]:
    said: dict[Aspect, list[str]] = {}
    for name, aspects in _PROPERTIES.items():
        ours, theirs = getattr(a, name), getattr(b, name)
        if ours != theirs:
            for aspect in aspects:
                said.setdefault(aspect, []).append(f"{name} {_property(ours)} became {_property(theirs)}")
    if _layout(a.layout) != _layout(b.layout):
        said.setdefault("layout", []).append(f"layout {a.layout.name} became {b.layout.name}")
    if written and a.quantizer != b.quantizer:
        said.setdefault("numerics", []).append(f"quantizer {a.quantizer} became {b.quantizer}")
    for aspect, what in said.items():
        yield aspect, ", ".join(what)


def _property(value: object) -> str:
    if isinstance(value, tuple):
        return " x ".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return "none" if value is None else str(value)


def _layout(layout: ScaleLayout) -> tuple[object, ...]:
    extents = [layout.extent(c) for c in COORDINATES]
    return (*extents, layout.order, layout.pad, layout.offsets(*extents).tobytes())


def _constraints(before: Kernel, after: Kernel, names: Renaming) -> Iterator[Change]:
    ours = {names.size(c.expr): c for c in before.constraints}
    theirs = {IDENTITY.size(c.expr): c for c in after.constraints}
    for expr, constraint in ours.items():
        if expr not in theirs:
            yield Change("interface", f"no longer needs {_condition(constraint)}", constraint.span, None)
    for expr, constraint in theirs.items():
        if expr not in ours:
            yield Change("interface", f"needs {_condition(constraint)}", None, constraint.span)


def _condition(constraint: Constraint) -> str:
    return f"{text(constraint.expr)}" + (f" ({constraint.reason})" if constraint.reason else "")


def _schedules(before: Kernel, after: Kernel, names: Renaming) -> Iterator[Change]:
    """Schedules of one target in order: the first that matches wins."""
    targets = dict.fromkeys(s.target for s in (*before.schedules, *after.schedules))
    for target in targets:
        ours, theirs = ([s for s in k.schedules if s.target == target] for k in (before, after))
        for a, b in zip_longest(ours, theirs):
            if a is None or b is None:
                what = f"a new schedule for {target}" if a is None else f"a schedule for {target} is gone"
                yield Change("schedule", what, None if a is None else a.span, None if b is None else b.span)
            else:
                yield from _schedule(a, b, names)


def _schedule(a: Schedule, b: Schedule, names: Renaming) -> Iterator[Change]:
    whens = None if a.when is None else names.size(a.when), None if b.when is None else IDENTITY.size(b.when)
    if whens[0] != whens[1]:
        yield Change("schedule", f"when {_when(a)} became when {_when(b)}", a.span, b.span)
    for field in dict.fromkeys((*a.fields, *b.fields)):
        ours, theirs = a.fields.get(field), b.fields.get(field)
        if ours != theirs:
            what = f"{field} {_field(ours)} became {_field(theirs)}"
            yield Change("schedule", what, a.field_spans.get(field), b.field_spans.get(field))


def _when(schedule: Schedule) -> str:
    return "always" if schedule.when is None else text(schedule.when)


def _field(values: tuple[object, ...] | None) -> str:
    if values is None:
        return "chosen by the compiler"
    return " x ".join(("yes" if v else "no") if isinstance(v, bool) else str(v) for v in values)

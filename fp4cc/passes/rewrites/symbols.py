"""A user's names, kept apart from every name that lowering and emission make up.

A kernel's parameters, buffers and variables are called after the argument that they serve: `a` has `a_scale_ptr`, and
so would an argument `a_scale`. So a kernel is lowered with marks (`fp4cc.marks`) for the names of its arguments, and of
the dims that it uses as numbers: nothing that passes do depends on what these are called, and nothing can be taken
for another thing. The lowered kernel then speaks of them by their names, in `explain`, in messages and in the manifest;
beside it is kept what has the marks (`LoweredKernel.marked`), from which `fp4cc.codegen.emit` prints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.kernel import Axis, Kernel, Value
from fp4cc.ir.lowered import LoweredKernel, Marked, Preparation
from fp4cc.marks import mark, spelled_in

#: Attributes of values that name an argument.
_BY_NAME = ("ragged", "contracted")


def lowered_by_marks(kernel: Kernel, lower: Callable[[Kernel], LoweredKernel]) -> LoweredKernel:
    """What `lower` makes of a kernel, without it ever seeing a user's name. Raises its DiagnosticError, respelled."""
    names = _names(kernel)
    try:
        plan = lower(_marked(kernel, names))
    except DiagnosticError as failed:
        raise DiagnosticError(spelled_in(failed.diagnostics, names.__getitem__)) from failed
    return _named(plan, kernel, names, {})


def _names(kernel: Kernel) -> tuple[str, ...]:
    """The names that get marks, by the number of the mark: those of the arguments, then those of dims."""
    return (*(arg.name for arg in kernel.args), *_sizes(kernel))


def _sizes(kernel: Kernel) -> list[str]:
    """The dims that are values of the kernel."""
    sizes = [value.attrs["expr"] for value in kernel.values if value.op == "dim"]
    return list(dict.fromkeys(size for size in sizes if isinstance(size, str)))


def _marked(kernel: Kernel, names: tuple[str, ...]) -> Kernel:
    """The kernel with marks for names."""
    letters = [mark(number, len(name)) for number, name in enumerate(names)]
    marks = dict(zip([arg.name for arg in kernel.args], letters, strict=False))
    sizes = dict(zip(_sizes(kernel), letters[len(kernel.args) :], strict=True))

    def value(old: Value) -> Value:
        if old.op == "dim":
            size = old.attrs["expr"]
            return replace(old, attrs={**old.attrs, "name": sizes[size]}) if isinstance(size, str) else old
        named = [key for key in (("name",) if old.op in ("arg", "tensor_scale") else _BY_NAME) if key in old.attrs]
        return replace(old, attrs={**old.attrs, **{key: marks[str(old.attrs[key])] for key in named}}) if named else old

    def axis(old: Axis) -> Axis:
        by, upto = (None if name is None else marks[name] for name in (old.by, old.upto))
        return replace(old, by=by, upto=upto)

    return replace(
        kernel,
        args=tuple(
            replace(arg, name=marks[arg.name], axes=tuple(axis(each) for each in arg.axes)) for arg in kernel.args
        ),
        values=tuple(value(old) for old in kernel.values),
        stores=tuple(replace(store, arg=marks[store.arg]) for store in kernel.stores),
    )


def _map_names(marked: LoweredKernel, spelled: LoweredKernel) -> dict[str, str]:
    """The names of tensor maps in the manifest, by those with marks: what a pass made up may be called like another."""
    found: dict[str, str] = {}
    for old, new in zip(marked.tensor_maps, spelled.tensor_maps, strict=True):
        name = new.name
        while name in found.values():
            name += "_"
        found[old.name] = name
    return found


def _named(
    plan: LoweredKernel, kernel: Kernel, names: tuple[str, ...], known: dict[int, tuple[Any, Any]]
) -> LoweredKernel:
    """The plan with the names of the spec, and each plan in it with itself by marks. `known`: of `spelled_in`."""
    alone = replace(plan, variants=(), before=(), after=(), prepared=(), preparation=None)
    spelled = spelled_in(alone, names.__getitem__, known)
    maps = _map_names(alone, spelled)
    params = [
        replace(new, param=replace(new.param, source=maps[str(old.param.source)]))
        if old.param.kind == "tensor_map"
        else new
        for old, new in zip(alone.launch.params, spelled.launch.params, strict=True)
    ]
    return replace(
        spelled,
        tensor_maps=tuple(replace(m, name=name) for m, name in zip(spelled.tensor_maps, maps.values(), strict=True)),
        launch=replace(spelled.launch, params=tuple(params)),
        whole=kernel,
        variants=tuple(_named(variant, kernel, names, known) for variant in plan.variants),
        before=tuple(_named(earlier, kernel, names, known) for earlier in plan.before),
        after=tuple(_named(later, kernel, names, known) for later in plan.after),
        prepared=tuple(_named(each, kernel, names, known) for each in plan.prepared),
        preparation=None if plan.preparation is None else _preparation(plan.preparation, kernel, names, known),
        marked=Marked(alone, names),
    )


def _preparation(
    made: Preparation, kernel: Kernel, names: tuple[str, ...], known: dict[int, tuple[Any, Any]]
) -> Preparation:
    """What is launched once, with the names of the spec."""
    alone = spelled_in(replace(made, launch=None), names.__getitem__, known)  # type: ignore[arg-type]
    return replace(alone, launch=_named(made.launch, kernel, names, known))

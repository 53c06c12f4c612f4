"""The stages one by one: text, tree, typed kernel, lowered kernel, kernel file, manifest.

Here the front end is imported; `build` comes here only when the cache has no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING

from fp4cc.diagnostics import Diagnostic, DiagnosticError, did_you_mean
from fp4cc.driver.request import PREPARED_PLANS, Request, RequestError
from fp4cc.driver.spec import Spec, used_files
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.verify import verify
from fp4cc.sema import Checked, analyze, specialize
from fp4cc.source import Source

if TYPE_CHECKING:
    from fp4cc.ir.lowered import LoweredKernel
    from fp4num import BlockFormat, ScaleLayout

Warnings = tuple[Diagnostic, ...]


def _checked(spec: Spec) -> Checked:
    """The checked file. Commands ask for it more than once; the files it uses may change in between."""
    used = used_files(spec)
    return _analyzed.__wrapped__(spec, ()) if used is None else _analyzed(spec, tuple(used.items()))


@lru_cache(maxsize=4)
def _analyzed(spec: Spec, _used: tuple[tuple[str, bytes], ...]) -> Checked:
    return analyze(Source(spec.name, spec.text), spec.folder)


def typed_kernels(request: Request) -> tuple[tuple[Kernel, ...], Warnings]:
    """The typed kernels that were asked for, their fixed dims set. Raises DiagnosticError or RequestError."""
    checked = _checked(request.spec).raise_errors()
    kernels = checked.kernels
    if request.kernel is not None:
        kernels = tuple(k for k in kernels if k.name == request.kernel)
        if not kernels:
            names = [k.name for k in checked.kernels]
            known = did_you_mean(request.kernel, names) or f"kernels: {', '.join(names) or 'none'}"
            raise RequestError(f"{request.spec.name} has no kernel {request.kernel}; {known}")
    _known_dims(request.dims, kernels)
    fixed = tuple(_fixed(kernel, request.dims) for kernel in kernels)
    for kernel in fixed:
        verify(kernel)
    return fixed, checked.diagnostics


def check_target(request: Request) -> None:
    """RequestError, with what to write, for a target that there is not: also where nothing is compiled for it."""
    from fp4cc.targets import NAMES, target_help

    if request.target not in NAMES:
        asked = request.target or "a target without a name"
        raise RequestError(f"kernels cannot be compiled for {asked}; {target_help(request.target)}")


def lower_kernels(request: Request) -> tuple[tuple[LoweredKernel, ...], Warnings]:
    """The lowered kernels. Raises DiagnosticError with the errors of all of them, or RequestError."""
    from fp4cc.passes import lower

    check_target(request)
    kernels, warnings = typed_kernels(request)
    lowered: list[LoweredKernel] = []
    errors: list[Diagnostic] = []
    for kernel in kernels:
        try:
            lowered.append(replace(lower(kernel, request.target, request.plans), many=request.many))
        except DiagnosticError as failed:
            errors.extend(failed.diagnostics)
    if errors:
        raise DiagnosticError([*dict.fromkeys(errors), *warnings])
    return tuple(lowered), warnings


def only_plans(kernel: LoweredKernel, request: Request) -> LoweredKernel:
    """The kernel with the plans that are wanted of it (`Request.only`), in the order in which they were.

    Without the one that always applies the last of the others does, so that a call finds a plan.
    """
    if request.only is None or kernel.name not in request.only:
        return kernel
    numbers = request.only[kernel.name]
    kept = [plan for number, plan in enumerate((kernel, *kernel.variants)) if number and number in numbers]
    last = kernel if 0 in numbers or not kept else replace(kept.pop(), when=None)
    prepared = kernel.prepared if PREPARED_PLANS in numbers else ()
    return replace(last, variants=tuple(kept), prepared=prepared)


def plan_of_call(kernel: LoweredKernel, sizes: Mapping[str, int]) -> int:
    """The number of the plan that a call with these sizes takes (0: the one that always applies)."""
    from fp4rt.sizes import evaluate

    holds = (n for n, v in enumerate(kernel.variants, 1) if v.when is None or evaluate(v.when, sizes))
    return next(holds, 0)


def emit_kernel(plan: LoweredKernel) -> str:
    """The kernel file of one plan."""
    from fp4cc.codegen.emit import emit

    return emit(plan)


def plans_of(kernel: LoweredKernel) -> dict[str, LoweredKernel]:
    """Each plan of a kernel by the stem of its files."""
    from fp4cc.codegen.manifest import plans

    return plans(kernel)


def texts_of(kernel: LoweredKernel) -> dict[str, str]:
    """The kernel files of all plans, by their stem; those for lists of problems are the last."""
    from fp4cc.codegen.emit import emit
    from fp4cc.codegen.manifest import over_lists

    over_list = {stem: emit(plan, many=True) for stem, plan in over_lists(kernel).items()}
    return {**{stem: emit_kernel(plan) for stem, plan in plans_of(kernel).items()}, **over_list}


def plan_uses(kernel: LoweredKernel) -> dict[str, str]:
    """When the runtime uses each plan, by the stem of its files, in the order in which it tries them."""
    from fp4cc.codegen.manifest import plans_by_stem, prepared_by_stem
    from fp4cc.explain.plans import used_where

    prepared = {
        stem: f"for {plan.preparation.arg} that is prepared, {used_where(plan.when)}"
        for stem, plan in prepared_by_stem(kernel).items()
        if plan.preparation is not None
    }
    found = {stem: used_where(plan.when) for stem, plan in plans_by_stem(kernel).items() if plan.when is not None}
    return {**prepared, **found, kernel.name: used_where(None) if found else "always"}


def manifest_text(kernel: LoweredKernel, files: Mapping[str, str], sources: Mapping[str, str] | None = None) -> str:
    """The manifest, with places named without folders, so that it does not depend on where it was built.

    `sources`: the SHA-256 of each file that the spec uses.
    """
    from fp4cc.backend.toolchain import toolchain
    from fp4cc.codegen.manifest import manifest
    from fp4rt.manifest import dumps
    from fp4rt.typed import Constraint

    def located(constraints: tuple[Constraint, ...]) -> tuple[Constraint, ...]:
        return tuple(replace(c, span=PurePath(c.span).name) for c in constraints)

    made = manifest(kernel, files, toolchain(), sources)
    return dumps(
        replace(
            made,
            kernel=replace(made.kernel, constraints=located(made.kernel.constraints)),
            constraints=located(made.constraints),
            plan_constraints=located(made.plan_constraints),
            variants=tuple(replace(v, constraints=located(v.constraints)) for v in made.variants),
        )
    )


def ast_text(request: Request) -> str:
    """The tree of the file, as far as it parses. Raises DiagnosticError for syntax errors."""
    from fp4cc.driver.dump import dump
    from fp4cc.frontend import parse

    module = parse(Source(request.spec.name, request.spec.text))
    return dump(module.items)


def ir_text(request: Request) -> str:
    """The typed kernels."""
    from fp4cc.ir.print import format_kernel

    return "\n".join(format_kernel(kernel) for kernel in typed_kernels(request)[0])


def lowered_text(request: Request) -> str:
    """The lowered kernels, without the typed kernels inside them; after each what is made once, and who reads it."""
    from fp4cc.driver.dump import dump

    plans: list[LoweredKernel] = []
    for kernel in lower_kernels(request)[0]:
        made = {each.preparation.launch.name: each.preparation.launch for each in kernel.prepared if each.preparation}
        plans += [kernel, *made.values(), *kernel.prepared]
    return "\n".join(dump(plan, skip=frozenset(("kernel", "whole", "marked"))) for plan in plans)


def python_text(request: Request) -> str:
    """The kernel files, one after the other where there are several."""
    return "\n\n".join(text for kernel in lower_kernels(request)[0] for text in texts_of(kernel).values())


def formats_and_layouts(request: Request) -> tuple[list[BlockFormat], list[ScaleLayout]]:
    """The formats and layouts that the file defines, and the formats its kernels use."""
    checked = _checked(request.spec).raise_errors()
    formats = dict(checked.formats)
    for kernel in checked.kernels:
        for arg in kernel.args:
            if arg.format is not None:
                formats.setdefault(arg.format.name, arg.format)
    return list(formats.values()), list(checked.layouts.values())


def _known_dims(dims: Mapping[str, int], kernels: tuple[Kernel, ...]) -> None:
    """Every fixed dim is one of the kernels', and none is derived."""
    derived = {d.name: d for k in kernels for d in k.dims if d.expr is not None}
    names = {d.name for k in kernels for d in k.dims}
    for name in dims:
        if name in derived:
            raise RequestError(f"{name} is derived from other dimensions and cannot be set")
        if name not in names:
            known = did_you_mean(name, names) or f"dimensions: {', '.join(sorted(names)) or 'none'}"
            raise RequestError(f"no kernel has a dimension {name}; {known}")


def _fixed(kernel: Kernel, dims: Mapping[str, int]) -> Kernel:
    """The kernel with those of the dims fixed that are its own; DiagnosticError where that breaks a condition."""
    own = {d.name for d in kernel.dims}
    return specialize(kernel, {name: size for name, size in dims.items() if name in own})

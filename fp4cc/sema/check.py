"""The checker's front door: a program to typed kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from heapq import heappop, heappush
from pathlib import Path

from fp4cc.diagnostics import Collector, Diagnostic, DiagnosticError, error
from fp4cc.frontend import Program, ast, load, prelude
from fp4cc.frontend.units import MAX_ERRORS
from fp4cc.ir.kernel import Kernel
from fp4cc.sema.file_names import check_file_names
from fp4cc.sema.formats import FormatNames, check_format
from fp4cc.sema.functions import check_functions
from fp4cc.sema.kernels import check_kernel
from fp4cc.sema.layouts import check_layout
from fp4cc.sema.scheduling import check_schedules
from fp4cc.sema.scope import Scope, define
from fp4cc.source import Source, Span
from fp4num import BlockFormat, ScaleLayout


@dataclass(frozen=True, slots=True)
class Checked:
    """What a program is: its kernels, the formats and layouts its main file defines, and what was found wrong."""

    program: Program | None
    kernels: tuple[Kernel, ...]
    formats: dict[str, BlockFormat]
    layouts: dict[str, ScaleLayout]
    diagnostics: tuple[Diagnostic, ...]

    @property
    def failed(self) -> bool:
        """Whether any finding is an error."""
        return any(d.severity == "error" for d in self.diagnostics)

    def raise_errors(self) -> Checked:
        """Itself; raises DiagnosticError if there are errors."""
        if self.failed:
            raise DiagnosticError(self.diagnostics)
        return self


def analyze(source: Source | Path, folder: Path | None = None) -> Checked:
    """Load and check a file (or a text, whose `use` paths start in `folder`). Never raises for the user's mistakes."""
    collector = Collector()
    try:
        program = load(source, collector, folder)
    except DiagnosticError as problem:
        return Checked(None, (), {}, {}, problem.diagnostics)
    scope, kernels = _check(program, collector)
    formats = {n: f for (kind, n) in scope.places if kind == "format" and (f := scope.formats[n]) is not None}
    layouts = {n: v for (kind, n) in scope.places if kind == "layout" and (v := scope.layouts[n]) is not None}
    return Checked(program, kernels, formats, layouts, collector.diagnostics)


def check(program: Program | ast.Module, collector: Collector | None = None) -> tuple[Kernel, ...]:
    """The typed kernels of the program's main file, in order, those without errors.

    Errors go to `collector`; without one they are raised as DiagnosticError.
    """
    found = Collector() if collector is None else collector
    whole = program if isinstance(program, Program) else Program((program,), ((),))
    kernels = _check(whole, found)[1]
    if collector is None:
        found.raise_errors()
    return kernels


@cache
def prelude_scope() -> Scope:
    """The definitions of the prelude, checked once a process."""
    collector = Collector()
    scope = _definitions(prelude(), Scope(), collector)
    collector.raise_errors()
    return scope


def _check(program: Program, collector: Collector) -> tuple[Scope, tuple[Kernel, ...]]:
    scopes: list[Scope] = []
    for module, uses in zip(program.modules, program.uses, strict=True):
        scope = prelude_scope().child()
        scope.partial = module.partial or any(scopes[index].partial for _, index in uses)
        for index, item in {index: item for item, index in reversed(uses)}.items():
            scope.take(scopes[index], item.span, collector)
        scopes.append(_definitions(module, scope, collector))
    nodes, kernels = _kernels(program.main, scopes[-1], collector)
    used = [_kernels(m, s, collector)[0] for m, s in zip(program.modules[:-1], scopes[:-1], strict=True)]
    schedules = check_schedules(program, [*used, nodes], collector)[-1]
    return scopes[-1], tuple(replace(k, schedules=schedules.get(k.name, ())) for k in kernels)


def _definitions(module: ast.Module, scope: Scope, collector: Collector) -> Scope:
    """The scope with the layouts, formats and functions that a file defines."""
    own: dict[tuple[str, str], Span] = {}
    for item in module.items:
        if isinstance(item, ast.Layout):
            define(
                "layout",
                scope.layouts,
                scope,
                own,
                item.name,
                collector,
                lambda item=item: check_layout(item, collector),
            )
    for name in module.broken:
        scope.layouts.setdefault(name, None)
        scope.formats.setdefault(name, None)
        scope.functions.setdefault(name, None)
    _formats(module, scope, own, collector)
    functions = [item for item in module.items if isinstance(item, ast.Function)]
    for function in functions:
        define("function", scope.functions, scope, own, function.name, collector, lambda function=function: function)
    scope.homes.update((id(function), scope) for function in functions)
    check_functions(functions, scope, collector)
    scope.places = own
    return scope


def _formats(module: ast.Module, scope: Scope, own: dict[tuple[str, str], Span], collector: Collector) -> None:
    """Formats in an order where each comes after the one it extends; circles are reported."""
    items = [item for item in module.items if isinstance(item, ast.Format)]
    names = {item.name.text for item in items}
    inherited = set(scope.formats)
    ready: list[int] = []  # a heap: the earliest in the file first
    waiting: dict[str, list[int]] = {}  # by the name that they extend
    for index, item in enumerate(items):
        base = None if item.base is None else item.base.text
        if base is None or base not in names or (base == item.name.text and base in inherited):
            ready.append(index)
        else:
            waiting.setdefault(base, []).append(index)
    seen = FormatNames(scope.layouts, scope.formats, scope.partial)
    while ready:
        item = items[heappop(ready)]
        make = partial(check_format, item, seen, collector)
        define("format", scope.formats, scope, own, item.name, collector, make)
        for index in waiting.pop(item.name.text, ()):
            heappush(ready, index)
    _refuse_format_circle(
        [items[i] for i in sorted(i for some in waiting.values() for i in some)], scope, own, collector
    )


def _refuse_format_circle(
    waiting: list[ast.Format], scope: Scope, own: dict[tuple[str, str], Span], collector: Collector
) -> None:
    """Report formats that wait for one another, if there are any."""
    if not waiting:
        return
    shown = " -> ".join(f"`{n}`" for n in _circle(waiting[0], waiting))
    collector.report(
        error(
            "FP3008",
            "formats extend each other in a circle",
            waiting[0].name.span,
            shown,
            help="one of them must not extend another",
        )
    )
    for item in waiting:
        scope.formats[item.name.text] = None
        own.setdefault(("format", item.name.text), item.name.span)


def _circle(item: ast.Format, waiting: list[ast.Format]) -> list[str]:
    bases = {i.name.text: i.base.text for i in waiting if i.base is not None}
    path = [item.name.text]
    while (following := bases.get(path[-1])) is not None and following not in path:
        path.append(following)
    back = bases.get(path[-1], path[0])
    return [*path[path.index(back) if back in path else 0 :], back]


def _kernels(module: ast.Module, scope: Scope, collector: Collector) -> tuple[dict[str, ast.Kernel], list[Kernel]]:
    """The kernels of a file as they are written, by name, and those without errors, typed but without schedules."""
    nodes: dict[str, ast.Kernel] = {}
    kernels: list[Kernel] = []
    for item in module.items:
        if not isinstance(item, ast.Kernel):
            continue
        if len(collector) >= MAX_ERRORS:
            break  # what stands so far fills screens
        name = item.name.text
        if name in nodes:
            collector.report(
                error(
                    "FP2002",
                    f"the kernel `{name}` is defined twice",
                    item.name.span,
                    "defined again",
                    also=[(nodes[name].name.span, "first defined here")],
                    help="rename one of them",
                )
            )
        kernel = check_kernel(item, scope, collector)
        if nodes.setdefault(name, item) is item and kernel is not None:
            kernels.append(kernel)
    check_file_names({name: node.name.span for name, node in nodes.items()}, collector)
    return nodes, kernels

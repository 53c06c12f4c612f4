"""The kernel file: context and templates in, Python text out."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, cast

import jinja2

from fp4cc.codegen.context import imports
from fp4cc.codegen.engines import template_folders, text_of
from fp4cc.codegen.epilogue.text import emit_epilogue
from fp4cc.codegen.fragments import functions_text, lines
from fp4cc.codegen.free import free_names
from fp4cc.codegen.library import library
from fp4cc.codegen.library import text_of as library_text
from fp4cc.codegen.listed import listed
from fp4cc.codegen.names import Names, named
from fp4cc.codegen.ring import advance
from fp4cc.codegen.wrap import call
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.marks import spelled_in


def emit(lowered: LoweredKernel, *, many: bool = False) -> str:
    """The text of the kernel file. The same lowered kernel gives the same text. `many`: of the kernel over a list."""
    if lowered.marked is None:
        return named((), lambda names: _text(lowered, names, many))
    plan, given = lowered.marked.plan, lowered.marked.names
    return named(given, lambda names: _text(spelled_in(plan, names.given), names, many))


def _text(lowered: LoweredKernel, names: Names, many: bool) -> str:
    """The text with marks for names: the kernel's, then around it what it needs of the library and of the DSL."""
    engine = text_of(lowered)
    epilogue = emit_epilogue(lowered, names)
    around, inside = engine.context(lowered, epilogue)
    if many:
        around = listed(around, lowered)
    common = _variables(around) | {"function": names.new(lowered.name, "_kernel")}
    functions = functions_text([*epilogue.functions, *engine.functions(lowered)])
    templates = _environment(*template_folders())
    kernel = templates.get_template("common/kernel.py.j2").render(
        common, **_variables(inside), body=engine.body, functions=functions
    )
    helpers = library(lowered.target)
    used = free_names(kernel)
    definitions = helpers.closure(used & helpers.names())
    mentioned = used.union(*(definition.mentions for definition in definitions))
    return templates.get_template("common/module.py.j2").render(
        common, imports=imports(mentioned), library=library_text(definitions), kernel=kernel
    )


def _variables(context: Any) -> dict[str, object]:
    """What templates see of a context, a dataclass: its fields by name."""
    return {field.name: getattr(context, field.name) for field in fields(context)}


@cache
def _environment(*folders: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    cast("dict[str, Any]", environment.filters)["lines"] = lines
    cast("dict[str, Any]", environment.globals).update(advance=advance, call=call)
    return environment

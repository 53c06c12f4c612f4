"""The kernel file: context and templates in, Python text out."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import jinja2

from fp4cc.codegen import context_elementwise, context_promoted, context_tcgen05
from fp4cc.codegen.context import imports
from fp4cc.codegen.converters import converter_functions
from fp4cc.codegen.epilogue.text import emit_epilogue
from fp4cc.codegen.fragments import functions_text, lines
from fp4cc.codegen.free import free_names
from fp4cc.codegen.library import library, text_of
from fp4cc.codegen.names import Names, named
from fp4cc.codegen.wgmma import context as context_wgmma
from fp4cc.codegen.wrap import call
from fp4cc.ir.lowered import LoweredElementwise, LoweredGemm, LoweredKernel
from fp4cc.ir.lowered_promoted import LoweredPromoted
from fp4cc.ir.lowered_wgmma import LoweredWgmma
from fp4cc.marks import spelled_in
from fp4cc.resources import templates_dir


def emit(lowered: LoweredKernel) -> str:
    """The text of the kernel file. The same lowered kernel gives the same text."""
    if lowered.marked is None:
        return named((), lambda names: _text(lowered, names))
    plan, given = lowered.marked.plan, lowered.marked.names
    return named(given, lambda names: _text(spelled_in(plan, names.given), names))


def _text(lowered: LoweredKernel, names: Names) -> str:
    """The text with marks for names: the kernel's, then around it what it needs of the library and of the DSL."""
    context = _context(lowered, names)
    kernel = _environment().get_template("common/kernel.py.j2").render(context)
    helpers = library(lowered.target)
    used = free_names(kernel)
    definitions = helpers.closure(used & helpers.names())
    mentioned = used.union(*(definition.mentions for definition in definitions))
    module = _environment().get_template("common/module.py.j2")
    return module.render(context, imports=imports(mentioned), library=text_of(definitions), kernel=kernel)


def _context(lowered: LoweredKernel, names: Names) -> dict[str, Any]:
    """What the templates may use."""
    epilogue = emit_epilogue(lowered, names)
    match lowered:
        case LoweredGemm():
            functions = converter_functions(lowered)
            context = context_tcgen05.template_context(lowered, epilogue)
            body = "sm100/gemm.py.j2"
        case LoweredElementwise():
            functions = []
            context = context_elementwise.template_context(lowered, epilogue)
            body = "common/elementwise.py.j2"
        case LoweredWgmma():
            functions = context_wgmma.scale_functions(lowered)
            context = context_wgmma.template_context(lowered, epilogue)
            body = "sm90/gemm.py.j2"
        case LoweredPromoted():
            functions = context_promoted.scale_functions(lowered)
            context = context_promoted.template_context(lowered, epilogue)
            body = "sm100/promoted.py.j2"
        case _:
            raise TypeError(f"no template for {type(lowered).__name__}")
    return {
        **context,
        "body": body,
        "functions": functions_text([*epilogue.functions, *functions]),
        "function": names.new(lowered.name, "_kernel"),
        "call": call,
    }


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_dir()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    cast("dict[str, Any]", environment.filters)["lines"] = lines
    return environment

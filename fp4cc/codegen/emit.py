"""The kernel file: context and templates in, Python text out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import jinja2

from fp4cc.codegen import context_elementwise, context_promoted, context_tcgen05
from fp4cc.codegen.context import waits
from fp4cc.codegen.converters import converter_functions
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.epilogue.text import emit_epilogue
from fp4cc.codegen.names import Names, named
from fp4cc.codegen.wgmma import context as context_wgmma
from fp4cc.codegen.wrap import call
from fp4cc.ir.lowered import LoweredKernel, Tcgen05, Wgmma
from fp4cc.marks import spelled_in
from fp4cc.resources import templates_dir


def emit(lowered: LoweredKernel) -> str:
    """The text of the kernel file. The same lowered kernel gives the same text."""
    if lowered.marked is None:
        return named((), lambda names: _text(lowered, names))
    plan, given = lowered.marked.plan, lowered.marked.names
    return named(given, lambda names: _text(spelled_in(plan, names.given), names))


def _text(lowered: LoweredKernel, names: Names) -> str:
    """The text with marks for names."""
    match lowered.engine:
        case Tcgen05() if lowered.promotion is not None:
            epilogue = emit_epilogue(lowered, names, context_promoted.HELPERS)
            epilogue = _with(context_promoted.scale_functions(lowered), epilogue)
            context = context_promoted.template_context(lowered, epilogue)
            template = "sm100/promoted.py.j2"
        case Tcgen05():
            functions, helpers = converter_functions(lowered)
            helpers |= set(waits(lowered.rings).values())
            epilogue = _with(functions, emit_epilogue(lowered, names, helpers))
            context = context_tcgen05.template_context(lowered, epilogue)
            template = "sm100/gemm.py.j2"
        case Wgmma():
            epilogue = emit_epilogue(lowered, names, context_wgmma.helpers(lowered))
            epilogue = _with(context_wgmma.scale_functions(lowered), epilogue)
            context = context_wgmma.template_context(lowered, epilogue)
            template = "sm90/gemm.py.j2"
        case None:
            epilogue = emit_epilogue(lowered, names)
            context = context_elementwise.template_context(lowered, epilogue)
            template = "common/elementwise.py.j2"
        case _:
            raise TypeError(f"no template for {lowered.engine.name}")
    return _environment().get_template(template).render(context, call=call, function=names.new(lowered.name, "_kernel"))


def _with(functions: list[str], epilogue: EpilogueText) -> EpilogueText:
    """The epilogue's text with more functions of the kernel's module."""
    return replace(epilogue, functions="\n\n\n".join([epilogue.functions.strip("\n"), *functions]))


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_dir()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )

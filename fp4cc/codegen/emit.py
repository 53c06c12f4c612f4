"""The kernel file: context and templates in, Python text out."""

from __future__ import annotations

from functools import cache

import jinja2

from fp4cc.codegen import context_elementwise, context_promoted, context_tcgen05, context_wgmma
from fp4cc.codegen.epilogue import emit_epilogue
from fp4cc.codegen.wrap import call
from fp4cc.ir.lowered import LoweredElementwise, LoweredGemm, LoweredKernel
from fp4cc.ir.lowered_promoted import LoweredPromoted
from fp4cc.ir.lowered_wgmma import LoweredWgmma
from fp4cc.resources import templates_dir


def emit(lowered: LoweredKernel) -> str:
    """The text of the kernel file. The same lowered kernel gives the same text."""
    match lowered:
        case LoweredGemm():
            epilogue = emit_epilogue(lowered, context_tcgen05.TAKEN)
            context = context_tcgen05.template_context(lowered, epilogue)
            template = "sm100/gemm.py.j2"
        case LoweredElementwise():
            epilogue = emit_epilogue(lowered, context_elementwise.TAKEN)
            context = context_elementwise.template_context(lowered, epilogue)
            template = "common/elementwise.py.j2"
        case LoweredWgmma():
            epilogue = emit_epilogue(lowered, context_wgmma.taken(lowered), context_wgmma.helpers(lowered))
            context = context_wgmma.template_context(lowered, epilogue)
            template = "sm90/gemm.py.j2"
        case LoweredPromoted():
            epilogue = emit_epilogue(lowered, context_promoted.TAKEN, context_promoted.HELPERS)
            context = context_promoted.template_context(lowered, epilogue)
            template = "sm100/promoted.py.j2"
        case _:
            raise TypeError(f"no template for {type(lowered).__name__}")
    return _environment().get_template(template).render(context, call=call)


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

"""The kernel file: context and templates in, Python text out."""

from __future__ import annotations

from functools import cache

import jinja2

from fp4cc.codegen.context import TAKEN, template_context
from fp4cc.codegen.epilogue import emit_epilogue
from fp4cc.codegen.wrap import call
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.resources import templates_dir

#: The kernel template of a target.
_TEMPLATES = {"sm_100a": "sm100/gemm.py.j2"}


def emit(lowered: LoweredKernel) -> str:
    """The text of the kernel file. The same lowered kernel gives the same text."""
    template = _environment().get_template(_TEMPLATES[lowered.target])
    return template.render(template_context(lowered, emit_epilogue(lowered, TAKEN)), call=call)


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

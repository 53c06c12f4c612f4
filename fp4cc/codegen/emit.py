"""The kernel file: context and templates in, Python text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, cast

import jinja2

from fp4cc.codegen import context_elementwise, context_promoted, context_tcgen05
from fp4cc.codegen.context import Frame, imports
from fp4cc.codegen.context_elementwise import ElementwiseText
from fp4cc.codegen.context_promoted import PromotedText
from fp4cc.codegen.context_tcgen05 import Tcgen05Text
from fp4cc.codegen.converters import converter_functions
from fp4cc.codegen.epilogue.text import emit_epilogue
from fp4cc.codegen.fragments import Function, functions_text, lines
from fp4cc.codegen.free import free_names
from fp4cc.codegen.library import library, text_of
from fp4cc.codegen.names import Names, named
from fp4cc.codegen.ring import advance
from fp4cc.codegen.wgmma import context as context_wgmma
from fp4cc.codegen.wgmma.context import WgmmaText
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
    parts = _parts(lowered, names)
    common = variables(parts.frame) | {"function": names.new(lowered.name, "_kernel")}
    kernel = _template("common/kernel.py.j2").render(
        common, **variables(parts.engine), body=parts.body, functions=functions_text(parts.functions)
    )
    helpers = library(lowered.target)
    used = free_names(kernel)
    definitions = helpers.closure(used & helpers.names())
    mentioned = used.union(*(definition.mentions for definition in definitions))
    return _template("common/module.py.j2").render(
        common, imports=imports(mentioned), library=text_of(definitions), kernel=kernel
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """A kernel's text in parts: its frame, its engine's text with the template that has it (`body`), its functions."""

    frame: Frame
    engine: Tcgen05Text | PromotedText | WgmmaText | ElementwiseText
    body: str
    functions: Sequence[Function]


def _parts(lowered: LoweredKernel, names: Names) -> Parts:
    epilogue = emit_epilogue(lowered, names)
    match lowered:
        case LoweredGemm():
            functions = converter_functions(lowered)
            frame, engine = context_tcgen05.template_context(lowered, epilogue)
            body = "sm100/gemm.py.j2"
        case LoweredElementwise():
            functions = []
            frame, engine = context_elementwise.template_context(lowered, epilogue)
            body = "common/elementwise.py.j2"
        case LoweredWgmma():
            functions = context_wgmma.scale_functions(lowered)
            frame, engine = context_wgmma.template_context(lowered, epilogue)
            body = "sm90/gemm.py.j2"
        case LoweredPromoted():
            functions = context_promoted.scale_functions(lowered)
            frame, engine = context_promoted.template_context(lowered, epilogue)
            body = "sm100/promoted.py.j2"
        case _:
            raise TypeError(f"no template for {type(lowered).__name__}")
    return Parts(frame, engine, body, [*epilogue.functions, *functions])


def variables(context: Frame | Tcgen05Text | PromotedText | WgmmaText | ElementwiseText) -> dict[str, object]:
    """What templates see of a context: its fields by name."""
    return {field.name: getattr(context, field.name) for field in fields(context)}


def _template(name: str) -> jinja2.Template:
    return _environment().get_template(name)


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
    cast("dict[str, Any]", environment.globals).update(advance=advance, call=call)
    return environment

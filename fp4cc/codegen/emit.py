"""The kernel file: context and templates in, Python text out."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

from fp4cc.codegen.engines import template_folders, text_of
from fp4cc.codegen.names import Names, named
from fp4cc.codegen.wrap import call
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.marks import spelled_in


def emit(lowered: LoweredKernel) -> str:
    """The text of the kernel file. The same lowered kernel gives the same text."""
    if lowered.marked is None:
        return named((), lambda names: _text(lowered, names))
    plan, given = lowered.marked.plan, lowered.marked.names
    return named(given, lambda names: _text(spelled_in(plan, names.given), names))


def _text(lowered: LoweredKernel, names: Names) -> str:
    """The text with marks for names."""
    engine = text_of(lowered)
    context = engine.context(lowered, names)
    template = _environment(*template_folders()).get_template(engine.template)
    return template.render(context, call=call, function=names.new(lowered.name, "_kernel"))


@cache
def _environment(*folders: Path) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )

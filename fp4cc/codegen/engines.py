"""What an engine is to codegen: a template, and what it substitutes. Found by the engine's name."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fp4cc.codegen import context_elementwise, context_promoted, context_tcgen05
from fp4cc.codegen.context import waits
from fp4cc.codegen.converters import converter_functions
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.epilogue.text import emit_epilogue
from fp4cc.codegen.names import Names
from fp4cc.codegen.wgmma import context as context_wgmma
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.resources import templates_dir

Context = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EngineText:
    """The text half of an engine, or of one with promoted sums.

    `template` is found in `folder`, and what it includes there or in fp4cc's own templates. `context` makes the names
    that it substitutes.
    """

    template: str
    context: Callable[[LoweredKernel, Names], Context]
    folder: Path | None = None


def _elementwise(lowered: LoweredKernel, names: Names) -> Context:
    return context_elementwise.template_context(lowered, emit_epilogue(lowered, names))


def _tcgen05(lowered: LoweredKernel, names: Names) -> Context:
    functions, helpers = converter_functions(lowered)
    helpers |= set(waits(lowered.rings).values())
    return context_tcgen05.template_context(lowered, _with(functions, emit_epilogue(lowered, names, helpers)))


def _promoted(lowered: LoweredKernel, names: Names) -> Context:
    epilogue = emit_epilogue(lowered, names, context_promoted.HELPERS)
    return context_promoted.template_context(lowered, _with(context_promoted.scale_functions(lowered), epilogue))


def _wgmma(lowered: LoweredKernel, names: Names) -> Context:
    epilogue = emit_epilogue(lowered, names, context_wgmma.helpers(lowered))
    return context_wgmma.template_context(lowered, _with(context_wgmma.scale_functions(lowered), epilogue))


#: By the engine's name and whether sums are promoted. wgmma's template does both.
_TEXTS = {
    ("none", False): EngineText("common/elementwise.py.j2", _elementwise),
    ("tcgen05", False): EngineText("sm100/gemm.py.j2", _tcgen05),
    ("tcgen05", True): EngineText("sm100/promoted.py.j2", _promoted),
    ("wgmma", False): EngineText("sm90/gemm.py.j2", _wgmma),
    ("wgmma", True): EngineText("sm90/gemm.py.j2", _wgmma),
}


def text_of(lowered: LoweredKernel) -> EngineText:
    """The text half of a kernel's engine. LookupError where there is none."""
    name = "none" if lowered.engine is None else lowered.engine.name
    return _TEXTS[name, lowered.promotion is not None]


def template_folders() -> list[Path]:
    """Where templates are found."""
    return list(dict.fromkeys([templates_dir(), *(text.folder for text in _TEXTS.values() if text.folder)]))


@contextmanager
def also(name: str, text: EngineText, *, promoted: bool = False) -> Generator[None]:
    """The text half of one more engine for a while. ValueError where there is one."""
    if (name, promoted) in _TEXTS:
        raise ValueError(f"there is text of the engine {name}")
    _TEXTS[name, promoted] = text
    try:
        yield
    finally:
        del _TEXTS[name, promoted]


def _with(functions: list[str], epilogue: EpilogueText) -> EpilogueText:
    """The epilogue's text with more functions of the kernel's module."""
    return replace(epilogue, functions="\n\n\n".join([epilogue.functions.strip("\n"), *functions]))

"""What an engine is to codegen: a template, and what it substitutes. Found by the engine's name."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fp4cc.codegen import context_decode, context_elementwise, context_rows
from fp4cc.codegen.context import Frame
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.fragments import Function
from fp4cc.codegen.tcgen05 import context as context_tcgen05
from fp4cc.codegen.wgmma import context as context_wgmma
from fp4cc.codegen.wgmma_fp8 import context as context_wgmma_fp8
from fp4cc.codegen.wgmma_rs import context as context_wgmma_rs
from fp4cc.codegen.wgmma_rs.weights import scale_functions
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.resources import templates_dir


def _none(_lowered: LoweredKernel) -> Sequence[Function]:
    return ()


@dataclass(frozen=True, slots=True)
class EngineText:
    """The text half of an engine.

    `body` is the template of what a kernel does, found in `folder`, and what it includes there or in fp4cc's own
    templates. `context` makes what it substitutes: the frame and a dataclass of its own, whose fields are its names.
    `functions` is what it calls and the library lacks.
    """

    body: str
    context: Callable[[LoweredKernel, EpilogueText], tuple[Frame, object]]
    functions: Callable[[LoweredKernel], Sequence[Function]] = _none
    folder: Path | None = None


#: By the engine's name. Promoted sums are a part of a template that can do them.
_TEXTS = {
    "none": EngineText("common/elementwise.py.j2", context_elementwise.template_context),
    "rows": EngineText("sm90/rows.py.j2", context_rows.template_context, context_rows.functions),
    "tcgen05": EngineText("sm100/gemm.py.j2", context_tcgen05.template_context, context_tcgen05.functions),
    "decode": EngineText("sm90/decode.py.j2", context_decode.template_context, context_decode.strip_functions),
    "wgmma_rs": EngineText("sm90/wgmma_rs/gemm.py.j2", context_wgmma_rs.template_context, scale_functions),
    "wgmma_fp8": EngineText(
        "sm90/wgmma_fp8/gemm.py.j2", context_wgmma_fp8.template_context, context_wgmma_fp8.functions
    ),
    "wgmma": EngineText("sm90/gemm.py.j2", context_wgmma.template_context, context_wgmma.functions),
}


def text_of(lowered: LoweredKernel) -> EngineText:
    """The text half of a kernel's engine. LookupError where there is none."""
    return _TEXTS["none" if lowered.engine is None else lowered.engine.name]


def template_folders() -> list[Path]:
    """Where templates are found."""
    return list(dict.fromkeys([templates_dir(), *(text.folder for text in _TEXTS.values() if text.folder)]))


@contextmanager
def also(name: str, text: EngineText) -> Generator[None]:
    """The text half of one more engine for a while. ValueError where there is one."""
    if name in _TEXTS:
        raise ValueError(f"there is text of the engine {name}")
    _TEXTS[name] = text
    try:
        yield
    finally:
        del _TEXTS[name]

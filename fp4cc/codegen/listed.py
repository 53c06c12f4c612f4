"""A kernel over a list of problems, as text: the same kernel, whose parameters lie in global memory.

A CTA works on one problem. It reads from a table which that is, and which of the problem's CTAs it is; where the
parameters of the problem lie follows from it (`fp4rt.plan.record_layout`). Behind that nothing differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fp4cc.codegen.context import Frame, ParamText, param_text
from fp4cc.codegen.fragments import Call, Fragment, fragment
from fp4cc.ir.lowered import KernelParam, LoweredKernel
from fp4rt.plan import LIST_PARAMS, record_layout

#: What finds a parameter of a problem, by its kind.
_FOUND = {
    "tensor_map": "MapInList({})",
    "pointer": "pointer_in_list({})",
    "i32": "word_in_list({})",
    "i64": "long_in_list({})",
    "f32": "from_bits(word_in_list({}))",
}
_NAMES = ("list_records", "list_places")
_NOTES = ("the parameters of each problem", "for each CTA: its problem, its number there, and how many it has")


def listed(frame: Frame, lowered: LoweredKernel) -> Frame:
    """The frame of the kernel over a list."""
    return replace(frame, params=_params(), record=_record(lowered))


def _params() -> list[ParamText]:
    given = zip(_NAMES, LIST_PARAMS, _NOTES, strict=True)
    return [param_text(KernelParam(name, param, note)) for name, param, note in given]


def _record(lowered: LoweredKernel) -> Fragment:
    params = lowered.launch.params
    places, size = record_layout(p.param.kind for p in params)
    maps = [p.name for p in params if p.param.kind == "tensor_map"]
    arguments = (*_NAMES, "list_cta", str(size))
    return fragment(
        "list_cta, _, _ = cute.arch.block_idx()",
        Call("list_record, list_block, list_blocks = place_in_list", arguments),
        *_found(lowered, places),
        *(f"acquire_map({name})" for name in maps),
    )


def _found(lowered: LoweredKernel, places: list[int]) -> Iterator[str]:
    for p, place in zip(lowered.launch.params, places, strict=True):
        where = f"list_record + {place}" if place else "list_record"
        yield f"{p.name} = {_FOUND[p.param.kind].format(where)}"

"""Converter warps as text: what they fetch of a stage, and how they put it into shared memory."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.feeds.registry import FEED_TEXTS
from fp4cc.codegen.feeds.spec import FeedCalls, Stage
from fp4cc.codegen.fragments import Fragment, Function
from fp4cc.codegen.mainloops import products_in_words
from fp4cc.codegen.placing import first_used, part_text, place_text, steps_of
from fp4cc.ir.lowered import Conversion, LoweredKernel
from fp4cc.ir.lowered_converters import Converters


@dataclass(frozen=True, slots=True)
class ConverterLoop:
    """The converter warps' part of a mainloop. `what` says which one, where there are several."""

    what: str | None
    k_end: str
    conversions: list[FeedCalls]


@dataclass(frozen=True, slots=True)
class ConvertersText:
    """What the template of converter warps substitutes."""

    converters: Converters
    teams: str
    converter_loops: list[ConverterLoop]
    converter_arrive: str
    converter_place: Fragment
    converter_rows: set[str]


def converters_text(lowered: LoweredKernel) -> ConvertersText | None:
    """The converter warps; None where there are none."""
    converters = lowered.converters
    if converters is None:
        return None
    found = _conversions(lowered)
    part = part_text(lowered)
    batched = any(conversion.batched for conversion in found)
    return ConvertersText(
        converters=converters,
        teams="CONVERTERS" if converters.members == 1 else "TEAMS",
        converter_loops=_loops(lowered),
        converter_arrive=_arrive(lowered),
        converter_place=(*place_text(lowered, batch=batched or bool(part), others=first_used(lowered)), *part),
        converter_rows={conversion.part.role for conversion in found},
    )


def converter_functions(lowered: LoweredKernel) -> list[Function]:
    """The functions that the loops call."""
    return FEED_TEXTS.functions(_conversions(lowered), lowered)


def _loops(lowered: LoweredKernel) -> list[ConverterLoop]:
    """The converter warps' loops along K, in order."""
    return [
        ConverterLoop(
            products_in_words(lowered, mainloop),
            steps_of(lowered, i) if lowered.split is None else "k_end",
            [FEED_TEXTS.calls(conversion, Stage(lowered, mainloop)) for conversion in mainloop.conversions],
        )
        for i, mainloop in enumerate(lowered.mainloops)
    ]


def _conversions(lowered: LoweredKernel) -> list[Conversion]:
    """Those of all mainloops."""
    return [conversion for mainloop in lowered.mainloops for conversion in mainloop.conversions]


def _arrive(lowered: LoweredKernel) -> str:
    """The arrival of a warp that has written its share of a stage; that of a pair's at the leader's barrier.

    That one follows a release of shared memory, so it is relaxed itself.
    """
    barrier = "ab_full.subview(stage)"
    if lowered.tile.ctas == 1:
        return f"prims.mbarrier_arrive({barrier})"
    return f"prims.mbarrier_arrive(prims.mapa({barrier}, rank - rank % 2), relaxed=True)"

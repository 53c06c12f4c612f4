"""Converter warps as text: functions that fetch an operand's share of a stage and put it into shared memory."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.dequantize import dequantized_functions, dequantized_text
from fp4cc.codegen.fragments import Function
from fp4cc.codegen.mainloops import numbered, products_in_words
from fp4cc.codegen.relay import ConversionText, relaid_function, relaid_text
from fp4cc.codegen.scale_reading import ReaderText
from fp4cc.ir.lowered import LoweredKernel, Tcgen05
from fp4cc.ir.lowered_converters import Conversion, Relaid


@dataclass(frozen=True, slots=True)
class ConverterLoop:
    """The converter warps' part of a mainloop. `what` says which one, where there are several."""

    what: str | None
    k_tiles: str
    conversions: list[ConversionText]


def converter_loops(lowered: LoweredKernel) -> list[ConverterLoop]:
    """The converter warps' loops along K, in order."""
    members = _members(lowered)
    return [
        ConverterLoop(
            products_in_words(lowered, mainloop),
            f"k_tiles{numbered(i)}",
            [
                relaid_text(conversion, members, lowered.tile.n)
                if isinstance(conversion, Relaid)
                else dequantized_text(conversion, members, lowered.engine_as(Tcgen05).mma.cta_group, lowered.tile.n)
                for conversion in mainloop.conversions
            ],
        )
        for i, mainloop in enumerate(lowered.mainloops)
    ]


def converter_functions(lowered: LoweredKernel) -> list[Function]:
    """The functions that the loops call."""
    texts: list[Function] = []
    for conversion in conversions(lowered):
        if conversion.scales is not None:
            texts += ReaderText(conversion.name, conversion.scales).functions()
        if isinstance(conversion, Relaid):
            texts.append(relaid_function(conversion, _members(lowered)))
        else:
            texts += dequantized_functions(conversion, _members(lowered))
    return texts


def conversions(lowered: LoweredKernel) -> list[Conversion]:
    """Those of all mainloops."""
    return [conversion for mainloop in lowered.mainloops for conversion in mainloop.conversions]


def batched(conversion: Conversion) -> bool:
    """Whether what it reads depends on the batch."""
    if isinstance(conversion, Relaid):
        return conversion.scales.batched
    return conversion.all_rows is not None


def arrive(lowered: LoweredKernel) -> str:
    """The arrival of a warp that has written its share of a stage; that of a pair's at the leader's barrier.

    That one follows a release of shared memory, so it is relaxed itself.
    """
    barrier = "ab_full.subview(stage)"
    if lowered.engine_as(Tcgen05).mma.cta_group == 1:
        return f"prims.mbarrier_arrive({barrier})"
    return f"prims.mbarrier_arrive(prims.mapa({barrier}, rank - rank % 2), relaxed=True)"


def _members(lowered: LoweredKernel) -> int:
    return lowered.converters.members if lowered.converters else 1

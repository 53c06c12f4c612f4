"""Converter warps as text: functions that fetch an operand's share of a stage and put it into shared memory."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.mainloops import numbered, products_in_words
from fp4cc.codegen.scale_reading import ReaderText
from fp4cc.codegen.wrap import call
from fp4cc.ir.lowered import LoweredGemm
from fp4cc.ir.lowered_converters import Conversion, Relaid


@dataclass(frozen=True, slots=True)
class ConversionText:
    """What a warp does for an operand in a stage: `fetched` is the name of what it holds in between."""

    fetched: str
    fetch: str
    fetch_arguments: list[str]
    put: str
    put_arguments: list[str]


@dataclass(frozen=True, slots=True)
class ConverterLoop:
    """The converter warps' part of a mainloop. `what` says which one, where there are several."""

    what: str | None
    k_tiles: str
    conversions: list[ConversionText]


def converter_loops(lowered: LoweredGemm) -> list[ConverterLoop]:
    """The converter warps' loops along K, in order."""
    return [
        ConverterLoop(
            products_in_words(lowered, mainloop),
            f"k_tiles{numbered(i)}",
            [_text(lowered, conversion) for conversion in mainloop.conversions],
        )
        for i, mainloop in enumerate(lowered.mainloops)
    ]


def converter_functions(lowered: LoweredGemm) -> tuple[list[str], set[str]]:
    """The functions that the loops call, and the library's functions that these call."""
    texts: list[str] = []
    helpers: set[str] = set()
    for conversion in conversions(lowered):
        texts += [*ReaderText(conversion.name, conversion.scales).functions(), _fetch(lowered, conversion, helpers)]
    return texts, helpers


def converter_names(lowered: LoweredGemm) -> list[str]:
    """Names that the converter warps' text uses, and the epilogue's may not."""
    found = ["member"] if lowered.converters else []
    for conversion in conversions(lowered):
        name = conversion.name
        found += [f"fetch_{name}", f"fetched_{name}", *ReaderText(name, conversion.scales).names]
    return found


def conversions(lowered: LoweredGemm) -> list[Conversion]:
    """Those of all mainloops."""
    return [conversion for mainloop in lowered.mainloops for conversion in mainloop.conversions]


def arrive(lowered: LoweredGemm) -> str:
    """The arrival of a warp that has written its share of a stage; that of a pair's at the leader's barrier."""
    barrier = "ab_full.subview(stage)"
    if lowered.mma.cta_group == 1:
        return f"prims.mbarrier_arrive({barrier})"
    return f"prims.mbarrier_arrive(prims.mapa({barrier}, rank - rank % 2))"


def _members(lowered: LoweredGemm) -> int:
    return lowered.converters.members if lowered.converters else 1


def _text(lowered: LoweredGemm, relaid: Relaid) -> ConversionText:
    members = _members(lowered)
    reader = ReaderText(relaid.name, relaid.scales)
    first = "m0" if relaid.role == "A" else "n0"
    if relaid.role == "B" and lowered.tile.n % 128:
        first = "n0 // 128 * 128"
    if members > 1:
        first += f" + member * {128 // members}"
    place = f"shared_address({relaid.buffer}) + stage * {_stage_bytes(relaid.buffer)}"
    if members > 1:
        place += f" + member * {16 // members}"
    return ConversionText(
        fetched=f"fetched_{relaid.name}",
        fetch=f"fetch_{relaid.name}",
        fetch_arguments=[
            relaid.scales.param, first, "lane", f"k_tile * {relaid.per_row}", relaid.rows, *reader.arguments
        ],
        put="put_scale_atoms",
        put_arguments=[place, "lane", f"fetched_{relaid.name}", str(relaid.row_atoms)],
    )  # fmt: skip


def _stage_bytes(buffer: str) -> str:
    """The constant with the bytes of a buffer's slot."""
    return f"{buffer.removesuffix('_smem').rstrip('0123456789').upper()}_BYTES"


def _fetch(lowered: LoweredGemm, relaid: Relaid, helpers: set[str]) -> str:
    """The function that loads this lane's scales of a stage to registers."""
    members, reader, scales = _members(lowered), ReaderText(relaid.name, relaid.scales), relaid.scales
    helpers |= {"gather_scales", "put_scale_atoms", "global_address", "shared_address", "where_int"}
    count, rows = relaid.per_row, 128 * relaid.row_atoms
    steps = f"range(0, {rows}, 32)"
    if members > 1:
        steps = f"({', '.join(str(i) for i in range(0, rows, 32) if i % 128 < 128 // members)},)"
    which = f"Scales k to k + {count - 1} of this lane's rows of {relaid.arg}, as words of four; 0 past the ends."
    gather = call(8, "words = gather_scales", [
        f"[start + {reader.block_offset('k + i')} for i in range(0, {count}, {scales.width})]", str(scales.width),
        "left",
    ])  # fmt: skip
    body = [
        "fetched = []",
        f"for first in {steps}:",
        "    row = first_row + first + lane",
        f"    left = where_int(row < {relaid.rows}, {scales.blocks} - k, 0)",
        f"    start = global_address(scales_ptr, {reader.row_offset('row')}, 1)",
        f"    {gather}",
    ]
    words = "words"
    if scales.partial:
        helpers.add("first_bytes")
        words = "[first_bytes(word, left - 4 * i) for i, word in enumerate(words)]"
    body += [f"    fetched.append({words})", "return fetched"]
    arguments = ", ".join(["scales_ptr", "first_row", "lane", "k", relaid.rows, *reader.arguments])
    return "\n".join(
        [f"def fetch_{relaid.name}({arguments}):", f'    """{which}"""', *(f"    {line}" for line in body)]
    )

"""Scales that converter warps lay out anew, as text."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.fragments import Block, Call, Function, fragment
from fp4cc.codegen.parts import bytes_name
from fp4cc.codegen.scale_reading import ReaderText
from fp4cc.ir.lowered_converters import Relaid
from fp4cc.ir.part import Part


@dataclass(frozen=True, slots=True)
class ConversionText:
    """What a warp does for an operand in a stage: `fetched` is the name of what it holds in between."""

    fetched: str
    fetch: str
    fetch_arguments: list[str]
    put: str
    put_arguments: list[str]


def slot(part: Part) -> str:
    """The address of a part in the stage at hand."""
    return f"shared_address({part.buffer}) + stage * {bytes_name(part)}"


def relaid_text(relaid: Relaid, members: int, tile_n: int) -> ConversionText:
    """The calls for a stage. Of a team's `members` each has as many of an atom's four rows of every lane."""
    reader = ReaderText(relaid.name, relaid.scales)
    first, place = "m0", slot(relaid.part)
    if relaid.role == "B":
        # Of tiles that start in the middle of an atom all of it is laid out; of narrower ones each from its first row.
        first = "n0 // 128 * 128" if tile_n % 128 and tile_n % 64 == 0 else "n0"
    if members > 1:
        first += f" + member * {128 // members}"
        place += f" + member * {16 // members}"
    arguments = [relaid.scales.param, first, "lane", f"k_tile * {relaid.per_row}", relaid.rows, *reader.arguments]
    return ConversionText(
        fetched=f"fetched_{relaid.name}",
        fetch=f"fetch_{relaid.name}",
        fetch_arguments=arguments,
        put="put_scale_atoms",
        put_arguments=[place, "lane", f"fetched_{relaid.name}", str(relaid.row_atoms)],
    )


def relaid_function(relaid: Relaid, members: int) -> Function:
    """The function that loads this lane's scales of a stage to registers."""
    reader, scales = ReaderText(relaid.name, relaid.scales), relaid.scales
    count, rows = relaid.per_row, 128 * relaid.row_atoms
    steps = f"range(0, {rows}, 32)"
    if members > 1:
        steps = str([i for i in range(0, rows, 32) if i % 128 < 128 // members])
    places = f"[start + {reader.block_offset('k + i')} for i in range(0, {count}, {scales.width})]"
    words = "words"
    if scales.partial:
        words = "[first_bytes(word, left - 4 * i) for i, word in enumerate(words)]"
    each = fragment(
        "row = first_row + further + lane",
        f"left = where_int(row < {relaid.rows}, {scales.blocks} - k, 0)",
        f"start = global_address(scales_ptr, {reader.row_offset('row')}, 1)",
        Call("words = gather_scales", (places, str(scales.width), "left")),
        f"fetched.append({words})",
    )
    body = fragment("fetched = []", Block(f"for further in {steps}:", each), "return fetched")
    what = f"Scales k to k + {count - 1} of this lane's rows of {relaid.arg}, as words of four; 0 past the ends."
    arguments = ["scales_ptr", "first_row", "lane", "k", relaid.rows, *reader.arguments]
    return Function(f"fetch_{relaid.name}", tuple(dict.fromkeys(arguments)), what, body)

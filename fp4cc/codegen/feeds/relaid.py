"""Scales that converter warps lay out anew, as text."""

from __future__ import annotations

from fp4cc.codegen.feeds.spec import CallText, FeedCalls, FeedText, Stage, members, place_in_stage
from fp4cc.codegen.fragments import Block, Call, Function, fragment
from fp4cc.codegen.scale_layout import divided
from fp4cc.codegen.scale_reading import ReaderText
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.lowered_converters import Relaid


def _calls(relaid: Relaid, stage: Stage) -> FeedCalls:
    """Of a team's members each has as many of an atom's four rows of every lane."""
    reader, of_team = ReaderText(relaid.name, relaid.scales), stage.members
    first, place = "m0", place_in_stage(relaid.part)
    if relaid.role == "B":
        # Of tiles that start in the middle of an atom all of it is laid out; of narrower ones each from its first row.
        first = "n0 // 128 * 128" if stage.lowered.tile.n % 128 == 64 else "n0"
    if of_team > 1:
        first += f" + member * {128 // of_team}"
        place += f" + member * {16 // of_team}"
    step, operand = f"k_tile * {relaid.per_row}", stage.mainloop.operand(relaid.part)
    ends: list[str] = []
    if operand.divided:
        block = operand.format.stored[1]
        assert isinstance(block, int)
        step = f"({divided('k_first', block)}) + {step}"
        ends = [divided("(k_first + k_count)", block)]
    arguments = [relaid.scales.param, first, "lane", step, relaid.rows, *ends, *reader.arguments]
    fetched = f"fetched_{relaid.name}"
    return FeedCalls(
        before=(CallText(f"{fetched} = fetch_{relaid.name}", tuple(arguments)),),
        after=(CallText("put_scale_atoms", (place, "lane", fetched, str(relaid.row_atoms))),),
    )


def _functions(relaid: Relaid, lowered: LoweredKernel) -> list[Function]:
    in_groups = lowered.products.contracted is not None
    return [*ReaderText(relaid.name, relaid.scales).functions(), _fetch(relaid, members(lowered), in_groups=in_groups)]


def _fetch(relaid: Relaid, of_team: int, *, in_groups: bool) -> Function:
    """The function that loads this lane's scales of a stage to registers."""
    reader, scales = ReaderText(relaid.name, relaid.scales), relaid.scales
    count, rows = relaid.per_row, 128 * relaid.row_atoms
    steps = f"range(0, {rows}, 32)"
    if of_team > 1:
        steps = str([i for i in range(0, rows, 32) if i % 128 < 128 // of_team])
    places = f"[start + {reader.block_offset('k + i')} for i in range(0, {count}, {scales.width})]"
    words = "words"
    if scales.partial:
        words = "[first_bytes(word, left - 4 * i) for i, word in enumerate(words)]"
    each = fragment(
        "row = first_row + further + lane",
        f"left = where_int(row < {relaid.rows}, {'end' if in_groups else scales.blocks} - k, 0)",
        f"start = global_address(scales_ptr, {reader.row_offset('row')}, 1)",
        Call("words = gather_scales", (places, str(scales.width), "left")),
        f"fetched.append({words})",
    )
    body = fragment("fetched = []", Block(f"for further in {steps}:", each), "return fetched")
    what = f"Scales k to k + {count - 1} of this lane's rows of {relaid.arg}, as words of four; 0 past the ends."
    end = ["end"] if in_groups else []  # of the group's blocks
    arguments = ["scales_ptr", "first_row", "lane", "k", relaid.rows, *end, *reader.arguments]
    return Function(f"fetch_{relaid.name}", tuple(dict.fromkeys(arguments)), what, body)


RELAID = FeedText("relaid", _calls, _functions)

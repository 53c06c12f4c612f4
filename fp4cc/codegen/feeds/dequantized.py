"""Operands that converter warps dequantize to 16-bit elements, as text."""

from __future__ import annotations

from fp4cc.codegen.feeds.spec import CallText, FeedCalls, FeedText, Stage, members, place_in_stage
from fp4cc.codegen.fragments import Block, Call, Function, fragment
from fp4cc.codegen.scale_layout import divided
from fp4cc.codegen.scale_reading import ReaderText, names_of, row_lines, whole_row
from fp4cc.codegen.strides import packed_bytes
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.lowered_converters import RUN, Dequantized


def _calls(operand: Dequantized, stage: Stage) -> FeedCalls:
    """The members of a team take runs of rows in turn."""
    lanes, tile = operand.lanes, stage.lowered.tile
    row, part = f"lane // {lanes}", f"lane % {lanes}"
    if stage.members > 1:
        row = f"member * {operand.rows_at_once} + {row}"
    first = f"m0 + {row}"
    if operand.role == "B":
        half = f" + cta_m % 2 * {tile.n // 2}" if tile.ctas == 2 else ""
        first = f"n0{half} + {row}"
    fetched = f"fetched_{operand.name}"
    column = f"k_tile * 64 + {part} * {operand.unit}"
    arguments = (operand.codes, *_scales_param(operand), first, column, *_sizes(operand))
    return FeedCalls(
        before=(CallText(f"{fetched} = fetch_{operand.name}", arguments),),
        after=(CallText(f"put_{operand.name}", (place_in_stage(operand.part), row, part, fetched)),),
    )


def _functions(operand: Dequantized, lowered: LoweredKernel) -> list[Function]:
    """The functions that fetch and put, and those that find scales."""
    of_team = members(lowered)
    reading = [] if operand.scales is None else ReaderText(operand.name, operand.scales).functions()
    return [*reading, _fetch(operand, of_team), _put(operand, of_team)]


def _fetch(operand: Dequantized, of_team: int) -> Function:
    """The function that loads this lane's codes and scales of a stage to registers."""
    row = whole_row(operand.rows_of, "row")
    number = f"Int64({row})" if operand.all_rows is None else f"(Int64(batch) * {operand.all_rows} + {row})"
    offset = packed_bytes("k", operand.bits)
    where = f"{number} * {operand.pitch} + {offset if offset.isidentifier() else f'({offset})'}"
    inside, valid = list[str](), f"row < {operand.rows}"
    if operand.rows_of.numbers is not None:
        inside, valid = row_lines(operand.rows_of, valid), "inside"
    each = fragment(
        "row = first_row + further",
        *inside,
        f"valid = both({valid}, k < {operand.depth})",
        f"words = load_words(global_address(codes_ptr, {where}, 1), {operand.unit_words}, valid)",
    )
    what, found = f"{operand.unit} codes from k on of this lane's rows of {operand.arg}", "words"
    if operand.scales is not None:
        what, found = f"{what}, and their scales", "(words, scales)"
        reader, count, width = ReaderText(operand.name, operand.scales), operand.unit_scales, operand.scales.width
        block = divided("k", operand.block) if operand.block else "0"
        places = f"[start + {reader.block_offset(block)}]"
        if count > width:
            places = f"[start + {reader.block_offset(f'({block}) + i')} for i in range(0, {count}, {width})]"
        each = fragment(
            each,
            f"start = global_address(scales_ptr, {reader.row_offset('row')}, 1)",
            Call("(scales,) = gather_scales", (places, str(width), f"where_int(valid, {count}, 0)")),
        )
    steps = f"range(0, {operand.stage_rows}, {operand.rows_at_once * of_team})"
    each = fragment(each, f"fetched.append({found})")
    body = fragment("fetched = []", Block(f"for further in {steps}:", each), "return fetched")
    pointers = ["codes_ptr", *(["scales_ptr"] if operand.scales is not None else [])]
    arguments = dict.fromkeys([*pointers, "first_row", "k", *_sizes(operand)])
    return Function(f"fetch_{operand.name}", tuple(arguments), f"{what}; 0 past the ends.", body)


def _put(operand: Dequantized, of_team: int) -> Function:
    """The function that dequantizes what was fetched into a stage's rows."""
    pairs, run = f"pairs_of_{operand.element}", f"pairs[{RUN // 2} * j : {RUN // 2} * j + 4]"
    each: list[str | Block] = []
    chunk: list[str | Call] = []
    if operand.scales is not None:
        # Only bf16 holds e8m0 scales.
        wide = f', "{operand.to}"' if operand.scales.scale == "e4m3" else ""
        each.append(f"scale = scales_of_{operand.scales.scale}(scales{wide})")
        which = divided("j", operand.block // RUN) if operand.unit_scales > 1 else "0"
        chunk.append(f'run = [scaled(pair, scale[{which}], "{operand.to}") for pair in {run}]')
        run = "run"
    place = f"(row & 7 ^ part * {operand.unit // RUN} + j) << 4"
    place = f"rows + (row + {operand.rows_at_once * of_team} * i) * 128 + ({place})"
    chunk.append(Call("shared_store_4_words", (place, run)))
    each.append(f'pairs = {pairs}(words, "{operand.to}")')
    chunks = f"for j in range({operand.unit // RUN}):  # {RUN} elements are a chunk of 16 bytes"
    each.append(Block(chunks, fragment(*chunk)))
    fetched = "words" if operand.scales is None else "(words, scales)"
    body = fragment(Block(f"for i, {fetched} in enumerate(fetched):", fragment(*each)))
    doc = f"What was fetched, as {operand.to}, to a stage's rows of 128 bytes in the 128-byte swizzle."
    return Function(f"put_{operand.name}", ("rows", "row", "part", "fetched"), doc, body)


def _scales_param(operand: Dequantized) -> list[str]:
    return [operand.scales.param] if operand.scales is not None else []


def _sizes(operand: Dequantized) -> list[str]:
    """The sizes that `fetch` takes, by their names in the kernel."""
    batch = ["batch"] if operand.all_rows is not None else []
    wanted = (*names_of(operand.rows_of), operand.all_rows, operand.pitch, operand.rows, operand.depth)
    own = [name for name in wanted if name is not None]
    read = ReaderText(operand.name, operand.scales).arguments if operand.scales is not None else []
    return list(dict.fromkeys([*batch, *own, *read]))


DEQUANTIZED = FeedText("dequantized", _calls, _functions)

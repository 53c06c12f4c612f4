"""Operands of 4 or 6 bits that converter warps unpack for a kind with elements of 8, as text."""

from __future__ import annotations

from fp4cc.codegen.feeds.spec import CallText, FeedCalls, FeedText, Stage, members, place_in_stage
from fp4cc.codegen.fragments import Block, Call, Function, fragment
from fp4cc.codegen.scale_reading import whole_row
from fp4cc.codegen.strides import packed_bytes
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.lowered_converters import Unpacked

#: Elements in 16 bytes of a stage's row.
_CHUNK = 16


def _calls(operand: Unpacked, stage: Stage) -> FeedCalls:
    """The members of a team take runs of rows in turn."""
    lanes, tile = operand.lanes, stage.lowered.tile
    row, part = f"lane // {lanes}", f"lane % {lanes}"
    if stage.members > 1:
        row = f"member * {operand.rows_at_once} + {row}"
    first = f"m0 + {row}"
    if operand.role == "B":
        half = f" + cta_m % 2 * {tile.n // 2}" if tile.ctas == 2 else ""
        first = f"n0{half} + {row}"
    fetched, end = f"fetched_{operand.name}", operand.depth
    column = f"k_tile * {stage.mainloop.tile_k} + {part} * {operand.unit}"
    if stage.mainloop.operand(operand.part).divided:
        column, end = f"k_first + {column}", "k_first + k_count"
    arguments = (operand.codes, first, column, end, *_sizes(operand))
    return FeedCalls(
        before=(CallText(f"{fetched} = fetch_{operand.name}", arguments),),
        after=(CallText(f"put_{operand.name}", (place_in_stage(operand.part), row, part, fetched)),),
    )


def _functions(operand: Unpacked, lowered: LoweredKernel) -> list[Function]:
    of_team = members(lowered)
    return [_fetch(operand, of_team), _put(operand, of_team)]


def _fetch(operand: Unpacked, of_team: int) -> Function:
    """The function that loads this lane's codes of a stage to registers."""
    row = whole_row(operand.rows_of, "row")
    number = f"Int64({row})" if operand.all_rows is None else f"(Int64(batch) * {operand.all_rows} + {row})"
    offset = packed_bytes("k", operand.bits)
    where = f"{number} * {operand.pitch} + {offset if offset.isidentifier() else f'({offset})'}"
    each = fragment(
        "row = first_row + further",
        f"valid = both(row < {operand.rows}, k < end)",
        Call("fetched.append", (f"load_words(global_address(codes_ptr, {where}, 1), {operand.unit_words}, valid)",)),
    )
    steps = f"range(0, {operand.stage_rows}, {operand.rows_at_once * of_team})"
    body = fragment("fetched = []", Block(f"for further in {steps}:", each), "return fetched")
    arguments = tuple(dict.fromkeys(["codes_ptr", "first_row", "k", "end", *_sizes(operand)]))
    doc = f"{operand.unit} codes from k on of this lane's rows of {operand.arg}; 0 past the ends."
    return Function(f"fetch_{operand.name}", arguments, doc, body)


def _put(operand: Unpacked, of_team: int) -> Function:
    """The function that writes what was fetched into a stage's rows: 16 elements, then padding, in each 16 bytes."""
    words, chunks = operand.bits * _CHUNK // 32, operand.unit // _CHUNK
    address = f"rows + at * 128 + ((at & 7 ^ part * {chunks} + j) << 4)"
    own = ", ".join(f"words[{words} * j + {w}]" for w in range(words))
    store = Call("shared_store_4_words", (address, f"[{own}{', zero' * (4 - words)}]"))
    body = fragment(
        "zero = Int32(0)",
        Block(
            "for i, words in enumerate(fetched):",
            fragment(f"at = row + {operand.rows_at_once * of_team} * i", Block(f"for j in range({chunks}):", (store,))),
        ),
    )
    doc = f"What was fetched to a stage's rows of 128 {operand.element} in the 128-byte swizzle, 16 in each 16 bytes."
    return Function(f"put_{operand.name}", ("rows", "row", "part", "fetched"), doc, body)


def _sizes(operand: Unpacked) -> list[str]:
    """The sizes that `fetch` takes, by their names in the kernel."""
    batch = ["batch"] if operand.all_rows is not None else []
    wanted = (operand.rows_of.first, operand.all_rows, operand.pitch, operand.rows)
    return [*batch, *(name for name in wanted if name is not None)]


UNPACKED = FeedText("unpacked", _calls, _functions)

"""Operands that the multiplying threads convert, a row of a stage each, as text."""

from __future__ import annotations

from typing import cast

from fp4cc.codegen.feeds.spec import CallText, FeedCalls, FeedText, Stage
from fp4cc.codegen.fragments import Block, Function, Line, fragment
from fp4cc.codegen.halves import whole_index
from fp4cc.codegen.mainloops import numbered
from fp4cc.codegen.promoted_scales import first_of_b
from fp4cc.codegen.scale_layout import divided
from fp4cc.codegen.scale_reading import ReaderText
from fp4cc.codegen.wgmma.places import THREADS, bytes_name, slot
from fp4cc.ir.lowered import TILE_K, Converted, LoweredKernel, Scales

# What threads do.


def _calls(feed: Converted, stage: Stage) -> FeedCalls:
    """The conversion of this thread's row of an operand; the Bs of a loop share a slot, and so the threads."""
    lowered, part = stage.lowered, feed.part
    alone = feed.rows == THREADS
    row = "thread" if alone else f"thread % {feed.rows}"
    arguments = [f"shared_address({part.buffer}) + stage * {bytes_name(part)} + {row} * {feed.row_bytes}"]
    ahead: list[CallText] = []
    after: list[CallText] = []
    registers: tuple[tuple[str, int], ...] = ()
    if feed.scales is not None:
        reader = _reader(lowered, feed)
        if reader is None:
            arguments.append(_of_atom(lowered, feed, feed.scales, row))
        else:
            first = "m0" if part.role == "A" else first_of_b(lowered)
            registers = ((_ahead_name(feed), feed.scales.per_step),)
            ahead.append(
                _read_ahead(feed, feed.scales, reader, f"{first} + {row}", "0" if lowered.split is None else "k_first")
            )
            after.append(CallText("scales = bytes_of", (_ahead_name(feed), str(feed.scales.per_step))))
            after.append(_read_ahead(feed, feed.scales, reader, f"{first} + {row}", "k_tile + 1"))
            arguments.append("scales")
    arguments += [f"shared_address(operands) + {slot(lowered, part)}", "thread"]
    if feed.operand.divided:
        arguments.append(f"k_count - k_tile * {TILE_K}")
    after.append(CallText(_function_name(feed), tuple(arguments)))
    warps = feed.rows // 32
    only_if = None
    if not alone:
        only_if = f"warp == {part.place}" if warps == 1 else f"warp // {warps} == {part.place}"
    return FeedCalls(tuple(ahead), after=tuple(after), only_if=only_if, registers=registers)


def _of_atom(lowered: LoweredKernel, feed: Converted, scales: Scales, row: str) -> str:
    """The scales of a row and a step in an atom, a byte each, as text."""
    atom = f"shared_address({feed.part.of_scales.buffer}) + stage * ATOM_BYTES"
    in_atom = row
    if feed.rows != THREADS:
        first = whole_index(feed.operand.half, first_of_b(lowered), "n_size", feed.rows)
        in_atom = f"{first if first.isidentifier() else f'({first})'} % 128 + {row}"
    first = "0" if scales.steps_per_atom == 1 else f"k_tile % {scales.steps_per_atom} * {scales.per_step}"
    return f"atom_scales({atom}, {in_atom}, {first}, {scales.per_step})"


def _read_ahead(feed: Converted, scales: Scales, reader: ReaderText, row: str, step: str) -> CallText:
    """The call that has a row's scales of a step loaded."""
    arguments = [_ahead_name(feed), reader.reader.param, row, step, str(scales.rows)]
    if feed.operand.divided:
        arguments += ["k_first", "k_count"]
    arguments += reader.arguments
    return CallText(_ahead_function_name(reader), tuple(arguments))


def _reader(lowered: LoweredKernel, feed: Converted) -> ReaderText | None:
    """How threads read an operand's scales, where they do. Readers of one argument that differ are numbered."""
    if feed.scales is None or feed.scales.reader is None:
        return None
    arg = feed.operand.arg
    feeds = (other for mainloop in lowered.mainloops for other in mainloop.slotted if other.kind == feed.kind)
    others = [other.scales for other in (cast("Converted", each) for each in feeds) if other.operand.arg == arg]
    distinct = list(dict.fromkeys(others))
    return ReaderText(f"{arg}{numbered(distinct.index(feed.scales))}", feed.scales.reader)


def _ahead_function_name(reader: ReaderText) -> str:
    """The function that has an operand's scales of a step loaded."""
    return f"{reader.name}_scales_ahead"


def _ahead_name(feed: Converted) -> str:
    """The registers for scales on their way: by the role, because each thread converts one row of it."""
    return f"{feed.part.role.lower()}_scale_bytes"


def _function_name(feed: Converted) -> str:
    """The function that converts a row of an operand."""
    return f"{feed.operand.name}_to_{feed.to}"


# The functions that they call.


def _functions(feed: Converted, lowered: LoweredKernel) -> list[Function]:
    """Where a scale lies and the loads, where threads read scales; and the conversion of a row."""
    reader = _reader(lowered, feed)
    if feed.scales is None or reader is None:
        return [_row_function(feed)]
    ahead = _ahead_function(feed, feed.scales, reader)
    return [*reader.functions(), ahead, _row_function(feed)]


def _ahead_function(feed: Converted, scales: Scales, reader: ReaderText) -> Function:
    """The function that has scales of a row and a step loaded."""
    end, in_groups = reader.reader.blocks, feed.operand.divided
    if in_groups:
        end = divided("(k_first + k_count)", scales.block)
        k = f"{divided(f'(k_first + {TILE_K} * step)', scales.block)}{' + i' * (scales.per_step > 1)}"
        k = f"({k.removesuffix(' + i')}) + i" if k.endswith(" + i") else k
    elif scales.per_step > 1:
        k = f"{scales.per_step} * step + i"
    else:
        k = divided("step", scales.block // TILE_K) if scales.block else "0"
    part = ["k_first", "k_count"] if in_groups else []
    head = ["found", "scales_ptr", "row", "step", str(scales.rows), *part, *reader.arguments]
    doc = f"Have {feed.operand.arg}'s scales of a row and a step loaded into `found`, a byte each; 0 past the edges."
    each = fragment(
        f"k = {k}",
        f"address = start + {reader.block_offset('k')}",
        f"found[i] = load_b8(address, both(row < {scales.rows}, k < {end}))",
    )
    start = f"start = global_address(scales_ptr, {reader.row_offset('row')}, 1)"
    body = fragment(start, Block(f"for i in range({scales.per_step}):", each))
    return Function(_ahead_function_name(reader), tuple(head), doc, body)


def _row_function(feed: Converted) -> Function:
    """The function that converts a row: whole words of codes at a time, 8 elements of which are a chunk of 16 bytes."""
    scales, operand, wide = feed.scales, feed.operand, feed.to
    loads = feed.row_bytes // 16
    # 16 bytes are no whole number of 6-bit codes.
    groups = 1 if operand.bits == 6 else loads
    chunks = TILE_K // 8 // groups
    words = "shared_load_4_words(codes + 16 * i)"
    if groups == 1:
        words = f"[word for part in range({loads}) for word in shared_load_4_words(codes + 16 * part)]"
    pairs = f'pairs = pairs_of_{operand.element}({words}, "{wide}")'
    note = "  # 8 elements are a chunk of 16 bytes"
    if groups > 1:
        store = fragment(f"chunk = {chunks} * i + j", *_store(feed, "j"))
        by_chunk = Block(f"for j in range({chunks}):{note}", store)
        convert = fragment(Block(f"for i in range({groups}):", fragment(pairs, by_chunk)))
    else:
        convert = fragment(pairs, Block(f"for chunk in range({chunks}):{note}", fragment(*_store(feed, "chunk"))))
    what, head, scale = operand.element, ["codes", "slot", "row"], []
    if scales is not None:
        what += f" with {scales.type} scales per {scales.block or 'row'}"
        head.insert(1, "scales")
        made = f'scales_of_e4m3(scales, "{wide}")' if scales.type == "e4m3" else "scales_of_e8m0(scales)"
        scale = [f"scale = {made}"]
    doc = f"A row of {TILE_K} elements ({what}) as {wide}, in the swizzle that wgmma reads."
    if operand.divided:
        head.append("left")
        doc += " From `left` on, 0."
    return Function(_function_name(feed), tuple(head), doc, fragment(*scale, *convert))


def _store(feed: Converted, place: str) -> list[Line]:
    """Chunk number `place` of the pairs at hand, scaled, to the row's chunk in the slot."""
    scales, wide = feed.scales, feed.to
    chunk = f"pairs[4 * {place} : 4 * {place} + 4]"
    if scales is not None:
        which = f"8 * chunk // {scales.block}" if scales.per_step > 1 else "0"
        chunk = f'[scaled(pair, scale[{which}], "{wide}") for pair in {chunk}]'
    zeros: list[Line] = []
    if feed.operand.divided:  # what follows is the next group's: zeros stand in for it
        zeros = [Line("chunk_pairs = [where_int(8 * chunk < left, pair, 0) for pair in chunk_pairs]")]
    return [
        Line(f"chunk_pairs = {chunk}"),
        *zeros,
        Line("shared_store_4_words(slot + row * 128 + ((row & 7 ^ chunk) << 4), chunk_pairs)"),
    ]


CONVERTED = FeedText("converted", _calls, _functions)

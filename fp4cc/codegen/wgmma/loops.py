"""The mainloops of Hopper's GEMM as text: the loads of a stage, the conversions of its rows, and the instructions."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.halves import whole_index
from fp4cc.codegen.mainloops import numbered
from fp4cc.codegen.multicast import mask_text
from fp4cc.codegen.scale_reading import ReaderText
from fp4cc.ir.lowered import CONSUMERS, TILE_K, Load, LoweredKernel, Mainloop, Scales, Side, Wgmma, WgmmaLoop
from fp4cc.ir.part import Part

THREADS = 32 * CONSUMERS  # that convert: one for each row of a slot


@dataclass(frozen=True, slots=True)
class CallText:
    """A call as text; `call` may assign its result."""

    call: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConversionText:
    """What threads do for an operand: `ahead` before the first step, `calls` in each.

    `only_if`: the condition on the warp where only some convert its rows.
    """

    only_if: str | None
    ahead: CallText | None
    calls: list[CallText]


@dataclass(frozen=True, slots=True)
class ProductText:
    """One instruction of a step: where it finds B, and the first of the registers it adds to."""

    b_part: str
    first: str


@dataclass(frozen=True, slots=True)
class LoopText:
    """A mainloop. `what` says which one, where there are several; `read` what a finished product has read."""

    what: str | None
    k_tiles: str
    stages: str  # of all of K
    tx_bytes: str
    wide: str
    converts: bool
    direct: bool
    read: str
    loads: list[CallText]
    conversions: list[ConversionText]
    a_part: str
    products: list[ProductText]


def loops(lowered: LoweredKernel) -> list[LoopText]:
    """The mainloops in order."""
    pairs = zip(lowered.mainloops, lowered.engine_as(Wgmma).loops, strict=True)
    return [_loop(lowered, mainloop, loop, number) for number, (mainloop, loop) in enumerate(pairs)]


def bytes_name(part: Part) -> str:
    """The constant with the bytes of a part in a stage. Bs may differ in size; atoms of scales do not."""
    return "ATOM_BYTES" if part.scales else f"{part.name.upper()}_BYTES"


def descriptor(part: Part) -> str:
    """The name of the wgmma descriptor of a part in the first stage."""
    return f"{part.name}_desc"


def function_name(side: Side) -> str:
    """The function that converts a row of an operand."""
    return f"{side.operand.name}_to_{side.wide}"


def _loop(lowered: LoweredKernel, mainloop: Mainloop, loop: WgmmaLoop, number: int) -> LoopText:
    several = len(lowered.products.products) > 1
    names = " and ".join(product.b.title for product in mainloop.products)
    read = [
        *(["its stage"] if loop.direct else []),
        *(["the slot that is written next"] if loop.converts else []),
    ]
    return LoopText(
        what=f"{loop.a.operand.arg} times {names}" if several else None,
        k_tiles=f"k_tiles{numbered(number)}",
        stages=f"{f'{mainloop.tile_k // TILE_K} * ' if mainloop.tile_k > TILE_K else ''}k_tiles{numbered(number)}",
        tx_bytes=f"STAGE_TX_BYTES{numbered(number)}",
        wide=loop.wide,
        converts=loop.converts,
        direct=loop.direct,
        read=" and ".join(read),
        loads=[_load(lowered, loop, load) for load in mainloop.loads],
        conversions=[_conversion(lowered, side, i) for i, side in enumerate(loop.sides) if side.converted],
        a_part=_part(lowered, loop.a, 0, "half * 64 * 128 + "),
        products=[
            ProductText(_part(lowered, b, place, _half_of_b(lowered)), _first(lowered, product.slot))
            for place, (b, product) in enumerate(zip(loop.bs, mainloop.products, strict=True))
        ],
    )


# Loads.


def _load(lowered: LoweredKernel, loop: WgmmaLoop, load: Load) -> CallText:
    """The call that issues a load for one stage."""
    side = loop.a if load.part.role == "A" else loop.bs[load.part.place]
    share = load.slices > 1
    offset = f"stage * {bytes_name(load.part)}" + (f" + cta_m * {load.slice_bytes}" if share else "")
    row = "m0" if side.operand.role == "A" else whole_index(side.operand.half, "n0", "n_size", side.rows)
    batch = ", batch" if side.operand.batched else ""
    if load.part.scales and side.loaded_scales is not None:
        first = f"cta_m * {256 // load.slices}" if share else "0"
        coordinates = f"{first}, {row if row.isidentifier() else f'({row})'} // 128, {_atom(side.loaded_scales)}{batch}"
    else:
        unit = side.row_bytes if side.converted else TILE_K
        rows = f" + cta_m * {side.rows // load.slices}" if share else ""
        coordinates = f"k_tile * {unit}, {row}{rows}{batch}"
    arguments = [f"{load.buffer}.subview({offset})", f"{load.tensor_map}.get_ptr()", f"({coordinates})", "full"]
    if not share:
        return CallText("prims.cp_async_bulk_tensor_shared_cta_global", tuple(arguments))
    arguments += ["[]", f"multicast_mask={mask_text(load.masks, lowered.cluster, '')}"]
    return CallText("prims.cp_async_bulk_tensor_shared_cluster_global", tuple(arguments))


def _atom(scales: Scales) -> str:
    """The atom of a step along K."""
    return "k_tile" if scales.steps_per_atom == 1 else f"k_tile // {scales.steps_per_atom}"


# Conversions.


def _conversion(lowered: LoweredKernel, side: Side, place: int) -> ConversionText:
    """The conversion of this thread's row of an operand; the Bs of a loop share a slot, and so the threads."""
    alone = side.rows == THREADS
    row = "thread" if alone else f"thread % {side.rows}"
    arguments = [f"shared_address({side.buffer}) + stage * {bytes_name(side.part)} + {row} * {side.row_bytes}"]
    calls: list[CallText] = []
    ahead = None
    if side.scales is not None:
        reader = scale_reader(lowered, side)
        if reader is None:
            arguments.append(_of_atom(lowered, side, side.scales, row))
        else:
            first = "m0" if side.operand.role == "A" else first_of_b(lowered)
            ahead = _read_ahead(side, side.scales, reader, f"{first} + {row}", "0")
            calls.append(CallText("scales = bytes_of", (ahead_name(side), str(side.scales.per_step))))
            calls.append(_read_ahead(side, side.scales, reader, f"{first} + {row}", "k_tile + 1"))
            arguments.append("scales")
    arguments += [f"shared_address(operands) + {_slot(lowered, side)}", "thread"]
    calls.append(CallText(function_name(side), tuple(arguments)))
    warps = side.rows // 32
    only_if = None if alone else f"warp == {place - 1}" if warps == 1 else f"warp // {warps} == {place - 1}"
    return ConversionText(only_if, ahead, calls)


def first_of_b(lowered: LoweredKernel) -> str:
    """A tile's first column of the product; the epilogue counts those of a half where halves are interleaved."""
    return "n0" if lowered.epilogue.group is None else "tile_n * TILE_N"


def scale_reader(lowered: LoweredKernel, side: Side) -> ReaderText | None:
    """How threads read an operand's scales, where they do. Readers of one argument that differ are numbered."""
    if side.scales is None or side.scales.reader is None:
        return None
    arg = side.operand.arg
    others = [other.scales for other in lowered.engine_as(Wgmma).sides if other.operand.arg == arg]
    distinct = [scales for i, scales in enumerate(others) if scales not in others[:i]]
    return ReaderText(f"{arg}{numbered(distinct.index(side.scales))}", side.scales.reader)


def ahead_function(reader: ReaderText) -> str:
    """The function that has an operand's scales of a step loaded."""
    return f"{reader.name}_scales_ahead"


def ahead_name(side: Side) -> str:
    """The registers for scales on their way: by the role, because each thread converts one row of it."""
    return f"{side.operand.role.lower()}_scale_bytes"


def _read_ahead(side: Side, scales: Scales, reader: ReaderText, row: str, step: str) -> CallText:
    """The call that has a row's scales of a step loaded."""
    arguments = [ahead_name(side), reader.reader.param, row, step, str(scales.rows), *reader.arguments]
    return CallText(ahead_function(reader), tuple(arguments))


def _of_atom(lowered: LoweredKernel, side: Side, scales: Scales, row: str) -> str:
    """The scales of a row and a step in an atom, a byte each, as text."""
    atom = f"shared_address({side.part.of_scales.buffer}) + stage * ATOM_BYTES"
    in_atom = row
    if side.rows != THREADS:
        first = whole_index(side.operand.half, first_of_b(lowered), "n_size", side.rows)
        in_atom = f"{first if first.isidentifier() else f'({first})'} % 128 + {row}"
    first = "0" if scales.steps_per_atom == 1 else f"k_tile % {scales.steps_per_atom} * {scales.per_step}"
    return f"atom_scales({atom}, {in_atom}, {first}, {scales.per_step})"


# Instructions.


def _slot(lowered: LoweredKernel, side: Side) -> str:
    """The bytes before an operand's slot; a step with promoted sums has one for each `part` of it."""
    start = "B_SLOTS + " if side.operand.role == "B" and both_converted(lowered) else ""
    return f"{start}{'slot' if lowered.promotion is None else 'part'} * SLOT_BYTES"


def both_converted(lowered: LoweredKernel) -> bool:
    """Whether there are slots of A and of B."""
    return len(lowered.engine_as(Wgmma).converted_roles) == 2


def _part(lowered: LoweredKernel, side: Side, place: int, more: str = "") -> str:
    """The descriptor of what one instruction reads of an operand."""
    if not side.converted:
        return f"{descriptor(side.part)} + (stage * {bytes_name(side.part)} + {more}32 * i) // 16"
    rows = f"{place * side.rows} * 128 + " if place else ""
    return f"slots_desc + ({_slot(lowered, side)} + {rows}{more}32 * i) // 16"


def _half_of_b(lowered: LoweredKernel) -> str:
    """Promoted sums are made of half of B's rows at a time."""
    return "" if lowered.promotion is None else f"side * {lowered.tile.n // 2 * 128} + "


def _first(lowered: LoweredKernel, slot: int) -> str:
    """The first register of an accumulator's half of 64 rows."""
    half = f"half * {len(lowered.products.accumulators) * lowered.tile.n // 2}"
    return f"{half} + {slot * lowered.tile.n // 2}" if slot else half

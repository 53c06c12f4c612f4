"""The mainloops of Hopper's GEMM as text: the loads of a stage, the conversions of its rows, and the instructions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fp4cc.codegen.clearing import bytes_of_step, clearing
from fp4cc.codegen.feeds.registry import FEED_TEXTS
from fp4cc.codegen.feeds.spec import CallText, FeedCalls, Stage
from fp4cc.codegen.halves import whole_index
from fp4cc.codegen.mainloops import numbered
from fp4cc.codegen.multicast import mask_text
from fp4cc.codegen.placing import along_k, steps_of
from fp4cc.codegen.scale_layout import divided
from fp4cc.codegen.splitting import steps_text
from fp4cc.codegen.wgmma.places import THREADS, bytes_name, rows_of, slot
from fp4cc.ir.lowered import Load, LoweredKernel, Mainloop, Scales, Wgmma, Wide
from fp4cc.ir.lowered.wgmma import slot_of
from fp4cc.ir.part import Part


@dataclass(frozen=True, slots=True)
class ProductText:
    """One instruction of a step: where it finds B, and the first of the registers it adds to."""

    b_part: str
    first: str


@dataclass(frozen=True, slots=True)
class LoopText:
    """A mainloop. `what` says which one, where there are several; `read` what a finished product has read.

    `clearing`: what puts zeros in the place of rows that another group contracts.
    """

    what: str | None
    k_tiles: str
    some: str  # whether there are any
    stages: str  # of all of K
    tx_bytes: str
    wide: str
    converts: bool
    direct: bool
    read: str
    loads: list[CallText]
    conversions: list[FeedCalls]
    a_part: str
    products: list[ProductText]
    across: str  # the argument that says which operands lie across, if any do
    clearing: list[CallText]


def loops(lowered: LoweredKernel) -> list[LoopText]:
    """The mainloops in order."""
    pairs = zip(lowered.mainloops, lowered.engine_as(Wgmma).wides, strict=True)
    return [_loop(lowered, mainloop, wide, number) for number, (mainloop, wide) in enumerate(pairs)]


def descriptor(part: Part) -> str:
    """The name of the wgmma descriptor of a part in the first stage."""
    return f"{part.name}_desc"


def _loop(lowered: LoweredKernel, mainloop: Mainloop, wide: Wide, number: int) -> LoopText:
    several = len(lowered.products.products) > 1
    across = (mainloop.products[0].a.across, mainloop.products[0].b.across)
    names = " and ".join(product.b.title for product in mainloop.products)
    read = [
        *(["its stage"] if mainloop.direct else []),
        *(["the slot that is written next"] if mainloop.slotted else []),
    ]
    return LoopText(
        what=f"{mainloop.products[0].a.arg} times {names}" if several else None,
        k_tiles=steps_text(lowered, steps_of(lowered, number)),
        some=f"{steps_of(lowered, number)} > 0" if lowered.split is None else "k_end > k_first",
        stages=steps_text(lowered, steps_of(lowered, number), mainloop.tile_k // lowered.tile.k),
        tx_bytes=f"STAGE_TX_BYTES{numbered(number)}",
        wide=wide,
        converts=bool(mainloop.slotted),
        direct=mainloop.direct,
        read=" and ".join(read),
        loads=[_load(lowered, mainloop, load, box) for load in mainloop.loads for box in range(load.boxes)],
        conversions=[FEED_TEXTS.calls(feed, Stage(lowered, mainloop)) for feed in mainloop.slotted],
        a_part=_part(lowered, mainloop, Part("A"), "half * 64 * 128 + "),
        products=[
            ProductText(_part(lowered, mainloop, Part("B", place), _half_of_b(lowered)), _first(lowered, product.slot))
            for place, product in enumerate(mainloop.products)
        ],
        across=f", across=({int(across[0])}, {int(across[1])})" if any(across) else "",
        clearing=clearing(lowered, mainloop, "thread", THREADS),
    )


# Loads.


def _load(lowered: LoweredKernel, mainloop: Mainloop, load: Load, box: int) -> CallText:
    """The call that issues a load, or one box of it, for one stage."""
    part = load.part
    operand, slotted = mainloop.operand(part), slot_of(mainloop, replace(part, scales=False))
    share, all_rows = load.slices > 1, rows_of(lowered, part)
    offset = f"stage * {bytes_name(part)}" + (f" + cta_m * {load.slice_bytes}" if share else "")
    offset += f" + {box * load.slice_bytes // load.boxes}" if box else ""
    row = "m0" if part.role == "A" else whole_index(operand.half, "n0", "n_size", all_rows)
    batch = ", batch" if operand.batched else ""
    if part.scales and slotted is not None and slotted.loaded_scales is not None:
        first = f"cta_m * {256 // load.slices}" if share else "0"
        atom = _atom(slotted.loaded_scales)
        rows = f"{row if row.isidentifier() else f'({row})'} // 128"
        if part.role == "A" and lowered.products.ragged:  # a group's scales start a new row of atoms
            rows = "atoms_before + (m0 - group_first) // 128"
        coordinates = f"{first}, {rows}, {atom}{batch}"
    else:
        unit = slotted.row_bytes if slotted is not None else lowered.tile.k
        rows = f" + cta_m * {all_rows // load.slices}" if share else ""
        depth = along_k(lowered, str(unit))
        if operand.divided:  # in bytes
            depth = f"({divided('k_first', 8 // operand.bits)}) + k_tile * {unit}"
        coordinates = f"{depth}, {row}{rows}{batch}"
        if operand.across:
            side = f" + {box * all_rows // load.boxes}" if box else ""
            coordinates = f"{row}{side}, {along_k(lowered, str(unit))}{batch}"
    arguments = [f"{load.buffer}.subview({offset})", f"{load.tensor_map}.get_ptr()", f"({coordinates})", "full"]
    if not share:
        return CallText("prims.cp_async_bulk_tensor_shared_cta_global", tuple(arguments))
    arguments += ["[]", f"multicast_mask={mask_text(load.masks, lowered.cluster, '')}"]
    return CallText("prims.cp_async_bulk_tensor_shared_cluster_global", tuple(arguments))


def _atom(scales: Scales) -> str:
    """The atom of a step along K."""
    return "k_tile" if scales.steps_per_atom == 1 else f"k_tile // {scales.steps_per_atom}"


# Instructions.


def _part(lowered: LoweredKernel, mainloop: Mainloop, part: Part, more: str = "") -> str:
    """The descriptor of what one instruction reads of an operand."""
    if slot_of(mainloop, part) is None:
        step = bytes_of_step(mainloop.operand(part))
        return f"{descriptor(part)} + (stage * {bytes_name(part)} + {more}{step} * i) // 16"
    rows = f"{part.place * rows_of(lowered, part)} * 128 + " if part.place else ""
    return f"slots_desc + ({slot(lowered, part)} + {rows}{more}32 * i) // 16"


def _half_of_b(lowered: LoweredKernel) -> str:
    """Partial sums are made of half of B's rows at a time."""
    return "" if lowered.promotion is None else f"side * {lowered.tile.n // 2 * 128} + "


def _first(lowered: LoweredKernel, slot: int) -> str:
    """The first register of an accumulator's half of 64 rows."""
    half = f"half * {len(lowered.products.accumulators) * lowered.tile.n // 2}"
    return f"{half} + {slot * lowered.tile.n // 2}" if slot else half

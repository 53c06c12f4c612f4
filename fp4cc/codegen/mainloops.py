"""The mainloops as text: the loads of a stage, and the instructions that multiply it."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.halves import whole_index
from fp4cc.codegen.multicast import issuer_text, mask_text
from fp4cc.codegen.parts import bytes_name
from fp4cc.ir.lowered import Load, LoweredKernel, Mainloop, Mma, Operand, Tcgen05
from fp4cc.ir.lowered_converters import Relaid
from fp4cc.ir.part import Part


@dataclass(frozen=True, slots=True)
class LoadText:
    """One TMA load as text: the call, and the condition on the CTA where only one of a group issues it."""

    call: str
    arguments: tuple[str, ...]
    only_if: str | None


@dataclass(frozen=True, slots=True)
class LoadLoop:
    """The load warp's part of a mainloop. `what` says which one, where there are several.

    `arrive` is the warp's arrival at the stage's barrier: with the bytes that TMA will bring, if it brings any.
    """

    what: str | None
    k_tiles: str
    arrive: str
    arrive_arguments: list[str]
    loads: list[LoadText]


@dataclass(frozen=True, slots=True)
class ProductText:
    """One instruction of a step. `keeps`: whether it adds to the accumulator, as text; scales by their names."""

    accumulator: str
    b: str
    sfb: str
    sfb_column: str
    scale_b: str
    instruction: str
    keeps: str


@dataclass(frozen=True, slots=True)
class ScaleColumn:
    """The tensor memory column of a B's first scales: the name of a variable, and its value as text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class MmaLoop:
    """The MMA warp's part of a mainloop. `sfa_atoms` and `sfb_atoms` are the scale atoms of a stage, as text."""

    what: str | None
    k_tiles: str
    mma: Mma
    atom: str
    sfa_atoms: str
    sfb_atoms: str
    products: list[ProductText]


def numbered(index: int) -> str:
    """What follows a name of which there may be several: nothing the first time, then 2, 3, ..."""
    return str(index + 1) if index else ""


def load_loops(lowered: LoweredKernel) -> list[LoadLoop]:
    """The load warp's loops along K, in order."""
    return [
        LoadLoop(
            products_in_words(lowered, mainloop),
            f"k_tiles{numbered(i)}",
            "prims.mbarrier_arrive_expect_tx" if mainloop.loads else "prims.mbarrier_arrive",
            ["full", *([f"STAGE_TX_BYTES{numbered(i)}"] if mainloop.loads else [])],
            [_load(lowered, mainloop, i, load) for load in mainloop.loads],
        )
        for i, mainloop in enumerate(lowered.mainloops)
    ]


def mma_loops(lowered: LoweredKernel) -> list[MmaLoop]:
    """The MMA warp's loops along K, in order."""
    loops: list[MmaLoop] = []
    begun: set[int] = set()  # accumulators that hold a product already
    number = 0
    engine = lowered.engine_as(Tcgen05)
    most = max(mmas[0].atoms for mmas in engine.mmas)
    columns = half_atom_columns(lowered, "n0")
    for i, mainloop in enumerate(lowered.mainloops):
        products: list[ProductText] = []
        for place, product in enumerate(mainloop.products):
            sfb = f"sfb{numbered(place)}"
            products.append(
                ProductText(
                    accumulator=f"acc{numbered(product.slot)}",
                    b=f"b{numbered(place)}",
                    sfb=sfb,
                    sfb_column=columns[i, place].name if (i, place) in columns else f"{sfb.upper()}_COLUMN",
                    scale_b=f"scale_b{numbered(place)}",
                    instruction=f"INSTRUCTION{numbered(number)}",
                    keeps="True" if product.slot in begun else "(k_tile != 0) | (i != 0)",
                )
            )
            begun.add(product.slot)
            number += 1
        mma = engine.mmas[i][0]
        loops.append(
            MmaLoop(
                what=products_in_words(lowered, mainloop),
                k_tiles=f"k_tiles{numbered(i)}",
                mma=mma,
                atom="atom" if mma.instructions_per_atom > 1 else "i",
                sfa_atoms="SFA_BYTES // 512" if mma.atoms == most else str(mma.atoms),
                sfb_atoms="SFB_BYTES // 512" if mma.atoms == most else str(mma.atoms * -(-lowered.tile.n // 128)),
                products=products,
            )
        )
    return loops


def half_atom_columns(lowered: LoweredKernel, n0: str) -> dict[tuple[int, int], ScaleColumn]:
    """By mainloop and place in it, where B's scales begin if tiles may start in the middle of a scale atom; else none.

    `n0` is the tile's first column.
    """
    found: dict[tuple[int, int], ScaleColumn] = {}
    for i, mainloop in enumerate(lowered.mainloops):
        for place, product in enumerate(mainloop.products):
            # Narrow tiles have scales laid out from their first row, or are alone along N.
            narrow = lowered.tile.n % 64 != 0
            if not lowered.engine_as(Tcgen05).mmas[i][0].scale or lowered.tile.n % 128 == 0 or narrow:
                continue
            sfb = f"sfb{numbered(place)}"
            # Atoms that are laid out anew start where the operand does.
            relaid = isinstance(mainloop.feed(Part("B", place, scales=True)), Relaid)
            row = n0 if relaid else _first_row(lowered, product.b, n0)
            row = row if row == n0 else f"({row})"
            text, name = f"{sfb.upper()}_COLUMN + {row} // 64 % 2 * 2", f"{sfb}_column"
            if any(other.name == name and other.text != text for other in found.values()):
                name += f"_of_{numbered(i)}"
            found[i, place] = ScaleColumn(name, text)
    return found


def products_in_words(lowered: LoweredKernel, mainloop: Mainloop) -> str | None:
    """The products of a mainloop in words, where there are several."""
    if len(lowered.products.products) == 1:
        return None
    return f"{mainloop.products[0].a.arg} times {' and '.join(product.b.title for product in mainloop.products)}"


def _load(lowered: LoweredKernel, mainloop: Mainloop, number: int, load: Load) -> LoadText:
    """The call that issues a load for one stage of a mainloop."""
    group = lowered.engine_as(Tcgen05).mma.cta_group
    index = _slice_index(lowered, load)
    offset = f"stage * {bytes_name(load.part)}"
    if index is not None:
        offset += f" + {index} * {load.slice_bytes}"
    coordinates = _coordinates(lowered, mainloop, number, load, index)
    arguments = [f"{load.buffer}.subview({offset})", f"{load.tensor_map}.get_ptr()", f"({coordinates})", "full"]
    if not load.multicast and group == 1:
        return LoadText("prims.cp_async_bulk_tensor_shared_cta_global", tuple(arguments), None)
    arguments.append("[]")
    if load.multicast:
        arguments.append(f"multicast_mask={_mask(lowered, load)}")
    if group == 2:
        arguments.append("group=CTA_GROUP")
    only_if = issuer_text(load.masks, lowered.cluster)
    return LoadText("prims.cp_async_bulk_tensor_shared_cluster_global", tuple(arguments), only_if)


def _slice_index(lowered: LoweredKernel, load: Load) -> str | None:
    """Which slice this CTA issues, or None where it issues the whole."""
    if load.slices == 1:
        return None
    if load.part.role == "A":
        return "cta_n"
    if not load.part.scales and lowered.engine_as(Tcgen05).mma.cta_group == 2:
        return "(cta_m // 2)"
    return "cta_m"


def _coordinates(lowered: LoweredKernel, mainloop: Mainloop, number: int, load: Load, index: str | None) -> str:
    """Coordinates of the box in the tensor map, innermost first."""
    operand, of_a = mainloop.operand(load.part), load.part.role == "A"
    tensor_map = next(m for m in lowered.tensor_maps if m.name == load.tensor_map)
    batch = ", batch" if operand.batched else ""
    if not load.part.scales:
        rows = tensor_map.box[1]
        row = "m0" if of_a else _first_row(lowered, operand, "n0")
        if not of_a and lowered.engine_as(Tcgen05).mma.cta_group == 2:
            row += f" + cta_m % 2 * {lowered.tile.n // 2}"
        if index is not None:
            row += f" + {index} * {rows}"
        return f"k_tile * TILE_K{numbered(number)}, {row}{batch}"
    row = "m0" if of_a else _first_row(lowered, operand, "n0")
    row = f"{row} // 128" if row.isidentifier() else f"({row}) // 128"
    atoms = tensor_map.box[2] * load.slices
    depth = "k_tile" if atoms == 1 else f"k_tile * {atoms}"
    if index is not None:
        depth += f" + {index}" + (f" * {tensor_map.box[2]}" if tensor_map.box[2] > 1 else "")
    return f"0, {row}, {depth}{batch}"


def _first_row(lowered: LoweredKernel, operand: Operand, n0: str) -> str:
    """The row of an argument at which B's tile at column `n0` starts."""
    return whole_index(operand.half, n0, "n_size", step=lowered.tile.n)


def _mask(lowered: LoweredKernel, load: Load) -> str:
    """The multicast mask as a function of this CTA's place in the cluster."""
    if load.part.role == "A":
        return mask_text(load.masks, lowered.cluster, "cta_m")
    if not load.part.scales and lowered.engine_as(Tcgen05).mma.cta_group == 2:
        shift = "cta_m % 2" if lowered.cluster.n == 1 else "(cta_n * CLUSTER_M + cta_m % 2)"
        return mask_text(load.masks, lowered.cluster, shift)
    return mask_text(load.masks, lowered.cluster, "", "(cta_n * CLUSTER_M)")

"""The load warp's mainloops as text: the loads of a stage, and their multicast."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fp4cc.codegen.gathered import RowLoad, gathered, row_load
from fp4cc.codegen.halves import whole_index
from fp4cc.codegen.mainloops import numbered, products_in_words
from fp4cc.codegen.multicast import issuer_text, mask_text
from fp4cc.codegen.parts import bytes_name
from fp4cc.codegen.placing import along_k, steps_of
from fp4cc.codegen.splitting import steps_text
from fp4cc.ir.lowered import Load, LoweredKernel, Mainloop, Operand


@dataclass(frozen=True, slots=True)
class LoadText:
    """One TMA load as text: the call, and the condition on the CTA where only one of a group issues it."""

    call: str
    arguments: tuple[str, ...]
    only_if: str | None


@dataclass(frozen=True, slots=True)
class LoadLoop:
    """The load warp's part of a mainloop. `what` says which one, where there are several.

    `arrive` is the warp's arrival at the stage's barrier: with the bytes that TMA will bring, if it brings any. `rows`:
    loads of rows by number, by all lanes.
    """

    what: str | None
    k_tiles: str
    arrive: str
    arrive_arguments: list[str]
    loads: list[LoadText]
    rows: list[RowLoad]


def load_loops(lowered: LoweredKernel) -> list[LoadLoop]:
    """The load warp's loops along K, in order."""
    return [
        LoadLoop(
            products_in_words(lowered, mainloop),
            steps_text(lowered, steps_of(lowered, i)),
            "prims.mbarrier_arrive_expect_tx" if mainloop.loads else "prims.mbarrier_arrive",
            ["full", *([f"STAGE_TX_BYTES{numbered(i)}"] if mainloop.loads else [])],
            [
                _load(lowered, mainloop, i, load, box)
                for load in mainloop.loads
                if not gathered(mainloop, load)
                for box in range(load.boxes)
            ],
            [_rows(lowered, i, load) for load in mainloop.loads if gathered(mainloop, load)],
        )
        for i, mainloop in enumerate(lowered.mainloops)
    ]


def _rows(lowered: LoweredKernel, number: int, load: Load) -> RowLoad:
    """The load of rows by number."""
    index, how = _slice_index(lowered, load), list[str]()
    offset = f"stage * {bytes_name(load.part)}" + (f" + {index} * {load.slice_bytes}" if index is not None else "")
    if load.multicast:
        how.append(f"multicast_mask={_mask(lowered, load)}")
    if lowered.tile.ctas == 2:
        how.append("group=CTA_GROUP")
    found = row_load(number, load, offset, f"k_tile * TILE_K{numbered(number)}", tuple(how))
    conditions = [each for each in (issuer_text(load.masks, lowered.cluster), found.only_if) if each is not None]
    only_if = f"both({', '.join(conditions)})" if len(conditions) == 2 else next(iter(conditions), None)
    return replace(found, only_if=only_if)


def _load(lowered: LoweredKernel, mainloop: Mainloop, number: int, load: Load, box: int) -> LoadText:
    """The call that issues a load, or one box of it, for one stage of a mainloop."""
    group = lowered.tile.ctas
    index = _slice_index(lowered, load)
    offset = f"stage * {bytes_name(load.part)}"
    if index is not None:
        offset += f" + {index} * {load.slice_bytes}"
    if box:
        offset += f" + {box * load.slice_bytes // load.boxes}"
    coordinates = _coordinates(lowered, mainloop, number, load, index, box)
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
    if not load.part.scales and lowered.tile.ctas == 2:
        return "(cta_m // 2)"
    return "cta_m"


def _coordinates(
    lowered: LoweredKernel, mainloop: Mainloop, number: int, load: Load, index: str | None, box: int
) -> str:
    """Coordinates of the box in the tensor map, innermost first."""
    operand, of_a = mainloop.operand(load.part), load.part.role == "A"
    tensor_map = next(m for m in lowered.tensor_maps if m.name == load.tensor_map)
    batch = ", batch" if operand.batched else ""
    if not load.part.scales:
        rows_across, rows = tensor_map.box[:2]
        row = "m0" if of_a else first_row(lowered, operand, "n0")
        if not of_a and lowered.tile.ctas == 2:
            row += f" + cta_m % 2 * {lowered.tile.n // 2}"
        if index is not None:
            row += f" + {index} * {rows}"
        depth = along_k(lowered, f"TILE_K{numbered(number)}")
        if operand.across:
            return f"{row}{f' + {box * rows_across}' if box else ''}, {depth}{batch}"
        return f"{depth}, {row}{batch}"
    row = "m0" if of_a else first_row(lowered, operand, "n0")
    row = f"{row} // 128" if row.isidentifier() else f"({row}) // 128"
    if of_a and lowered.products.ragged:  # a group's scales start a new row of atoms
        row = "atoms_before + (m0 - group_first) // 128"
    atoms = tensor_map.box[2] * load.slices
    depth = "k_tile" if atoms == 1 else f"k_tile * {atoms}"
    if index is not None:
        depth += f" + {index}" + (f" * {tensor_map.box[2]}" if tensor_map.box[2] > 1 else "")
    return f"0, {row}, {depth}{batch}"


def first_row(lowered: LoweredKernel, operand: Operand, n0: str) -> str:
    """The row of an argument at which B's tile at column `n0` starts."""
    return whole_index(operand.half, n0, "n_size", step=lowered.tile.n)


def _mask(lowered: LoweredKernel, load: Load) -> str:
    """The multicast mask as a function of this CTA's place in the cluster."""
    if load.part.role == "A":
        return mask_text(load.masks, lowered.cluster, "cta_m")
    if not load.part.scales and lowered.tile.ctas == 2:
        shift = "cta_m % 2" if lowered.cluster.n == 1 else "(cta_n * CLUSTER_M + cta_m % 2)"
        return mask_text(load.masks, lowered.cluster, shift)
    return mask_text(load.masks, lowered.cluster, "", "(cta_n * CLUSTER_M)")

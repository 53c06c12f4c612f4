"""The tensor maps of a GEMM's loads on tcgen05: boxes as its stages hold them, codes packed or unpacked by TMA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.ir.lowered import Load, Mainloop, Mma, Problem, Tile
from fp4cc.passes.resources.smem import row_atoms
from fp4cc.passes.resources.tensor_maps import BOX_ROWS, codes_map, scale_atoms_map
from fp4rt.manifest import TensorMap

#: Tensor map types of codes: four-bit operands of the FP4 kinds stay packed, those of mxf8f6f4 are unpacked by TMA.
_PACKED = {4: "B4X16"}
_PADDED = {4: "B4X16_P64", 6: "B6X16_P32", 8: "U8"}
_PLAIN = {"bf16": "BF16", "f16": "F16", "e4m3": "U8", "e5m2": "U8"}


def mainloop_maps(
    problem: Problem, mainloops: Sequence[Mainloop], mmas: Sequence[Sequence[Mma]], tile: Tile
) -> tuple[TensorMap, ...]:
    """Maps of each mainloop's codes and scales, boxes cut for the multicast slices; halves of an argument share one."""
    loads = {
        load.tensor_map: (mainloop, mma, load)
        for mainloop, (mma, *_) in zip(mainloops, mmas, strict=True)
        for load in mainloop.loads
    }
    return tuple(_map_of(problem, mainloop, mma, load, tile) for mainloop, mma, load in loads.values())


def _map_of(problem: Problem, mainloop: Mainloop, mma: Mma, load: Load, tile: Tile) -> TensorMap:
    operand, name = mainloop.operand(load.part), load.tensor_map
    alone = replace(problem, products=mainloop.products)  # K is the mainloop's
    if load.part.scales:
        rows = 1 if operand.role == "A" else row_atoms(tile.n)
        return scale_atoms_map(name, alone, operand, mma.block, (256, rows, mma.atoms // load.slices))
    if operand.across:
        return codes_map(name, alone, operand, _PLAIN[operand.element], alone.k, (BOX_ROWS, mainloop.tile_k), "128B")
    rows = tile.cta_m if operand.role == "A" else tile.n // mma.cta_group
    packed = _PADDED if mma.kind == "mxf8f6f4" else _PACKED
    dtype = packed[operand.bits] if mma.scale is not None else _PLAIN[operand.element]
    return codes_map(name, alone, operand, dtype, alone.k, (mainloop.tile_k, rows // load.slices), "128B")

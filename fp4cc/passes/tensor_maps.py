"""The tensor maps of the mainloop's loads, and the constraints TMA puts on sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import Load, Mainloop, Operand, Problem, Tile
from fp4cc.passes.memory import ATOM_BYTES, row_atoms
from fp4cc.passes.sizes import ceildiv, fold, int_or_expr, mul, scaled
from fp4rt.manifest import TensorMap

#: Tensor map types of codes: four-bit operands of the FP4 kinds stay packed, those of mxf8f6f4 are unpacked by TMA.
_PACKED = {4: "B4X16"}
_PADDED = {4: "B4X16_P64", 6: "B6X16_P32", 8: "U8"}
_PLAIN = {"bf16": "BF16", "f16": "F16", "e4m3": "U8", "e5m2": "U8"}


def mainloop_maps(problem: Problem, mainloops: Sequence[Mainloop], tile: Tile) -> tuple[TensorMap, ...]:
    """Maps of each mainloop's codes and scales, boxes cut for the multicast slices; halves of an argument share one."""
    loads = {load.tensor_map: (mainloop, load) for mainloop in mainloops for load in mainloop.loads}
    return tuple(_map_of(problem, mainloop, load, tile) for mainloop, load in loads.values())


def _map_of(problem: Problem, mainloop: Mainloop, load: Load, tile: Tile) -> TensorMap:
    mma, operand, name = mainloop.mmas[0], mainloop.operand(load.buffer), load.tensor_map
    alone = replace(problem, products=mainloop.products)  # K is the mainloop's
    if load.buffer.startswith("sf"):
        rows = 1 if operand.role == "A" else row_atoms(tile.n)
        return scale_atoms_map(name, alone, operand, mma.block, (256, rows, mma.atoms // load.slices))
    rows = tile.cta_m if operand.role == "A" else tile.n // mma.cta_group
    packed = _PADDED if mma.kind == "mxf8f6f4" else _PACKED
    dtype = packed[operand.bits] if operand.scaled else _PLAIN[operand.element]
    return codes_map(name, alone, operand, dtype, alone.k, (mainloop.tile_k, rows // load.slices), "128B")


def codes_map(
    name: str, problem: Problem, operand: Operand, dtype: str, width: Expr, box: tuple[int, int], swizzle: str
) -> TensorMap:
    """An operand's codes, rows of `width` map elements; the box is (elements of a row, rows)."""
    row_bytes = scaled(problem.k, operand.bits, 8)
    dims, strides, sides = [width, operand.rows], [row_bytes], [*box]
    if operand.batched:
        dims.append(problem.batch)
        strides.append(mul(operand.rows, row_bytes))
        sides.append(1)
    return _map(name, operand.codes, dtype, dims, strides, sides, problem, swizzle)


def scale_atoms_map(name: str, problem: Problem, operand: Operand, block: int, box: tuple[int, int, int]) -> TensorMap:
    """Scale atoms as rows of 256 16-bit words, with axes of their own for rows and K; the box: words, rows, depth.

    So atoms past either end are zero-filled, never a neighbor's: zero codes there meet zero scales, not a NaN.
    """
    atoms_k = ceildiv(problem.k, 4 * block)
    atoms_rows = ceildiv(operand.rows, 128)
    dims: list[Expr] = [256, atoms_rows, atoms_k]
    strides: list[Expr] = [mul(atoms_k, ATOM_BYTES), ATOM_BYTES]
    sides = [*box]
    if operand.batched:
        dims.append(problem.batch)
        strides.append(mul(atoms_rows, atoms_k, ATOM_BYTES))
        sides.append(1)
    return _map(name, f"{operand.arg}.scales", "U16", dims, strides, sides, problem)


def _map(
    name: str,
    source: str,
    dtype: str,
    dims: list[Expr],
    strides: list[Expr],
    box: list[int],
    problem: Problem,
    swizzle: str = "none",
) -> TensorMap:
    return TensorMap(
        name=name,
        source=source,
        dtype=dtype,
        dims=tuple(dims),
        strides=tuple(strides),
        box=tuple(box),
        element_strides=(1,) * len(dims),
        swizzle=swizzle,
        l2="256B",
        # Without K there is nothing to load, and a tensor map has no empty dims.
        when=None if isinstance(problem.k, int) and problem.k > 0 else int_or_expr(fold("gt", problem.k, 0)),
    )

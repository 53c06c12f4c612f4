"""The tensor maps of the mainloop's loads, and the constraints TMA puts on sizes."""

from __future__ import annotations

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import Mma, Operand, Pipeline, Problem, Tile
from fp4cc.passes.memory import ATOM_BYTES, row_atoms, scale_atoms
from fp4cc.passes.sizes import ceildiv, fold, int_or_expr, mul, scaled
from fp4rt.manifest import TensorMap

#: Tensor map types of codes: four-bit operands of the FP4 kinds stay packed, those of mxf8f6f4 are unpacked by TMA.
_PACKED = {4: "B4X16"}
_PADDED = {4: "B4X16_P64", 6: "B6X16_P32", 8: "U8"}


def mainloop_maps(problem: Problem, mma: Mma, tile: Tile, pipeline: Pipeline) -> tuple[TensorMap, ...]:
    """Maps of A's and B's codes and scales, boxes cut for the multicast slices."""
    a, b, sfa, sfb = (pipeline.load(name) for name in ("a_smem", "b_smem", "sfa_smem", "sfb_smem"))
    atoms = scale_atoms(mma)
    return (
        _codes(a.tensor_map, problem, problem.a, mma, tile, tile.cta_m // a.slices),
        _codes(b.tensor_map, problem, problem.b, mma, tile, tile.n // mma.cta_group // b.slices),
        _scales(sfa.tensor_map, problem, problem.a, mma, 1, atoms // sfa.slices),
        _scales(sfb.tensor_map, problem, problem.b, mma, row_atoms(tile.n), atoms // sfb.slices),
    )


def _codes(name: str, problem: Problem, operand: Operand, mma: Mma, tile: Tile, rows: int) -> TensorMap:
    dtype = (_PADDED if mma.kind == "mxf8f6f4" else _PACKED)[operand.format.bits]
    return codes_map(name, problem, operand, dtype, problem.k, (tile.k, rows), "128B")


def _scales(name: str, problem: Problem, operand: Operand, mma: Mma, rows: int, depth: int) -> TensorMap:
    return scale_atoms_map(name, problem, operand, mma.block, (256, rows, depth))


def codes_map(
    name: str, problem: Problem, operand: Operand, dtype: str, width: Expr, box: tuple[int, int], swizzle: str
) -> TensorMap:
    """An operand's codes, rows of `width` map elements; the box is (elements of a row, rows)."""
    row_bytes = scaled(problem.k, operand.format.bits, 8)
    dims, strides, sides = [width, operand.rows], [row_bytes], [*box]
    if operand.batched:
        dims.append(problem.batch)
        strides.append(mul(operand.rows, row_bytes))
        sides.append(1)
    return _map(name, f"{operand.arg}.codes", dtype, dims, strides, sides, problem, swizzle)


def scale_atoms_map(name: str, problem: Problem, operand: Operand, block: int, box: tuple[int, int, int]) -> TensorMap:
    """Scale atoms as rows of 256 16-bit words, with axes of their own for rows and K; the box counts words, rows, depth.

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

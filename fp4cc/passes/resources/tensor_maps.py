"""The tensor maps of the mainloop's loads, and the constraints TMA puts on sizes."""

from __future__ import annotations

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import Operand, Problem
from fp4cc.ir.sizes import ceildiv, fold, int_or_expr, mul, scaled
from fp4cc.passes.problem.groups import most_tiles
from fp4cc.passes.resources.smem import ATOM_BYTES
from fp4rt.manifest import TensorMap

#: Rows of an operand that lies across in a box: 128 bytes of 16-bit elements, in which the swizzle repeats.
BOX_ROWS = 64
#: Bytes of a row in a stage that is swizzled: a box of one such row lies as it would in a larger one.
SWIZZLE_ROW = 128


def codes_map(
    name: str, problem: Problem, operand: Operand, dtype: str, width: Expr, box: tuple[int, int], swizzle: str
) -> TensorMap:
    """An operand's codes, rows of `width` map elements; the box is (elements of a row, rows), or one of its rows where
    these are gathered."""
    if operand.across:
        return _across_map(name, problem, operand, dtype, box, swizzle)
    if operand.gather is not None:
        box = (box[0], 1)
    row_bytes = scaled(problem.k, operand.bits, 8)
    dims, strides, sides = [width, operand.rows], [row_bytes], [*box]
    if operand.batched:
        dims.append(problem.indices)
        strides.append(mul(operand.rows, row_bytes))
        sides.append(1)
    return _map(name, operand.codes, dtype, dims, strides, sides, problem, swizzle)


def _across_map(
    name: str, problem: Problem, operand: Operand, dtype: str, box: tuple[int, int], swizzle: str
) -> TensorMap:
    """An operand that lies across, as memory has it; the box is (rows, elements along K)."""
    row_bytes = scaled(operand.rows, operand.bits, 8)
    dims, strides, sides = [operand.rows, problem.k], [row_bytes], [*box]
    if operand.batched:
        dims.append(problem.indices)
        strides.append(mul(problem.k, row_bytes))
        sides.append(1)
    return _map(name, operand.codes, dtype, dims, strides, sides, problem, swizzle)


def scale_atoms_map(name: str, problem: Problem, operand: Operand, block: int, box: tuple[int, int, int]) -> TensorMap:
    """Scale atoms as rows of 256 16-bit words, with axes of their own for rows and K; the box: words, rows, depth.

    So atoms past either end are zero-filled, never a neighbor's: zero codes there meet zero scales, not a NaN.
    """
    atoms_k = ceildiv(problem.k, 4 * block)
    atoms_rows = ceildiv(operand.rows, 128)
    if problem.groups is not None and problem.groups.ragged and operand.role == "A":
        atoms_rows = most_tiles(operand.rows, 128, problem.groups)  # each group starts a new row of atoms
    dims: list[Expr] = [256, atoms_rows, atoms_k]
    strides: list[Expr] = [mul(atoms_k, ATOM_BYTES), ATOM_BYTES]
    sides = [*box]
    if operand.batched:
        dims.append(problem.indices)
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

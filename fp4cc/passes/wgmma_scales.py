"""How Hopper's GEMM gets block scales: in TMA's atoms, or each by its layout from global memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import KernelParam, Problem
from fp4cc.ir.lowered_wgmma import Scales, Side, WgmmaLoop
from fp4cc.passes.sizes import ceildiv
from fp4num import LAYOUTS, BlockFormat
from fp4rt.manifest import Param

#: Blocks along K whose atoms TMA brings: a thread then finds a step's scales of its row in one word.
_ATOM_BLOCKS = (16, 32)


def plan_scales(fmt: BlockFormat) -> Scales | None:
    """How the scales of a format are read; None where it has none."""
    if fmt.scale is None:
        return None
    rows, block = (extent if isinstance(extent, int) else 0 for extent in fmt.stored)
    # Atoms are read whole, padding included: another padding than zeros might be NaNs.
    atoms = replace(fmt.layout, name="") == replace(LAYOUTS["blocked_128x4"], name="")
    return Scales(
        type="e4m3" if fmt.scale == "e4m3" else "e8m0",
        block=block,
        rows=rows,
        layout=fmt.layout,
        via="atoms" if atoms and rows == 1 and block in _ATOM_BLOCKS else "layout",
    )


def scale_sizes(problem: Problem, loops: Sequence[WgmmaLoop]) -> tuple[tuple[str, Expr, str], ...]:
    """What the places of scales that are read by their layout are made of: name, value, meaning."""
    found: dict[str, tuple[Expr, str]] = {}
    for loop, side, scales in _by_layout(loops):
        operand = side.operand
        rows = ceildiv(operand.rows, scales.rows) if scales.rows else 1
        blocks = ceildiv(loop.products[0].k, scales.block) if scales.block else 1
        found[f"{operand.arg}_scale_rows"] = (rows, f"rows of scales of {operand.arg}")
        found[f"{operand.arg}_scale_blocks"] = (blocks, f"scales of a row of {operand.arg}")
        if operand.batched and scales.layout.order[-1] != "batch":
            found[f"{operand.arg}_scale_batches"] = (problem.batch, f"batches of {operand.arg}")
    return tuple((name, value, what) for name, (value, what) in found.items())


def scale_params(sizes: Sequence[tuple[str, Expr, str]], loops: Sequence[WgmmaLoop]) -> tuple[KernelParam, ...]:
    """The parameters for them: those sizes that are no numbers, and where each operand's scales start."""
    found = [KernelParam(name, Param("i32", value), what) for name, value, what in sizes if not isinstance(value, int)]
    for name in dict.fromkeys(side.operand.arg for _, side, _ in _by_layout(loops)):
        found.append(KernelParam(f"{name}_scales_ptr", Param("pointer", f"{name}.scales"), f"scales of {name}"))
    return tuple(found)


def _by_layout(loops: Sequence[WgmmaLoop]) -> Iterator[tuple[WgmmaLoop, Side, Scales]]:
    for loop in loops:
        for side in loop.sides:
            if side.read_scales is not None:
                yield loop, side, side.read_scales

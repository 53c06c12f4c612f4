"""Lowering what makes weights ready: a warp has a row, and its lanes have a block of 32 columns each time.

First the lanes read the row's scales for the largest of them, then codes and scales for the elements.
"""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.ir.kernel import Expr, Kernel
from fp4cc.ir.lowered import (
    Cluster,
    FoldRows,
    Launch,
    LoweredKernel,
    OneEach,
    Operand,
    Size,
    Tile,
    WarpRole,
)
from fp4cc.ir.lowered_epilogue import EpilogueProgram, Space
from fp4cc.ir.sizes import Sizes, ceildiv, mul
from fp4cc.passes.feeds.scale_reading import Needs, Readers
from fp4cc.passes.resources.params import plan_params
from fp4cc.passes.resources.smem import place_buffers
from fp4cc.passes.rewrites.rows import BLOCK, Rows
from fp4cc.targets.sm90 import SM90A
from fp4rt.manifest import Init

#: Threads of a CTA, and its rows: one for each of its warps.
THREADS = 128
WARPS = THREADS // 32


@dataclass(frozen=True, slots=True)
class Places:
    """Where rows, factors and the count of rows that do not fit lie in the buffer, and its bytes."""

    rows: Expr
    factors: Expr
    unfit: Expr
    end: Expr

    @classmethod
    def of(cls, made: Rows, sizes: Sizes) -> Places:
        """The rows, then the factors, then the count."""
        rows = mul(*(sizes(axis.extent) for axis in made.rows.axes))
        factors = mul(*(sizes(axis.extent) for axis in made.factors.axes), 4)
        unfit = _sum(rows, factors)
        return cls(0, rows, unfit, _sum(unfit, 4))


def _sum(a: Expr, b: Expr) -> Expr:
    return a + b if isinstance(a, int) and isinstance(b, int) else ("add", a, b)


def lower_rows(made: Rows, count: str) -> LoweredKernel:
    """The launch that makes them. `count`: the buffer that the count of rows that do not fit is in."""
    kernel, arg = made.first, made.arg
    if arg.format is None:
        raise TypeError(f"{arg.name} is not quantized")
    sizes, needs = Sizes.of(kernel.dims), Needs(kernel.args)
    space = _space(kernel, made, sizes)
    operand = Operand("A", arg.name, arg.format, space.m, len(arg.axes) > 2)
    reader = Readers(kernel, sizes, space, kernel.constraints, needs).scales(operand, space.n, 1)
    codes, rows, factors, unfit = (
        needs.pointer(f"{arg.name}_{name}_ptr", source, what)
        for name, source, what in (
            ("codes", f"{arg.name}.codes", f"e2m1 codes of {arg.name}"),
            ("rows", made.rows.name, "rows of e5m2 out"),
            ("factors", made.factors.name, "a factor for each row out"),
            ("unfit", count, "how many rows cannot be made"),
        )
    )
    tiles_m = ceildiv(space.m, WARPS)
    walk = OneEach(0, tiles_m, 1, mul(tiles_m, space.batch))
    lengths = (
        Size("m_size", space.m, f"rows of {arg.name}"),
        Size("n_size", space.n, f"columns of {arg.name}"),
        *((Size("tiles_m", tiles_m, f"tiles of {WARPS} rows"),) if space.batch_axes else ()),
        Size("tiles", walk.tiles, "tiles in all"),
        *needs.lengths(),
    )
    return LoweredKernel(
        name=kernel.name,
        target=SM90A.name,
        kernel=kernel,
        schedule=None,
        tile=Tile(WARPS, BLOCK, 0, WARPS),
        cluster=Cluster(1, 1),
        walk=walk,
        roles=(WarpRole("epilogue", 0, WARPS, "with a row each"),),
        smem=place_buffers((), SM90A.smem_bytes),
        tensor_maps=(),
        epilogue=EpilogueProgram(kernel, space, BLOCK, (), (), (), (), init=(Init(count, 1, width=4),)),
        launch=Launch(f"{kernel.name}_0", THREADS, plan_params((), lengths, needs.addresses()), lengths),
        constraints=(),
        decisions=(),
        engine=FoldRows(reader, arg.name, codes, rows, factors, unfit),
        role=f"Launched once for {arg.name}: plans for prepared weights read what it leaves.",
    )


def _space(kernel: Kernel, made: Rows, sizes: Sizes) -> Space:
    """The rows and columns of the weights, and their batches."""
    *batch, m, n = made.rows.axes
    return Space(
        m=sizes(m.extent),
        n=sizes(n.extent),
        batch=mul(*(sizes(axis.extent) for axis in batch)),
        m_axis=str(m.name),
        n_axis=str(n.name),
        batch_axes=tuple(str(axis.name) for axis in batch),
    )

"""The kernel's parameter list: tensor maps, then pointers, then integers, then floats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import KernelParam, Problem, Product, Raster, Tile
from fp4cc.ir.lowered_converters import Converters
from fp4cc.ir.lowered_epilogue import EpilogueProgram
from fp4cc.passes.sizes import ceildiv
from fp4rt.manifest import Param, TensorMap

_ORDER = ("tensor_map", "pointer", "i64", "i32", "f32")


class Loop(Protocol):
    """What a mainloop of any family says of its steps along K."""

    @property
    def products(self) -> tuple[Product, ...]: ...

    @property
    def tile_k(self) -> int: ...


def plan_params(
    problem: Problem,
    tile: Tile,
    raster: Raster,
    maps: Sequence[TensorMap],
    epilogue: EpilogueProgram,
    epilogue_params: Sequence[KernelParam],
    mainloops: Sequence[Loop] = (),
    converters: Converters | None = None,
) -> tuple[KernelParam, ...]:
    """The parameters in order. Static sizes are no parameters: they are numbers in the kernel."""
    params = [KernelParam(m.name, Param("tensor_map", m.name), m.source) for m in maps]
    pointers = converters.pointers if converters else ()
    params.extend(KernelParam(name, Param("pointer", source), what) for name, source, what in pointers)
    params.extend(
        KernelParam(name, Param("i32", expr), what)
        for name, expr, what in sizes(problem, tile, raster, epilogue, mainloops, converters)
        if not isinstance(expr, int)
    )
    params.extend(epilogue_params)
    return ordered(params)


def ordered(params: Sequence[KernelParam]) -> tuple[KernelParam, ...]:
    """Parameters by kind, those of a kind as they are given."""
    return tuple(sorted(params, key=lambda p: _ORDER.index(p.param.kind)))


def sizes(
    problem: Problem,
    tile: Tile,
    raster: Raster,
    epilogue: EpilogueProgram,
    mainloops: Sequence[Loop] = (),
    converters: Converters | None = None,
) -> list[tuple[str, Expr, str]]:
    """The sizes the kernel uses: name, value, meaning. Those that are numbers become constants of the kernel.

    A kernel without `mainloops` has one, with the tile's depth.
    """
    found: list[tuple[str, Expr, str]] = []
    if clips(epilogue):
        found.append(("m_size", problem.m, problem.m_axis))
    if clips(epilogue) or any(_from_n(product) for product in problem.products):
        found.append(("n_size", epilogue.problem.n, epilogue.problem.n_axis))
    found += batches(epilogue)
    depths = [(m.products[0], m.tile_k) for m in mainloops] or [(problem.products[0], tile.k)]
    for number, (product, tile_k) in enumerate(depths):
        name = f"k_tiles{number + 1 if number else ''}"
        found.append((name, ceildiv(product.k, tile_k), f"steps of {tile_k} along {product.k_axis}"))
    found.append(("tiles_m", raster.tiles_m, f"cluster tiles along {problem.m_axis}"))
    found.append(("tiles_n", raster.tiles_n, f"cluster tiles along {problem.n_axis}"))
    found.append(("tiles", raster.tiles, "cluster tiles in all"))
    return [*found, *(converters.sizes if converters else ())]


def _from_n(product: Product) -> bool:
    """Whether the rows of a right operand start where another half of its argument ends."""
    half = product.b.half
    return half is not None and half.group is None and half.part == 1


def clips(epilogue: EpilogueProgram) -> bool:
    """Whether the kernel itself must tell rows and columns past the end (else TMA's clipping does)."""
    return any(o.store.via != "tma" or o.quantize is not None for o in epilogue.outputs) or any(
        i.kind in ("row", "column", "tile", "uniform") for i in epilogue.inputs
    )


def batches(epilogue: EpilogueProgram) -> list[tuple[str, Expr, str]]:
    """The number of batches as a size, where it decides how far apart an output's scales lie."""
    space = epilogue.problem
    layouts = [o.dtype.layout for o in epilogue.outputs if not isinstance(o.dtype, str)]
    if not space.batch_axes or all(layout.order[-1] == "batch" for layout in layouts):
        return []
    return [("batches", space.batch, "batches in all")]

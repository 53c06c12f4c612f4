"""The kernel's sizes, and its parameters: tensor maps, then pointers, then integers, then floats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fp4cc.ir.lowered import Grouped, KernelParam, Persistent, Problem, Product, Size, Walk
from fp4cc.ir.lowered_epilogue import EpilogueProgram
from fp4cc.ir.sizes import ceildiv
from fp4rt.manifest import Param, TensorMap

_ORDER = ("tensor_map", "pointer", "i64", "i32", "f32")


class Loop(Protocol):
    """What a mainloop says of its steps along K."""

    @property
    def products(self) -> tuple[Product, ...]: ...

    @property
    def tile_k(self) -> int: ...


def plan_params(
    maps: Sequence[TensorMap], sizes: Sequence[Size], others: Sequence[KernelParam]
) -> tuple[KernelParam, ...]:
    """The parameters by kind, those of a kind as they are given. Sizes that are numbers are none."""
    params = [KernelParam(m.name, Param("tensor_map", m.name), m.source) for m in maps]
    params += [KernelParam(s.name, Param("i32", s.value), s.what) for s in sizes if not isinstance(s.value, int)]
    known = {param.name: param for param in (*params, *others)}
    return tuple(sorted(known.values(), key=lambda p: _ORDER.index(p.param.kind)))


def product_sizes(problem: Problem, walk: Walk, epilogue: EpilogueProgram, mainloops: Sequence[Loop]) -> list[Size]:
    """The sizes that a kernel with products uses, whatever multiplies them."""
    found: list[Size] = []
    gathered = any(product.a.gather is not None for product in problem.products)
    if epilogue.clips or problem.groups is not None or gathered:
        found.append(Size("m_size", problem.m, problem.m_axis))
    if epilogue.clips or any(_from_n(product) for product in problem.products):
        found.append(Size("n_size", epilogue.problem.n, epilogue.problem.n_axis))
    found += batches(epilogue)
    for number, loop in enumerate(mainloops):
        product, name = loop.products[0], f"k_tiles{number + 1 if number else ''}"
        found.append(Size(name, ceildiv(product.k, loop.tile_k), f"steps of {loop.tile_k} along {product.k_axis}"))
    if problem.contracted is not None:
        found.append(Size("k_size", problem.k, f"{problem.k_axis} of all groups"))
    if isinstance(walk, Grouped):  # how many tiles there are along M, and in all, is found on the device
        found.append(Size("groups", walk.groups.count, f"groups of {problem.m_axis}"))
    else:
        found.append(Size("tiles_m", walk.tiles_m, f"cluster tiles along {problem.m_axis}"))
    found.append(Size("tiles_n", walk.tiles_n, f"cluster tiles along {problem.n_axis}"))
    if isinstance(walk, Persistent):
        found.append(Size("tiles", walk.tiles, "cluster tiles in all"))
    return found


def group_params(walk: Walk, problem: Problem | None = None) -> tuple[KernelParam, ...]:
    """What says where groups of rows begin and end, of tiles and of what a product contracts; and the numbers of rows
    that are gathered."""
    return (*_groups(walk, problem), *_rows(problem))


def _rows(problem: Problem | None) -> tuple[KernelParam, ...]:
    gathers = {product.a.gather for product in problem.products} if problem is not None else set()
    found = {gather.arg: gather for gather in gathers if gather is not None}
    return tuple(
        KernelParam(found[arg].pointer, Param("pointer", arg), "i32, numbers of rows") for arg in sorted(found)
    )


def _groups(walk: Walk, problem: Problem | None) -> tuple[KernelParam, ...]:
    contracted = None if problem is None else problem.contracted
    groups = walk.groups if isinstance(walk, Grouped) else contracted
    if groups is None:
        return ()
    what = "the first row of each group" if groups.ragged else "the rows of each group"
    return (KernelParam(f"{groups.arg}_ptr", Param("pointer", groups.arg), what),)


def _from_n(product: Product) -> bool:
    """Whether the rows of a right operand start where another half of its argument ends."""
    half = product.b.half
    return half is not None and half.group is None and half.part == 1


def batches(epilogue: EpilogueProgram) -> list[Size]:
    """The number of batches as a size, where it decides how far apart an output's scales lie."""
    space = epilogue.problem
    layouts = [o.dtype.layout for o in epilogue.outputs if not isinstance(o.dtype, str)]
    if not space.batch_axes or all(layout.order[-1] == "batch" for layout in layouts):
        return []
    return [Size("batches", space.batch, "batches in all")]

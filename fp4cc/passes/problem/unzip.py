"""`unzip` of products: which lie as interleaved columns in one accumulator, and which are a product for each half.

Columns that take turns in small groups are one product as wide as both halves: the epilogue works on the halves' axis
and reads 64 columns of the accumulator at a time, 32 of each half, as two runs of 32. Other halves have products of
their own, which share the left operand and whose right operands are some of the rows of one argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fp4cc.ir.kernel import Kernel, Value
from fp4cc.ir.lowered import Problem, Tmem
from fp4cc.ir.lowered_epilogue import SUBTILE, Space
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.problem.halves import Cut, half, refusal, sink, unzipped, wanted
from fp4cc.passes.problem.roles import find_problem

#: The largest group in which two halves can take turns within one tile.
_WIDEST_GROUP = 128
#: What all tile widths are multiples of.
_WIDTHS = 64


@dataclass(frozen=True, slots=True)
class Frame:
    """What the epilogue sees: the typed kernel with each `unzip` on what it halves, and the halves' axis as N.

    `accumulators` are indices in `kernel.values`. `group`: they are the halves of interleaved ones, which take turns in
    so many columns (None: no accumulator is unzipped). `adds`: what is stored is added to memory, atomically.
    """

    kernel: Kernel
    problem: Space
    accumulators: tuple[int, ...]
    group: int | None = None
    adds: bool = False


def find_products(kernel: Kernel, sizes: Sizes, columns: int) -> tuple[Problem, Frame]:
    """The products of a kernel, a half of one counted as a product where it is made by itself; the epilogue's view.

    All accumulators of a tile have at most so many `columns`. Raises DiagnosticError for an `unzip` that cannot be
    built, and for what `find_problem` cannot do.
    """
    if not unzipped(kernel):
        problem = find_problem(kernel, sizes)
        return problem, Frame(kernel, problem, problem.accumulators)
    cut = _common_cut(kernel, sizes)
    group = None if cut is None else _turns(cut, sizes)
    if cut is not None and group is not None:
        problem = find_problem(kernel, sizes)
        fits = len(problem.accumulators) * _width(group) <= columns
        if fits or group % _WIDTHS:
            return problem, _interleaved(kernel, problem, sizes, cut, group)
    sunk = sink(kernel, sizes).kernel
    for value in sunk.values:
        if value.op == "matmul":
            _check_rows(sunk, sizes, value)
    problem = find_problem(sunk, sizes)
    return problem, Frame(sunk, problem, problem.accumulators)


def tile_widths(frame: Frame, problem: Problem, widths: Sequence[int]) -> tuple[int, ...]:
    """Those of the tile widths with whole groups of both halves, or within a group of each product's right operand."""
    if frame.group is not None:
        return tuple(n for n in widths if n % _width(frame.group) == 0)
    halves = [product.b.half for product in problem.products]
    groups = [each.group for each in halves if each is not None and each.group is not None]
    return tuple(n for n in widths if all(group % n == 0 for group in groups))


def released(tmem: Tmem, tile_n: int, group: int) -> Tmem:
    """The plan of overlapping accumulators of interleaved halves, which are read in steps of 64 columns.

    It says after how many steps, from the left as from the right, all columns that both use have been read.
    """
    if not tmem.overlapped(tile_n):
        return tmem
    shared = set(range(-(-(tile_n - tmem.acc_stride) // SUBTILE)))  # in runs of 32 columns from the edge
    run = max(group, SUBTILE) // SUBTILE
    steps = 0
    while shared:
        first = steps // run * 2 * run + steps % run
        shared -= {first, first + run}
        steps += 1
    return replace(tmem, release_after=steps)


def _width(group: int) -> int:
    """What a tile's width is a multiple of: whole groups of both halves, and 32 columns of each."""
    return max(_WIDTHS, 2 * group)


def _asked(kernel: Kernel, sizes: Sizes) -> dict[Cut | None, Value | None]:
    """The halves of products that are asked for (None: a whole one), each with an `unzip` that asks."""
    found = wanted(kernel, sizes)
    products = (index for index, value in enumerate(kernel.values) if value.op == "matmul")
    return {cut: asker for index in products for cut, asker in found[index].items()}


def _common_cut(kernel: Kernel, sizes: Sizes) -> Cut | None:
    """How all products are cut, if in one way; None where they differ or one is needed whole."""
    cuts = {None if cut is None else replace(cut, part=0) for cut in _asked(kernel, sizes)}
    return cuts.pop() if len(cuts) == 1 else None


def _turns(cut: Cut, sizes: Sizes) -> int | None:
    """The group in which halves take turns within a tile; None if it is too large or no power of two."""
    group = sizes(cut.group)
    if not isinstance(group, int) or group > _WIDEST_GROUP or group & (group - 1):
        return None
    return group


def _interleaved(kernel: Kernel, problem: Problem, sizes: Sizes, cut: Cut, group: int) -> Frame:
    """Each accumulator as two, one a half."""
    sunk = sink(kernel, sizes, problem.accumulators)
    accumulators = tuple(
        sunk.places[index, replace(cut, part=part)] for index in problem.accumulators for part in (0, 1)
    )
    space = Space(
        m=problem.m,
        n=sizes(cut.into),
        batch=problem.batch,
        m_axis=problem.m_axis,
        n_axis=cut.into,
        batch_axes=problem.batch_axes,
        groups=problem.groups,
    )
    return Frame(sunk.kernel, space, accumulators, group)


def _check_rows(kernel: Kernel, sizes: Sizes, product: Value) -> None:
    """Refuse a right operand whose rows lie in groups that are narrower than a tile."""
    right = kernel.values[product.operands[1]]
    rows = kernel.values[right.operands[0]] if right.op == "transpose" else right
    if rows.op != "unzip":
        return
    group = half(Cut.of(rows), sizes, rows).group
    if group is None or group % _WIDTHS == 0:
        return
    if _turns(Cut.of(rows), sizes) is None:
        raise refusal(
            rows, f"groups of {group} columns",
            f"groups are 1, 2, 4, ... {_WIDEST_GROUP}, multiples of {_WIDTHS}, or all of a half",
        )  # fmt: skip
    raise refusal(
        rows, f"groups of {group} columns in a kernel with products of other columns",
        f"use groups of a multiple of {_WIDTHS}, or all of a half",
    )  # fmt: skip

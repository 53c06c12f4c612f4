"""How scales are read from global memory: which load takes several at once, and the sizes that finding them needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import gcd

from fp4cc.ir.kernel import Arg, Constraint, Expr, Kernel
from fp4cc.ir.lowered import KernelParam, Operand, Size
from fp4cc.ir.lowered_epilogue import Space
from fp4cc.ir.lowered_reading import Numbers, Rows, ScaleReader
from fp4cc.ir.sizes import Sizes, ceildiv
from fp4cc.passes.problem.divides import divides
from fp4cc.passes.problem.placement import along
from fp4num import ScaleLayout
from fp4rt.manifest import Param

#: Scales that one load can take, widest first: a byte each, 16 bytes a load at most.
_WIDTHS = (16, 8, 4, 2)


@dataclass
class Needs:
    """Pointers and sizes that reading from global memory adds to a kernel, each under a name of its own.

    The epilogue has a pointer `NAME_ptr` for each argument that it reads, by the names of `arguments`.
    """

    arguments: Sequence[Arg]
    pointers: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    sizes: dict[str, tuple[Expr, str]] = field(default_factory=dict[str, tuple[Expr, str]])

    def pointer(self, name: str, source: str, what: str) -> str:
        """The parameter that points to a buffer."""
        taken = {f"{arg.name}_ptr" for arg in self.arguments}
        free, number = name, 1
        while free in taken:
            number += 1
            free = f"{name}{number}"
        self.pointers[free] = (source, what)
        return free

    def size(self, name: str, value: Expr, what: str) -> str:
        """The name of a size: the wanted one, numbered if that is another size already."""
        free, number = name, 1
        while self.sizes.get(free, (value,))[0] != value:
            number += 1
            free = f"{name}{number}"
        self.sizes[free] = (value, what)
        return free

    def lengths(self) -> tuple[Size, ...]:
        """The sizes."""
        return tuple(Size(name, value, what) for name, (value, what) in self.sizes.items())

    def params(self) -> tuple[KernelParam, ...]:
        """Those sizes that are no numbers, and the pointers, as parameters."""
        sizes = (size for size in self.lengths() if not isinstance(size.value, int))
        return (*(KernelParam(s.name, Param("i32", s.value), s.what) for s in sizes), *self.addresses())

    def addresses(self) -> tuple[KernelParam, ...]:
        """The pointers as parameters."""
        return tuple(KernelParam(n, Param("pointer", source), what) for n, (source, what) in self.pointers.items())


@dataclass(frozen=True, slots=True)
class Readers:
    """Plans readers for the operands of a kernel's products, or of what has none but rows, columns and batches.

    `facts` are conditions that hold at every call.
    """

    kernel: Kernel
    sizes: Sizes
    problem: Space
    facts: Sequence[Constraint]
    needs: Needs

    def all_rows(self, operand: Operand) -> Expr:
        """The rows of an operand's argument, of which the operand may be some."""
        return self.sizes(self.kernel.arg(operand.arg).axes[-2].extent)

    def rows(self, operand: Operand) -> str:
        """The size that says how many rows an operand has."""
        rows = self.problem.m if operand.role == "A" else self.problem.n
        return self.needs.size(f"{operand.arg}_rows", rows, f"rows of {operand.title}")

    def rows_of(self, operand: Operand) -> Rows:
        """Which of its argument's rows an operand has."""
        if operand.half is not None and operand.half.group is not None:
            return Rows(half=operand.half)
        if operand.gather is not None:
            there = self.needs.size(f"{operand.arg}_all_rows", self.all_rows(operand), f"rows of {operand.arg} in all")
            each = self.rows(operand) if operand.gather.batched else None
            return Rows(numbers=Numbers(operand.gather.pointer, there, each))
        if operand.first_row == 0:
            return Rows()
        what = f"{operand.arg}'s first row in use"
        return Rows(self.needs.size(f"{operand.arg}_first_row", operand.first_row, what))

    def scales(self, operand: Operand, k: Expr, count: int) -> ScaleReader:
        """The reader of an operand's scales; `count` neighbors along K, from a multiple of it, are wanted at a time."""
        arg, fmt = operand.arg, operand.format
        tall, wide = fmt.stored
        rows = 1 if tall == "all" else ceildiv(self.all_rows(operand), tall)
        blocks = 1 if wide == "all" else ceildiv(k, wide)

        def divisible(by: int) -> bool:
            return isinstance(wide, int) and divides(by * wide, k, self.facts, self.sizes)

        if operand.divided and isinstance(wide, int):  # a step starts at any multiple of 32 elements
            count = gcd(count, max(1, 32 // wide))
        width = 1 if fmt.scale == "f32" else group_width(fmt.layout, count, divisible)
        coordinates = ("batch", "row", "k") if operand.batched else ("row", "k")
        nearer = {other for c in coordinates for other in fmt.layout.nearer(c) if other in coordinates}
        return ScaleReader(
            scale=fmt.scale if fmt.scale in ("e4m3", "e8m0") else "f32",
            layout=fmt.layout,
            batched=operand.batched,
            tall=None if tall == "all" else tall,
            width=width,
            partial=width > 1 and not divisible(width),
            param=self.needs.pointer(f"{arg}_scales_ptr", f"{arg}.scales", f"{fmt.scale} scales of {arg}"),
            rows_of=self.rows_of(operand),
            batches=self.needs.size(f"{arg}_batches", self.problem.batch, f"batches of {arg}")
            if "batch" in nearer
            else None,
            rows=self.needs.size(f"{arg}_scale_rows", rows, f"rows of scales of {arg}") if "row" in nearer else None,
            blocks=self.needs.size(f"{arg}_blocks", blocks, f"scales of a row of {arg}"),
        )


def group_width(layout: ScaleLayout, count: int, divisible: Callable[[int], bool]) -> int:
    """How many scales one load can take, of `count` that are wanted: a power of two whose groups lie side by side.

    A group starts at a multiple of the width, in k and in memory. `divisible(n)`: whether n is known to divide the
    number of scales of a row.
    """
    return next((w for w in _WIDTHS if count % w == 0 and _side_by_side(layout, w, divisible)), 1)


def _side_by_side(layout: ScaleLayout, width: int, divisible: Callable[[int], bool]) -> bool:
    extent = layout.extent("k")
    inside = [along(layout.modes("k"), k) for k in range(extent)]
    if extent % width == 0:
        others = [stride for c in ("batch", "row") for size, stride in layout.modes(c) if size > 1]
        starts = (layout.atom_size, *others, *inside[::width])
        adjacent = all(at == inside[k - k % width] + k % width for k, at in enumerate(inside))
        return adjacent and all(start % width == 0 for start in starts)
    # Atoms of nothing but a run of k, one after the other: a row runs on from atom to atom, and rows are whole groups.
    runs_on = layout.atom_size == extent and inside == list(range(extent)) and layout.order[0] == "k"
    return runs_on and width % extent == 0 and divisible(width)

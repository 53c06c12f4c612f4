"""What Hopper's GEMM multiplies: the type wgmma gets, how each operand becomes it, and why not, where it cannot.

bf16 holds every element of eight bits or fewer, and its product by an e4m3 or e8m0 scale as long as that stays in
bf16's range: then the sums are those of a block-scaled tensor core. f16 holds less: no e8m0 scale, and of the
products by e4m3 scales only those of small elements. Beside a plain operand a format is taken only where all its
products are held (`passes.holding`); of two operands with block scales, which Blackwell multiplies without that
detour, those outside bf16's range are infinite or lose bits (docs/operands.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Kernel
from fp4cc.ir.lowered import TILE_K, Feed, Operand, Problem, Product, Wide
from fp4cc.ir.part import Part
from fp4cc.passes.feeds.holding import why_not_dequantized
from fp4cc.passes.feeds.promoted_scales import STEP
from fp4cc.passes.feeds.registry import FEEDS
from fp4cc.passes.feeds.scale_reading import Readers
from fp4cc.passes.feeds.spec import Planning, Wanted
from fp4cc.targets.sm90 import SM90A
from fp4num import BlockFormat


@dataclass(frozen=True, slots=True)
class Steps:
    """A mainloop without its loads: products that share A, the type they are multiplied in, what threads make of it."""

    products: tuple[Product, ...]
    wide: Wide
    slotted: tuple[Feed, ...]
    tile_k: int = TILE_K

    @property
    def operands(self) -> tuple[Operand, ...]:
        """A, then the Bs."""
        return (self.products[0].a, *(product.b for product in self.products))


def promoted_steps(problem: Problem, readers: Readers) -> tuple[Steps, ...]:
    """The mainloop of a product whose f32 scales are for whole partial sums: operands are converted without them."""
    planner = _Planner(SM90A.tile_n, _planning(readers))
    (product,) = problem.products
    feeds = (*planner.feed(product.a, product, "bf16", Part("A")), *planner.feed(product.b, product, "bf16", Part("B")))
    return (Steps(problem.products, "bf16", feeds, STEP),)


def plan_steps(kernel: Kernel, problem: Problem, columns: int, readers: Readers) -> tuple[Steps, ...]:
    """The mainloops in the order of their first products. Raises DiagnosticError with all pairs that are not legal.

    A mainloop has at most as many Bs of `columns` rows as one slot holds.
    """
    errors: list[Diagnostic] = []
    found: list[Steps] = []
    planner = _Planner(columns, _planning(readers))
    for product in problem.products:
        try:
            wide = _wide(kernel, product)
        except DiagnosticError as refused:
            errors.extend(refused.diagnostics)
            continue
        place = next((i for i, steps in enumerate(found) if _joins(steps, product, wide, columns)), None)
        before = () if place is None else found[place].products
        b = planner.feed(product.b, product, wide, Part("B", len(before)))
        if place is None:
            found.append(Steps((product,), wide, (*planner.feed(product.a, product, wide, Part("A")), *b)))
        else:
            joined = found[place]
            found[place] = replace(joined, products=(*before, product), slotted=(*joined.slotted, *b))
    if errors:
        raise DiagnosticError(list(dict.fromkeys(errors)))
    return tuple(found)


def _planning(readers: Readers) -> Planning:
    return Planning(readers, readers.facts, readers.sizes)


@dataclass(frozen=True, slots=True)
class _Planner:
    """Plans what threads make of operands; of a B a tile has `columns` rows."""

    columns: int
    planning: Planning

    def feed(self, operand: Operand, product: Product, wide: Wide, part: Part) -> tuple[Feed, ...]:
        """The feed of an operand's codes; nothing where wgmma reads them where TMA puts them."""
        rows = SM90A.tile_m if part.role == "A" else self.columns
        wanted = Wanted(operand, part, "epilogue", wide, product.k, rows, self.columns)
        found = FEEDS.serving(wanted, self.planning)
        if operand.gather is not None:  # what a launch before copies is none by number here
            raise DiagnosticError([_not_by_number(self.planning.readers.kernel.arg(operand.arg), operand)])
        return () if found is None else (found,)


def _joins(steps: Steps, product: Product, wide: Wide, columns: int) -> bool:
    """Whether a mainloop loads a product's A already, and has room for one more B."""
    first = steps.products[0]
    room = (len(steps.products) + 1) * columns <= SM90A.tile_n
    return room and (first.a, steps.wide, first.k) == (product.a, wide, product.k)


# What can be built.


def _wide(kernel: Kernel, product: Product) -> Wide:
    """The type a product's operands become. Raises DiagnosticError with every reason why they cannot."""
    args = [(kernel.arg(operand.arg), operand) for operand in (product.a, product.b)]
    plain = {operand.element for _, operand in args if not operand.scaled}
    if plain - set(SM90A.plain) or plain >= {"bf16", "f16"} or args[0][0].turned:
        raise DiagnosticError([_pair_error(args)])
    wide: Wide = "f16" if "f16" in plain else "bf16"
    # What a launch before has made of an operand with block scales stands for it: a pair is a pair.
    beside = next((o.element for arg, o in args if not o.scaled and arg.stands_for is None), None)
    errors = [e for arg, operand in args if operand.scaled for e in _operand_errors(arg, operand.format, wide, beside)]
    if errors:
        raise DiagnosticError(errors)
    return wide


def _not_by_number(arg: Arg, operand: Operand) -> Diagnostic:
    return error(
        "FP4053", f"rows of {operand.name} by number cannot be multiplied on {SM90A.name} yet", arg.span, operand.name,
        notes=["a launch before the products copies the rows of one argument, as bf16 where they have block scales"],
        help="give it bf16 or f16 elements; of FP8 with f32 scales, write `matmul(x[rows], w.T, accumulate = fast)`",
    )  # fmt: skip


def _pair_error(args: Sequence[tuple[Arg, Operand]]) -> Diagnostic:
    (a_arg, a), (b_arg, b) = args
    return error(
        "FP4005", f"{a.name} by {b.name} cannot be multiplied on {SM90A.name} yet", a_arg.span, a.name,
        also=[(b_arg.span, b.name)],
        notes=[
            "wgmma multiplies bf16 by bf16 or f16 by f16; block formats and fp8 are converted to either, exactly",
        ],
        help="give both operands one of these types, or one of them a block format",
    )  # fmt: skip


def _operand_errors(arg: Arg, fmt: BlockFormat, wide: Wide, beside: str | None) -> list[Diagnostic]:
    """Why an operand cannot become `wide`; `beside` is the type of the other one if it is plain."""
    rows, columns = fmt.stored
    if fmt.scale == "f32":
        return [
            error("FP4202", f"`{fmt.name}` has f32 scales: {SM90A.name} multiplies it by another such operand only",
                  arg.span, f"`{fmt.name}`",
                  notes=["bf16 holds an element times a scale of eight bits, but not times an f32",
                         "of one product of two operands with f32 scales, partial sums are scaled"],
                  help="use e4m3 or e8m0 scales (nvfp4, mxfp8), or a kernel of its own with f32 scales on both sides"),
        ]  # fmt: skip
    if fmt.scale is not None and columns != "all" and columns not in SM90A.blocks and columns % TILE_K:
        known = ", ".join(map(str, SM90A.blocks))
        return [
            error("FP4202", f"`{fmt.name}` stores a scale per {rows} x {columns}: {SM90A.name} takes others", arg.span,
                  f"`{fmt.name}`",
                  notes=[f"a step along K is {TILE_K} elements: a scale covers {known} of them, whole steps, or all"],
                  help="store them `per 1 x 16` (nvfp4) or `per 1 x 32` (mx formats)"),
        ]  # fmt: skip
    if beside is not None and (why := why_not_dequantized(fmt, wide)) is not None:
        held = why_not_dequantized(fmt, "bf16") is None
        return [
            error("FP4205", f"`{fmt.name}` cannot be multiplied by {beside} on {SM90A.name}", arg.span, f"`{fmt.name}`",
                  notes=[f"beside {beside} an operand is dequantized to {wide}, exactly or not at all; {why}"],
                  help="make the other operand bf16, which holds them all" if held
                  else "give it e4m3 scales or elements of four or six bits (nvfp4, mxfp4, mxfp6), "
                       "or quantize the other operand too"),
        ]  # fmt: skip
    return []

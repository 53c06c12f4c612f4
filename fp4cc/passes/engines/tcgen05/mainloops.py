"""The mainloops of a kernel: which products share one, what K must be for each, and which tiles hold them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Constraint, Kernel
from fp4cc.ir.lowered import Mma, Operand, Problem, Product, Tile, Tmem
from fp4cc.ir.sizes import Sizes, fold
from fp4cc.passes.choice.cases import Bounds
from fp4cc.passes.choice.schedule import Request
from fp4cc.passes.engines.tcgen05.legality import Pair, instruction, k_multiple, operand_pair, tile_k
from fp4cc.passes.engines.tcgen05.memory import StageBytes, plan_tmem, stage_bytes
from fp4cc.passes.epilogue.blocks import TooNarrow, panel, whole_panels
from fp4cc.passes.feeds.native import HALF_ATOM, native_scales, starts_in_place
from fp4cc.passes.feeds.steps import Steps
from fp4cc.passes.problem.unzip import Frame, tile_widths
from fp4cc.source import Span
from fp4cc.targets import Target


@dataclass(frozen=True, slots=True)
class Shared:
    """Products of one mainloop: they have A, K and the kind of instruction in common. A pair of formats for each."""

    products: tuple[Product, ...]
    pairs: tuple[Pair, ...]

    @property
    def product(self) -> Product:
        """The first product."""
        return self.products[0]

    @property
    def pair(self) -> Pair:
        """The pair of the first product: kind, block and scale are those of all."""
        return self.pairs[0]

    def steps(self, target: Target, cta_group: int, tile_n: int) -> Steps:
        """The mainloop for a tile."""
        pairs = zip(self.pairs, self.products, strict=True)
        mmas = (instruction(pair, product, target, cta_group, tile_n) for pair, product in pairs)
        return Steps(self.products, tuple(mmas), tile_k(self.pair, target))


def group_products(kernel: Kernel, problem: Problem, target: Target) -> tuple[Shared, ...]:
    """The mainloops in the order of their first products. Raises DiagnosticError with all pairs that are not legal."""
    errors: list[Diagnostic] = []
    groups: dict[tuple[object, ...], list[tuple[Product, Pair]]] = {}
    for product in problem.products:
        try:
            pair = operand_pair(kernel, product, target)
        except DiagnosticError as found:
            errors.extend(found.diagnostics)
            continue
        key = (product.a.arg, product.a.gather, str(product.k), pair.kind.name, pair.block, pair.scale, pair.a)
        groups.setdefault(key, []).append((product, pair))
    if errors:
        raise DiagnosticError(list(dict.fromkeys(errors)))
    return tuple(
        Shared(tuple(product for product, _ in group), tuple(pair for _, pair in group)) for group in groups.values()
    )


def constraints(kernel: Kernel, shared: Sequence[Shared]) -> tuple[Constraint, ...]:
    """What the target asks of each K; what static sizes already break is an error here."""
    found: dict[str, Constraint] = {}
    for group in shared:
        product = group.product
        span = next((d.span for d in kernel.dims if d.name == product.k_axis), kernel.arg(product.a.arg).span)
        wanted = [k_multiple(pair, each, kernel) for pair, each in zip(group.pairs, group.products, strict=True)]
        multiple, reason = max(wanted)
        text = f"{product.k_axis} % {multiple} == 0"
        condition = multiple == 1 or fold("eq", fold("mod", product.k, multiple), 0)
        if condition is False:
            size = int(product.k) if isinstance(product.k, int) else 0
            raise DiagnosticError([
                error("FP4011", f"{product.k_axis} = {size} is not a multiple of {multiple}", span, notes=[reason],
                      help=f"pad {product.k_axis} to {-(-size // multiple) * multiple} with zeros"),
            ])  # fmt: skip
        if condition is not True:
            found[text] = Constraint(condition, text, span, reason)
        several = len(shared) > 1 or len(group.products) > 1
        positive = fold("gt", product.k, 0)
        if several and positive is False:
            raise DiagnosticError([
                error("FP4011", f"{product.k_axis} = 0 in a kernel with several products", span, notes=[_POSITIVE],
                      help="leave the product out"),
            ])  # fmt: skip
        if several and positive is not True:
            text = f"{product.k_axis} > 0"
            found[text] = Constraint(positive, text, span, _POSITIVE)
    return tuple(found.values())


_POSITIVE = "each of several products writes its accumulator at its first step along K"


@dataclass(frozen=True, slots=True)
class Memory:
    """What a tile needs: the mainloops, the bytes of a stage, and tensor memory."""

    steps: tuple[Steps, ...]
    stage: StageBytes
    tmem: Tmem


def most_columns(problem: Problem, kernel: Kernel) -> float:
    """The most columns that a product can have, if all of them are one run of each right operand."""
    most = Bounds.of(kernel).most(problem.n)
    return inf if most is None or any(product.b.half is not None for product in problem.products) else most


class Fit:
    """Which tiles fit, and what they need."""

    def __init__(self, problem: Problem, shared: Sequence[Shared], target: Target) -> None:
        self._problem = problem
        self._shared = shared
        self._target = target

    def memory(self, cta_group: int, tile_n: int, buffers: int | None) -> Memory | None:
        """What a tile needs with so many buffers of accumulators, or None if it does not fit in tensor memory."""
        target = self._target
        steps = tuple(group.steps(target, cta_group, tile_n) for group in self._shared)
        mmas: list[Mma] = [step.mmas[0] for step in steps]
        tile = Tile(mmas[0].m, tile_n, steps[0].tile_k, target.cta_rows)
        bs = max(len(step.products) for step in steps)
        stage = stage_bytes(mmas, bs, tile, target)
        tmem = plan_tmem(mmas, bs, len(self._problem.accumulators), tile, buffers, target)
        return None if tmem is None else Memory(steps, stage, tmem)

    def widths(self, frame: Frame, sizes: Sizes, request: Request) -> tuple[int, ...]:
        """The tile widths that fit. Raises DiagnosticError if none does, or not the one that is asked for."""
        possible = sorted((*self._target.tile_n, *self._target.narrow_n))
        fitting = [n for n in possible if self.memory(1, n, request.accumulators) is not None]
        uncut = [n for n in fitting if self._cut(frame.kernel, n) is None]
        whole = tile_widths(frame, self._problem, uncut)
        if not whole:
            least = next(n for n in possible if self._cut(frame.kernel, n) is None)
            raise DiagnosticError([self._too_many(frame.kernel, request, least)])
        widths = whole_panels(frame, whole)
        if not widths:
            raise TooNarrow(frame, max(whole), "tensor memory has no room for wider ones")
        if request.tile is None or request.schedule is None:
            return self._in_place(frame.kernel, sizes, widths) or widths
        if request.tile[1] not in widths:
            span = request.schedule.field_spans["tile"]
            raise DiagnosticError([self._other_width(frame, span, request.tile[1], widths, fitting, whole)])
        return widths

    def _cut(self, kernel: Kernel, n: int) -> Operand | None:
        """The right operand whose scale atoms tiles of so many columns would cut; None if no atom is cut.

        An MMA can start at the second half of an atom of 128 rows, so multiples of 64 cut none. Of others TMA would
        bring an atom whose first rows belong to another tile, but for a lone tile along N. Converter warps lay each
        tile's scales out from its first row, but not those of halves, which share theirs.
        """
        if n in self._target.tile_n or most_columns(self._problem, kernel) <= n:
            return None
        scaled = (product.b for group in self._shared if group.pair.scale is not None for product in group.products)
        return next((b for b in scaled if b.half is not None), None)

    def _in_place(self, kernel: Kernel, sizes: Sizes, widths: Sequence[int]) -> tuple[int, ...]:
        """Those of the tile widths for which all scales of B lie as the tensor core reads them.

        Where all sizes are known, also those for which converter warps lay them out that TMA else brings: with other
        sizes left open, three times as many schedules would be compared, of which few calls need one.
        """
        bs, facts = [product.b for product in self._problem.products if product.b.scaled], kernel.constraints
        known = isinstance(self._problem.m, int) and isinstance(self._problem.n, int)
        free = known or all(group.pair.scale is None for group in self._shared)
        most = most_columns(self._problem, kernel)

        def brought(b: Operand, n: int) -> bool:
            return native_scales(b, n, facts, sizes, lone=most <= n)

        def fine(b: Operand, n: int) -> bool:
            return starts_in_place(b, n, facts, sizes) and (free or brought(b, n) == brought(b, HALF_ATOM))

        return tuple(n for n in widths if all(fine(b, n) for b in bs))

    def _too_many(self, kernel: Kernel, request: Request, least: int) -> Diagnostic:
        slots, schedule = len(self._problem.accumulators), request.schedule
        if request.accumulators == 2 and schedule is not None:
            return error(
                "FP5014", "`accumulators 2` is not possible", schedule.field_spans["accumulators"],
                f"two buffers of {slots} accumulators each do not fit in tensor memory", help="write `accumulators 1`",
            )  # fmt: skip
        product = kernel.values[self._problem.accumulators[-1]]
        return error(
            "FP4002", f"{slots} accumulators do not fit in tensor memory", product.span, f"accumulator {slots}",
            notes=[f"tensor memory has {self._target.tmem_columns} columns, and a tile {least}, beside the scales"],
            help="write several kernels",
        )  # fmt: skip

    def _other_width(
        self,
        frame: Frame,
        span: Span,
        asked: int,
        widths: Sequence[int],
        fitting: Sequence[int],
        whole: Sequence[int],
    ) -> Diagnostic:
        """Why a width is none of `widths`: those of `fitting` fit, those of `whole` also have whole groups of unzip."""
        wanted = ", ".join(map(str, widths))
        cut = self._cut(frame.kernel, asked)
        if cut is not None and asked in fitting:
            return error(
                "FP5010", f"tiles of {asked} columns would cut the scale atoms of {cut.arg}", span,
                "an atom has 128 rows, and an MMA starts at the first or at the second half of one",
                notes=["converter warps lay out the scales of narrower tiles from each one's first row, but not those "
                       "of halves, which share their atoms"],
                help=f"tile widths that do: {wanted}",
            )  # fmt: skip
        if asked in whole and not whole_panels(frame, (asked,)):
            return error(
                "FP5010", f"a tile of {asked} columns does not hold whole blocks of the outputs", span,
                f"blocks and transforms take {panel(frame)} columns at a time", help=f"tile widths that do: {wanted}",
            )  # fmt: skip
        if asked in fitting and frame.group is not None:
            return error(
                "FP5010", f"a tile of {asked} columns does not hold whole groups of unzip", span,
                f"it must hold {frame.group} columns of both halves", help=f"tile widths that do: {wanted}",
            )  # fmt: skip
        if asked in fitting:
            return error(
                "FP5010", f"a tile of {asked} columns does not lie within a group of unzip", span,
                "columns of each half", help=f"tile widths that do: {wanted}",
            )  # fmt: skip
        slots = len(self._problem.accumulators)
        return error(
            "FP5010", f"tensor memory cannot hold {slots} accumulators of {asked} columns", span,
            "columns of each accumulator", help=f"tile widths that fit: {wanted}",
        )  # fmt: skip

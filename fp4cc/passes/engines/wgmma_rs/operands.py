"""Which products weights in registers serve, and how their codes and scales reach the lanes that convert them.

Each reason why not has a code, FP4290 to FP4296, and is a refusal of this engine alone: it is told to those who ask for
it by its tile, and of others another engine takes the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from fp4cc.diagnostics import Diagnostic, error
from fp4cc.ir.kernel import Expr, Kernel
from fp4cc.ir.lowered import Operand, Problem, Weights, WeightScales, Wide
from fp4cc.ir.lowered.wgmma_rs import FAST_STAGE_K, STAGE_K, WEIGHT_ROWS
from fp4cc.ir.part import Part
from fp4cc.passes.feeds.holding import why_not_held
from fp4cc.passes.feeds.scale_reading import Readers
from fp4cc.passes.problem.divides import divides
from fp4cc.passes.problem.placement import same_placement
from fp4cc.targets.sm90 import SM90A
from fp4num import LAYOUTS

_PLAIN = ("bf16", "f16")
_NARROW = ("e2m1", "e3m2", "e2m3", "e4m3", "e5m2")
_FP8 = ("e4m3", "e5m2")
#: Elements that a scale covers where weights become FP8: those of an instruction along K.
_FAST_BLOCK = 32
#: Blocks along K whose atoms TMA brings: a lane then finds a stage's scales of a row in one word.
_ATOM_BLOCKS = (16, 32)


def wide_of(problem: Problem) -> Literal["bf16", "f16", "e4m3", "e5m2"]:
    """The type of the left operand. Only where `refusals` has none."""
    return next(wide for wide in ("bf16", "f16", "e4m3", "e5m2") if wide == problem.a.element)


def is_fast(kernel: Kernel, problem: Problem) -> bool:
    """Whether all products are fast sums of FP8 by e2m1 with a power of two for each 32, which FP8 holds as well."""
    products = [value for value in kernel.values if value.op == "matmul"]
    return all(product.attrs.get("accumulate") == "fast" for product in products) and all(
        product.a.element in _FP8 and not product.a.scaled and _of_fast(product.b) for product in problem.products
    )


def _of_fast(b: Operand) -> bool:
    if not b.scaled or b.element != "e2m1":
        return False
    return b.format.scale == "e8m0" and b.format.stored[1] == _FAST_BLOCK and b.format.tensor_scale is None


def refusals(kernel: Kernel, problem: Problem) -> list[Diagnostic]:
    """Why this engine does not take a kernel's products; nothing where it does."""
    return list(_refusals(kernel, problem))


def _refusals(kernel: Kernel, problem: Problem) -> Iterator[Diagnostic]:
    first, *others = problem.products
    fast = is_fast(kernel, problem)
    if first.a.element not in _PLAIN and not fast:
        yield _refused(kernel, "FP4290", first.a, f"the left operand is {first.a.name}, not bf16 or f16",
                       "give it bf16 or f16 elements")  # fmt: skip
        return
    paired = kernel.arg(first.a.arg).stands_for is not None
    wide: Wide = "bf16" if first.a.element == "bf16" else "f16"
    for product in () if fast else problem.products:
        b = product.b
        if b.element not in _NARROW:
            yield _refused(kernel, "FP4291", b, f"the right operand is {b.name}, which needs no conversion",
                           "quantize it")  # fmt: skip
        elif not (paired and _taken_in_pairs(b)) and (why := why_not_held(b, wide)) is not None:
            yield _refused(kernel, "FP4292", b, f"{wide} does not hold it: {why}", "choose another format")
        elif b.scaled and _block_refused(b):
            covered = f"a scale covers {b.format.stored[1]} elements along K"
            why = f"{covered}, neither part of a stage of {STAGE_K} nor whole ones"
            yield _refused(kernel, "FP4293", b, why, "store scales of 16, 32, 64, 128, ...")
    if any((p.a, p.k) != (first.a, first.k) for p in others) or len(problem.accumulators) < len(problem.products):
        yield _refused(kernel, "FP4294", first.a, "its products do not share a left operand, each with sums of its own",
                       "write several kernels")  # fmt: skip
    if len({_kind(product.b) for product in problem.products}) > 1:
        yield _refused(kernel, "FP4295", others[-1].b, "right operands differ in elements or scales",
                       "give them one format")  # fmt: skip


def _taken_in_pairs(operand: Operand) -> bool:
    """Whether an operand beside another one with block scales becomes bf16, exactly while it stays in its range."""
    return operand.scaled and operand.format.scale in ("e4m3", "e8m0")


def _refused(kernel: Kernel, code: str, operand: Operand, why: str, help: str) -> Diagnostic:
    return error(code, f"weights in registers do not serve this product: {why}", kernel.arg(operand.arg).span,
                 operand.name, help=help)  # fmt: skip


def _block_refused(operand: Operand) -> bool:
    columns = operand.format.stored[1]
    return (
        operand.format.scale is not None and columns != "all" and columns not in SM90A.blocks and columns % STAGE_K > 0
    )


def _kind(operand: Operand) -> object:
    fmt = operand.format if operand.scaled else None
    return (operand.element, None if fmt is None else (fmt.scale, fmt.stored, fmt.layout))


def plan_weights(problem: Problem, columns: int, readers: Readers, *, fast: bool = False) -> tuple[Weights, ...]:
    """The right operands side by side in a tile's weight rows, `columns` of each, in the order of their sums."""
    found: list[Weights] = []
    stage_k = FAST_STAGE_K if fast else STAGE_K
    for place, product in enumerate(sorted(problem.products, key=lambda p: p.slot)):
        b = product.b
        scales = _scales(b, product.k, columns, readers, stage_k)
        found.append(Weights(b, Part("B", place), place * columns, columns, stage_k * b.bits // 8, scales))
    atoms = {each.scales.reader is None for each in found if each.scales is not None}
    if len(atoms) > 1:  # all alike: where one's cannot come in atoms, lanes read those of all
        found = [
            Weights(w.operand, w.part, w.first, w.rows, w.row_bytes, _read(w.operand, problem.k, readers, stage_k))
            for w in found
        ]
    return tuple(found)


def _scales(operand: Operand, k: Expr, rows: int, readers: Readers, stage_k: int) -> WeightScales | None:
    if not operand.scaled or operand.format.scale is None:
        return None
    tall, block = operand.format.stored
    # Atoms are read whole, padding included: another padding than zeros might be NaNs.
    laid_out = tall == 1 and same_placement(operand.format.layout, LAYOUTS["blocked_128x4"])
    if laid_out and block in _ATOM_BLOCKS and _in_one_atom(operand, rows, readers):
        return WeightScales(_type(operand), int(block), None, None, stage_k)
    return _read(operand, k, readers, stage_k)


def _read(operand: Operand, k: Expr, readers: Readers, stage_k: int) -> WeightScales:
    block = operand.format.stored[1]
    block = block if isinstance(block, int) else 0
    count = max(1, stage_k // block) if block else 1
    return WeightScales(_type(operand), block, readers.scales(operand, k, count), readers.rows(operand), stage_k)


def _type(operand: Operand) -> Literal["e4m3", "e8m0"]:
    return "e4m3" if operand.format.scale == "e4m3" else "e8m0"


def _in_one_atom(operand: Operand, rows: int, readers: Readers) -> bool:
    """Whether every tile is known to lie within an atom of 128 rows. Halves that take turns do it in whole tiles."""
    takes_turns = operand.half is not None and operand.half.group is not None
    return takes_turns or divides(rows, operand.first_row, readers.facts, readers.sizes)


def columns_of(slots: int) -> int | None:
    """Columns of each of so many accumulators: theirs together are a tile's weight rows. None: there are too many."""
    return next((n for n in (WEIGHT_ROWS, 64, 32) if slots * n <= WEIGHT_ROWS), None)

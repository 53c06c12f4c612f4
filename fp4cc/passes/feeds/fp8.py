"""Products of FP8 as it is: where a kernel says that fewer bits of its sums will do (`accumulate = fast`).

The tensor core keeps some 14 bits of a sum (docs/numerics.md), so what it has after 128 along K is added in f32
registers, times the f32 scales of those 128 (DeepSeek-AI 2024, section 3.3.2). Scales of whole rows go to the epilogue.
What does not fit stays with bf16, whose sums are those of f32: never worse than the kernel allows.
"""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import FP8_TILE_K, Problem, Promotion
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.epilogue.blocks import whole_panels
from fp4cc.passes.feeds.promoted_scales import is_promoted, promoted_product, promoted_scales
from fp4cc.passes.feeds.scale_reading import Needs, Readers
from fp4cc.passes.problem.unzip import Frame, find_products, tile_widths
from fp4cc.passes.rewrites.row_scales import split_row_scales
from fp4cc.targets.sm90 import SM90A

_ELEMENTS = ("e4m3", "e5m2")


@dataclass(frozen=True, slots=True)
class Fp8Work:
    """A product of FP8: its kernel, with scales of whole rows as factors, and what is decided before a schedule."""

    kernel: Kernel
    problem: Problem
    frame: Frame
    needs: Needs
    promotion: Promotion | None


def fp8_work(kernel: Kernel) -> Fp8Work | str:
    """The product of a kernel on fp8 wgmma, or why there is none. Raises what `promoted_product` does."""
    products = [value for value in kernel.values if value.op == "matmul"]
    if not products or any(product.attrs.get("accumulate") != "fast" for product in products):
        return "its sums are those of f32"
    if len(products) > 1:
        return "there are no registers for the partial sums of several products"
    split = split_row_scales(kernel)
    sizes = Sizes.of(kernel.dims)
    dtypes = [split.values[o].dtype for value in split.values if value.op == "matmul" for o in value.operands]
    if all(dtype in _ELEMENTS for dtype in dtypes):
        return _plain(split, sizes)
    if is_promoted(kernel):
        return _promoted(kernel, sizes)
    return "block scales are applied to elements, which then are bf16, unless both operands have them in f32"


def _plain(kernel: Kernel, sizes: Sizes) -> Fp8Work | str:
    problem, frame = find_products(kernel, sizes, SM90A.tile_n)
    if len(problem.products) > 1:
        return "`unzip` makes two products of it"
    if not tile_widths(frame, problem, [SM90A.tile_n]) or not whole_panels(frame, (SM90A.tile_n,)):
        return f"its tile has fewer than {SM90A.tile_n} columns"
    return Fp8Work(kernel, problem, frame, Needs(kernel.args), None)


def _promoted(kernel: Kernel, sizes: Sizes) -> Fp8Work | str:
    problem, frame = promoted_product(kernel, sizes, SM90A.elements)
    needs = Needs(kernel.args)
    a, b = promoted_scales(problem, Readers(kernel, sizes, problem, kernel.constraints, needs))
    if b.each_row:
        return "scales of each column and step do not fit in registers"
    return Fp8Work(kernel, problem, frame, needs, Promotion(a, b, FP8_TILE_K))

"""Which tcgen05.mma multiplies the two operands; why not, where none does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Kernel
from fp4cc.ir.lowered import Mma, Operand, Product
from fp4cc.ir.lowered_converters import RUN, UNIT
from fp4cc.passes.feeds.holding import WIDE, why_not_held
from fp4cc.passes.feeds.steps import converted
from fp4cc.targets import Kind, Target


@dataclass(frozen=True, slots=True)
class Pair:
    """The instruction kind two operands can share, with the block and scale type they have in common.

    Plain operands have none: their block is 0. `a` and `b` are the elements that the tensor core reads; an operand of
    another type, or with scales that the kind does not take, is converted to them on the way in.
    """

    kind: Kind
    block: int
    scale: Literal["e4m3", "e8m0"] | None
    a: str
    b: str


def operand_pair(kernel: Kernel, product: Product, target: Target) -> Pair:
    """The kind for a product's operands. Raises DiagnosticError with every reason there is none."""
    a_arg, b_arg = kernel.arg(product.a.arg), kernel.arg(product.b.arg)
    if not (product.a.scaled and product.b.scaled):
        return _plain_pair(a_arg, b_arg, product, target)
    errors = [*_operand_errors(a_arg, product.a, target), *_operand_errors(b_arg, product.b, target)]
    if errors:
        raise DiagnosticError(errors)
    a, b = product.a.format, product.b.format
    ours, theirs = (f"{o.format.scale} per {_block(o)}" for o in (product.a, product.b))
    if ours != theirs:
        raise DiagnosticError([
            error("FP4204", f"the operands' scales differ: {ours} and {theirs}", a_arg.span, f"scales {ours}",
                  also=[(b_arg.span, f"scales {theirs}")],
                  notes=["one tcgen05.mma has one scale type and one block size for both operands"],
                  help="quantize both to formats with the same scale type and block"),
        ])  # fmt: skip
    block, scale = _block(product.a), cast("Literal['e4m3', 'e8m0']", a.scale)
    # Four-bit elements share every block and scale with themselves, all others only e8m0 per 32: some kind takes both.
    kind = next(
        kind
        for kind in target.kinds
        if {a.element, b.element} <= kind.formats.keys() and scale in kind.blocks.get(block, ())
    )
    if product.a.divided and kind.padded and min(product.a.bits, product.b.bits) < 8:
        raise DiagnosticError([_divided_error(a_arg, b_arg, product, target)])
    return Pair(kind, block, scale, a.element, b.element)


def _divided_error(a_arg: Arg, b_arg: Arg, product: Product, target: Target) -> Diagnostic:
    """Groups along K start at any multiple of 32, where TMA cannot begin to unpack elements."""
    return error(
        "FP4070", f"{product.a.name} by {product.b.name} cannot be multiplied over rows in groups on {target.name}",
        a_arg.span, product.a.name, also=[(b_arg.span, product.b.name)],
        notes=["a group starts at any multiple of 32, and TMA unpacks elements of fewer than 8 bits in runs of 128"],
        help="give both operands elements of 8 bits, or both of 4",
    )  # fmt: skip


def _plain_pair(a_arg: Arg, b_arg: Arg, product: Product, target: Target) -> Pair:
    """The kind for operands that do not both have block scales.

    fp8 types are multiplied by one another as they are, f16 and bf16 by their own type. Any others are converted to f16
    or bf16, where that holds both.
    """
    a, b = product.a, product.b
    both_plain = not (a.scaled or b.scaled)
    for kind in target.plain_kinds:
        if both_plain and {a.element, b.element} <= kind.formats.keys() and (a.element == b.element or kind.k > 16):
            return Pair(kind, 0, None, a.element, b.element)
    reasons = {to: [why_not_held(a, to), why_not_held(b, to)] for to in WIDE}
    to = next((to for to in WIDE if reasons[to] == [None, None]), None)
    if to is not None:
        errors = [*_block_errors(a_arg, a, to), *_block_errors(b_arg, b, to)]
        if errors:
            raise DiagnosticError(errors)
        return Pair(target.kind("f16"), 0, None, to, to)
    notes = [f"both as {to}: {'; '.join(dict.fromkeys(filter(None, reasons[to])))}" for to in WIDE]
    raise DiagnosticError([
        error("FP4005", f"{a.name} by {b.name} cannot be multiplied on {target.name}", a_arg.span, a.name,
              also=[(b_arg.span, b.name)],
              notes=[f"the tensor core multiplies two operands with block scales, or two plain ones; {_MEET}", *notes],
              help=_nearest(a, b)),
    ])  # fmt: skip


_MEET = "other pairs meet in the 16-bit type that holds both exactly"


def _nearest(a: Operand, b: Operand) -> str:
    """What to write instead of a pair that no 16-bit type holds."""
    for operand in (a, b):
        if operand.scaled and operand.format.scale == "f32":
            return f"give `{operand.arg}` e4m3 or e8m0 scales (nvfp4, mxfp4), or both operands f32 scales"
        if operand.scaled and why_not_held(operand, "bf16") is not None:
            return (
                f"give `{operand.arg}` e4m3 scales or elements of four or six bits (nvfp4, mxfp4, mxfp6), "
                "or quantize the other operand too"
            )
    for operand, other in ((a, b), (b, a)):
        if why_not_held(other, "bf16") is None and operand.element != "bf16":
            return f"give `{operand.arg}` the type bf16"
    return "give both the type bf16"


def _block_errors(arg: Arg, operand: Operand, to: str) -> list[Diagnostic]:
    """Why an operand with scales cannot be converted: a lane converts runs of 8 elements, each with one scale."""
    if not operand.scaled:
        return []
    fmt = operand.format
    columns = fmt.stored[1]
    if fmt.scale is None or columns == "all" or (columns >= RUN and columns & (columns - 1) == 0):
        return []
    rows = fmt.stored[0]
    return [
        error("FP4202", f"`{fmt.name}` stores a scale per {rows} x {columns}: it cannot be converted to {to}", arg.span,
              f"`{fmt.name}`", notes=[f"warps convert runs of {RUN} elements along K, which must share a scale"],
              help=f"use blocks of a power of two along K, at least {RUN}"),
    ]  # fmt: skip


def instruction(pair: Pair, product: Product, target: Target, cta_group: int, tile_n: int) -> Mma:
    """The tcgen05.mma for a pair of formats and a tile."""
    kind = pair.kind
    per_instruction = kind.k // pair.block if pair.block else 0
    return Mma(
        kind=kind.name,
        block=pair.block,
        scale=pair.scale,
        cta_group=cast("Literal[1, 2]", cta_group),
        m=target.cta_rows * cta_group,
        n=tile_n,
        k=kind.k,
        a=pair.a,
        b=pair.b,
        a_format=kind.formats[pair.a],
        b_format=kind.formats[pair.b],
        scale_format=target.scale_formats[pair.scale] if pair.scale else 0,
        scales_per_instruction=per_instruction,
        instructions_per_atom=4 // per_instruction if pair.scale else 0,
        instructions_per_tile_k=tile_k(pair, target) // kind.k,
        across=(product.a.across, product.b.across),
    )


def tile_k(pair: Pair, target: Target) -> int:
    """Elements of K a stage holds: what one swizzle row of shared memory takes, 32 bytes an instruction."""
    return target.tile_k_bytes // 32 * pair.kind.k


def k_multiple(pair: Pair, product: Product) -> tuple[int, str]:
    """What K must be a multiple of, and why."""
    if pair.scale is None:
        return max(_plain_multiple(product.a, pair.a), _plain_multiple(product.b, pair.b))
    padded = [o for o in (product.a, product.b) if pair.kind.padded and o.bits < 8]
    if padded:
        names = " and ".join(f"{o.arg} ({o.element})" for o in padded)
        return (
            128,
            f"TMA unpacks the 4- and 6-bit elements of {names} in groups of 128 (16U4/16U6_ALIGN16B tensor maps)",
        )
    if product.a.divided:
        return 32, f"each group of {product.k_axis} is whole units of 32: its blocks start anew"
    if pair.block < 32:
        return 32, "a row of 4-bit codes must start on 16 bytes for TMA"
    return pair.block, f"scale blocks of {pair.block} along K"


def _plain_multiple(operand: Operand, to: str) -> tuple[int, str]:
    if operand.across:
        return 1, ""
    if not converted(operand, to):
        return 128 // operand.bits, f"a row of {operand.name} must start on 16 bytes for TMA"
    return UNIT[operand.bits], f"warps load {UNIT[operand.bits]} {operand.element} elements of {operand.arg} at a time"


def _block(operand: Operand) -> int:
    """The scale block along K as stored."""
    columns = operand.format.stored[1]
    return columns if isinstance(columns, int) else 0


def _operand_errors(arg: Arg, operand: Operand, target: Target) -> list[Diagnostic]:
    fmt = operand.format
    kinds = [kind for kind in target.kinds if fmt.element in kind.formats]
    rows, columns = fmt.stored  # of any number of rows: converter warps repeat what is stored once
    blocks = {block: scales for kind in kinds for block, scales in kind.blocks.items()}
    if columns not in blocks:
        return [
            error("FP4202", f"`{fmt.name}` stores a scale per {rows} x {columns}: {target.name} takes {_or(blocks)}",
                  arg.span, f"`{fmt.name}`", notes=_kind_notes(target),
                  help="store them `per 1 x 16` (nvfp4) or `per 1 x 32` (mx formats)"),
        ]  # fmt: skip
    scales = blocks[int(columns)]
    if fmt.scale not in scales:
        return [
            error("FP4203", f"scale block of {columns} needs {' or '.join(scales)} scales on {target.name}", arg.span,
                  f"`{fmt.name}` has {fmt.scale} scales", notes=_kind_notes(target),
                  help="write `scale e8m0 per 1 x 32` (mxfp4) or `scale e4m3 per 1 x 16` (nvfp4)"),
        ]  # fmt: skip
    return []


def _kind_notes(target: Target) -> tuple[str, ...]:
    return tuple(
        f"kind::{kind.name}: {'/'.join(kind.formats)} with "
        + "; ".join(f"{' or '.join(scales)} per {block}" for block, scales in kind.blocks.items())
        for kind in target.kinds
    )


def _or(blocks: dict[int, tuple[str, ...]]) -> str:
    return "blocks of " + " or ".join(str(block) for block in sorted(blocks)) + " along K"

"""Which tcgen05.mma multiplies the two operands; why not, where none does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Kernel
from fp4cc.ir.lowered import Mma, Operand, Product
from fp4cc.targets import Kind, Target


@dataclass(frozen=True, slots=True)
class Pair:
    """The instruction kind two operands can share, with the block and scale type they have in common.

    Plain operands have none: their block is 0.
    """

    kind: Kind
    block: int
    scale: Literal["e4m3", "e8m0"] | None


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
    return Pair(kind, block, scale)


def _plain_pair(a_arg: Arg, b_arg: Arg, product: Product, target: Target) -> Pair:
    """The kind for operands without block scales: f16 and bf16 by their own type only, fp8 types by one another."""
    a, b = product.a.element, product.b.element
    both_plain = not (product.a.scaled or product.b.scaled)
    for kind in target.plain_kinds:
        if both_plain and {a, b} <= kind.formats.keys() and (a == b or kind.name != "f16"):
            return Pair(kind, 0, None)
    legal: list[str] = []
    for kind in target.plain_kinds:
        alone = kind.name == "f16"
        legal.extend(f"{x} by {x}" for x in (kind.formats if alone else ("/".join(kind.formats),)))
    names = (product.a.name, product.b.name)
    raise DiagnosticError([
        error("FP4005", f"{names[0]} by {names[1]} cannot be multiplied on {target.name} yet", a_arg.span, names[0],
              also=[(b_arg.span, names[1])],
              notes=[f"without block scales it multiplies {', '.join(legal)}"],
              help="give both operands block formats, or both one plain type"),
    ])  # fmt: skip


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
        a_format=kind.formats[product.a.element],
        b_format=kind.formats[product.b.element],
        scale_format=target.scale_formats[pair.scale] if pair.scale else 0,
        scales_per_instruction=per_instruction,
        instructions_per_atom=4 // per_instruction if pair.scale else 0,
        instructions_per_tile_k=tile_k(pair, target) // kind.k,
    )


def tile_k(pair: Pair, target: Target) -> int:
    """Elements of K a stage holds: what one swizzle row of shared memory takes, 32 bytes an instruction."""
    return target.tile_k_bytes // 32 * pair.kind.k


def k_multiple(pair: Pair, product: Product) -> tuple[int, str]:
    """What K must be a multiple of, and why."""
    if pair.scale is None:
        return 128 // product.a.bits, f"a row of {product.a.name} must start on 16 bytes for TMA"
    padded = [o for o in (product.a, product.b) if pair.kind.padded and o.bits < 8]
    if padded:
        names = " and ".join(f"{o.arg} ({o.element})" for o in padded)
        return (
            128,
            f"TMA unpacks the 4- and 6-bit elements of {names} in groups of 128 (16U4/16U6_ALIGN16B tensor maps)",
        )
    if pair.block < 32:
        return 32, "a row of 4-bit codes must start on 16 bytes for TMA"
    return pair.block, f"scale blocks of {pair.block} along K"


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

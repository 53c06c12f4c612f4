"""Why a product of few rows is made as it is: one `Decision` for each choice, for `explain`."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.ir.lowered import Decision, Decode, LoweredKernel, Strip
from fp4cc.passes.choice.decisions import explain_schedule, explain_stores
from fp4rt.sizes import text


def explain_choices(lowered: LoweredKernel) -> tuple[Decision, ...]:
    """The decisions in the order in which they were made."""
    engine, tile = lowered.engine_as(Decode), lowered.tile
    warps = lowered.launch.threads // 32
    m = lowered.products.m
    bound = f"{lowered.products.m_axis} = {m}" if isinstance(m, int) else text(lowered.when or 1)
    return (
        explain_schedule(lowered),
        Decision("engine", "decode", f"{bound}: few rows, so that time is that of reading the weights once",
                 ("wgmma: its tiles have 128 rows, and 128 columns leave most SMs without one",)),
        Decision("instruction", f"mma.sync m16n8k16, {engine.pairs[0][0].wide}",
                 f"weights are its 16 rows, {engine.groups} x 8 rows of {lowered.products.a.arg} its columns", (),
                 "target"),
        *_operands(engine),
        Decision("tile", f"{engine.rows} x {tile.n} x {engine.step}",
                 f"{warps} warps: {engine.shares} shares of K for each {engine.columns} columns of an accumulator; "
                 "their sums are added in their order"),
        Decision("loads ahead", str(engine.ahead), f"each lane has so many steps of {engine.run} weights on their way"),
        *explain_stores(lowered),
    )  # fmt: skip


def _operands(engine: Decode) -> Iterator[Decision]:
    """How each operand gets into fragments."""
    for name, strip in {strip.operand.arg: strip for pair in engine.pairs for strip in pair}.items():
        yield Decision(f"operand {name}", *_way(strip))


def _way(strip: Strip) -> tuple[str, str]:
    why = "a lane loads a run of a row as it lies in memory, and takes the same elements of both operands"
    if strip.operand.element == strip.wide:
        return "loaded into fragments", why
    if strip.scales is None:
        return f"converted to {strip.wide} in registers", why
    return f"dequantized to {strip.wide} in registers", f"{why}; scales by layout {strip.scales.layout.name}"

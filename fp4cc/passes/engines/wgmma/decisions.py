"""Why a GEMM for Hopper is as it is: one `Decision` for each choice, for `explain`."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.ir.lowered import Decision, LoweredKernel, Wgmma
from fp4cc.ir.lowered.wgmma import slot_of, slotted
from fp4cc.passes.choice.decisions import explain_asked_order, explain_products, explain_schedule
from fp4cc.passes.feeds.fp8 import fp8_work
from fp4cc.passes.feeds.registry import FEEDS
from fp4cc.passes.feeds.spec import Arrival
from fp4cc.passes.resources.split import explain_split


def explain_choices(lowered: LoweredKernel) -> tuple[Decision, ...]:
    """The decisions in the order in which they were made."""
    cluster, tile, smem = lowered.cluster, lowered.tile, lowered.smem
    written = lowered.schedule is not None
    asked = lowered.schedule.fields if lowered.schedule is not None else {}
    return (
        explain_schedule(lowered),
        *explain_products(lowered.products, lowered.mainloops),
        *_instructions(lowered),
        *_not_fast(lowered),
        *_operands(lowered),
        *_promotion(lowered),
        Decision("tile", f"{tile.m} x {tile.n} x {tile.k}",
                 f"{len(lowered.products.accumulators) * tile.n} sums a thread, and 128 bytes of a row: a swizzle row",
                 (), "target"),
        Decision("cluster", f"{cluster.m} x {cluster.n}",
                 "two CTAs along M share each load of B" if cluster.m == 2 else "each CTA frees its stages by itself",
                 ("2 x 1: two CTAs share loads of B, but to free a stage for both costs more (benchmarks/hopper.md)",)
                 if cluster.m == 1 else (),
                 "schedule" if "cluster" in asked else "compiler"),
        Decision("stages", str(lowered.rings.stages), f"{smem.total} of {smem.limit} bytes used", (),
                 "schedule" if written and isinstance(asked.get("stages", ("auto",))[0], int) else "compiler"),
        *explain_split(lowered),
        *explain_asked_order(lowered),
    )  # fmt: skip


def _instructions(lowered: LoweredKernel) -> Iterator[Decision]:
    """The instruction of each mainloop."""
    for number, (wide, loop) in enumerate(zip(lowered.engine_as(Wgmma).wides, lowered.mainloops, strict=True)):
        feeds = slotted([loop])
        if any(feed.scaled for feed in feeds):
            why = f"Hopper has no block-scaled tensor core: operands are dequantized to {wide}, exactly"
            others = ("fp8 wgmma: e4m3 cannot hold an element times its scale",)
        elif feeds:
            why = f"operands are converted to {wide}, exactly, so that sums are those of f32"
            others = ("fp8 wgmma: it keeps fewer bits of a sum than f32 has",)
        else:
            why, others = "both operands are of that type", ()
        what = f"instruction {number + 1}" if number else "instruction"
        columns = lowered.tile.n if lowered.promotion is None else lowered.tile.n // 2
        yield Decision(what, f"wgmma.mma_async m64n{columns}k16, {wide}", why, others, "target")


def _not_fast(lowered: LoweredKernel) -> Iterator[Decision]:
    """Why a product that may be fast is not."""
    fast = any(value.attrs.get("accumulate") == "fast" for value in lowered.kernel.values)
    if fast and isinstance(why := fp8_work(lowered.kernel), str):
        yield Decision("accumulate", "f32", f"fp8 wgmma takes none of this kernel: {why}", (), "compiler")


def _promotion(lowered: LoweredKernel) -> Iterator[Decision]:
    """Where f32 scales meet the sums."""
    if lowered.promotion is not None:
        yield Decision(
            "promotion", f"every {lowered.promotion.step} along K",
            "what one pair of scales covers: the partial sums of a quarter of the tile are scaled and added in f32",
            ("partial sums of all of it: 256 registers a thread",),
        )  # fmt: skip


def _operands(lowered: LoweredKernel) -> Iterator[Decision]:
    """How each operand gets to where wgmma reads it."""
    found = {
        operand.arg: (mainloop, part, operand) for mainloop in lowered.mainloops for part, operand in mainloop.operands
    }
    for arg, (mainloop, part, operand) in found.items():
        what, feed = f"operand {arg}", slot_of(mainloop, part)
        if feed is None:
            why = f"it is {operand.element} already; the load swizzles its rows"
            yield Decision(what, "read by wgmma where TMA puts it", why)
        else:
            yield FEEDS.of(feed).explain(feed, Arrival(what, lowered, mainloop, operand, 0))

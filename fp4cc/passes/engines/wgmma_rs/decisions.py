"""Why a GEMM with weights in registers is as it is: one `Decision` for each choice, for `explain`."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.ir.lowered import Decision, LoweredKernel, Weights, WgmmaRS
from fp4cc.ir.lowered.wgmma_rs import FAST_RANGE
from fp4cc.passes.choice.decisions import explain_asked_order, explain_products, explain_schedule, explain_stores
from fp4cc.passes.resources.split import explain_split


def explain_choices(lowered: LoweredKernel) -> tuple[Decision, ...]:
    """The decisions in the order in which they were made."""
    tile, smem, engine = lowered.tile, lowered.smem, lowered.engine_as(WgmmaRS)
    asked = lowered.schedule.fields if lowered.schedule is not None else {}
    return (
        explain_schedule(lowered),
        *explain_products(lowered.products, lowered.mainloops),
        Decision("engine", "weights from registers, transposed",
                 "wgmma takes only its A from registers: what is converted does not pass through shared memory again",
                 ("convert to shared memory: the same warps would convert and multiply",)),
        _instruction(engine),
        Decision(f"operand {lowered.products.a.arg}", "read by wgmma where TMA puts it",
                 f"it is {engine.wide} already; the load swizzles its rows", (), "target"),
        *(Decision(f"operand {each.operand.arg}", f"made {'e5m2' if engine.fast else engine.wide} in registers",
                   _way(each), (), "target") for each in engine.weights),
        *_range(engine),
        Decision("tile", f"{tile.m} x {tile.n} x {tile.k}",
                 f"{engine.rows // 2} sums a thread; a weight is converted once for {engine.rows} rows"
                 + (", by warpgroups that take stages in turns" if engine.turns else ""),
                 ("128 x: more tiles, each of which converts its weights again",) if tile.m > 128 else
                 () if engine.fast else ("256 x: half as many conversions, but SMs without a tile",),
                 "schedule" if "tile" in asked else "compiler"),
        Decision("stages", str(lowered.rings.stages), f"{smem.total} of {smem.limit} bytes used", (),
                 "schedule" if isinstance(asked.get("stages", ("auto",))[0], int) else "compiler"),
        *explain_split(lowered),
        *explain_asked_order(lowered),
        *explain_stores(lowered),
    )  # fmt: skip


def _instruction(engine: WgmmaRS) -> Decision:
    if not engine.fast:
        what = f"wgmma.mma_async m64n{engine.rows}k16, {engine.wide}, A in registers"
        why = f"weights become {engine.wide}, exactly, while the stage before is multiplied"
        return Decision("instruction", what, why, (), "target")
    what = f"wgmma.mma_async m64n{engine.rows}k32, e5m2 by {engine.wide}, A in registers"
    why = "`accumulate = fast`: the tensor core keeps fewer bits of sums, added in f32 every 128 along K"
    return Decision("instruction", what, why, ("conversion to bf16: sums of f32, at half the rate",), "target")


def _range(engine: WgmmaRS) -> Iterator[Decision]:
    """How block scales are applied where weights become FP8."""
    if engine.fast:
        why = (
            f"it holds e2m1 times {FAST_RANGE} powers of two: from 2^-16 of a row's largest scale at the start of K on"
        )
        other = "a factor in f32 for each 32 along K: from where a row's scales leave that range to the tile's end"
        yield Decision("scales", "exponents of e5m2, relative to a row's lowest", why, (other,), "target")


def _way(weights: Weights) -> str:
    if weights.scales is None:
        return "a lane reads the codes of its two rows"
    if weights.scales.reader is None:
        return "a lane reads the codes and scales of its two rows; TMA brings the scales' atoms with the codes"
    layout = weights.scales.reader.layout.name
    return f"a lane reads the codes of its two rows, and their scales by layout {layout}, a stage ahead"

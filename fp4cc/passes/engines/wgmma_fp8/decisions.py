"""Why a product of FP8 as it is is as it is: one `Decision` for each choice, for `explain`."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.ir.lowered import Decision, LoweredKernel, WgmmaFp8
from fp4cc.passes.choice.decisions import explain_asked_order, explain_products, explain_schedule
from fp4cc.passes.resources.split import explain_split


def explain_choices(lowered: LoweredKernel) -> tuple[Decision, ...]:
    """The decisions in the order in which they were made."""
    tile, smem, engine = lowered.tile, lowered.smem, lowered.engine_as(WgmmaFp8)
    asked = lowered.schedule.fields if lowered.schedule is not None else {}
    (product,) = lowered.products.products
    columns = engine.columns(tile.n)
    return (
        explain_schedule(lowered),
        *explain_products(lowered.products, lowered.mainloops),
        Decision("instruction", f"wgmma.mma_async m64n{columns}k32, {product.a.element} by {product.b.element}",
                 "`accumulate = fast`: the tensor core keeps fewer bits of sums, added in f32 every 128 along K",
                 ("conversion to bf16: sums of f32, at half the rate",), "target"),
        *(Decision(f"operand {operand.arg}", "read by wgmma where TMA puts it",
                   f"it is {operand.element} already; the load swizzles its rows", (), "target")
          for operand in dict.fromkeys((product.a, product.b))),
        *_promotion(lowered),
        Decision("tile", f"{engine.rows} x {tile.n} x {tile.k}", _rows(engine, columns),
                 ("64 or 16 x: for no more rows, whose loads would be of zeros",) if not engine.few else (),
                 "schedule" if "tile" in asked else "compiler"),
        *_cluster(lowered),
        Decision("stages", str(lowered.rings.stages), f"{smem.total} of {smem.limit} bytes used", (),
                 "schedule" if isinstance(asked.get("stages", ("auto",))[0], int) else "compiler"),
        *explain_asked_order(lowered),
        *explain_split(lowered),
    )  # fmt: skip


def _rows(engine: WgmmaFp8, columns: int) -> str:
    which = "all rows, by half of the columns" if engine.few else "64 rows"
    return (
        f"two warpgroups have {which} each: {columns // 2} sums a thread and as many of a step; one adds its in f32 "
        "while the other multiplies"
    )


def _cluster(lowered: LoweredKernel) -> Iterator[Decision]:
    cluster, fields = lowered.cluster, lowered.schedule.fields if lowered.schedule is not None else {}
    yield Decision(
        "cluster", f"{cluster.m} x {cluster.n}",
        "two CTAs along M share each load of B" if cluster.m == 2 else "each CTA frees its stages by itself",
        ("2 x 1: two CTAs share loads of B, where there are tiles for both",) if cluster.m == 1 else
        ("1 x 1: more loads from L2",),
        "schedule" if "cluster" in fields else "compiler",
    )  # fmt: skip


def _promotion(lowered: LoweredKernel) -> Iterator[Decision]:
    """Where f32 scales meet the sums."""
    if lowered.promotion is not None:
        yield Decision(
            "promotion", f"every {lowered.promotion.step} along K",
            "what one pair of scales covers: partial sums are scaled and added in f32",
        )  # fmt: skip

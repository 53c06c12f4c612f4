"""What a schedule block asks of an engine: done, or refused with the reason."""

from __future__ import annotations

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source

HEAD = "kernel gemm(M, N, K) {{ in a : {a}[M, K]; in b : {b}[N, K]; out c : bf16[M, N]; c = a @ b.T }}\n"
#: The engines of sm_90a by what they multiply.
HOPPER = {"wgmma": ("nvfp4", "nvfp4"), "wgmma_rs": ("bf16", "nvfp4")}
#: A value of each field that no engine of the target takes.
REFUSED = {
    "sm_90a": ["cta_group 2", "accumulators 2", "swap_ab yes", "reduce atomic", "store tma", "store direct"],
    "sm_100a": ["split_k 4", "reduce atomic", "store tma", "store direct"],
}
#: What asks an engine of sm_90a for what it does anyway.
HARMLESS = ["cta_group 1", "accumulators auto", "accumulators 1", "swap_ab no", "swap_ab auto", "reduce ordered",
            "store auto", "raster auto", "stages auto", "split_k 1"]  # fmt: skip


def lowered(fields: str, a: str, b: str, target: str = "sm_90a", when: str = "") -> LoweredKernel:
    text = HEAD.format(a=a, b=b) + f"schedule gemm on {target} {when}{{ {fields} }}\n"
    (kernel,) = analyze(Source("gemm.fp4", text)).raise_errors().kernels
    return lower(kernel, target)


@pytest.mark.parametrize(
    ("target", "types", "field"),
    [
        *(("sm_90a", types, field) for types in HOPPER.values() for field in REFUSED["sm_90a"]),
        *(("sm_100a", (a, "nvfp4"), field) for a in ("nvfp4", "bf16") for field in REFUSED["sm_100a"]),
        *(("sm_100a", ("ds_act", "ds_weight"), field) for field in ("raster 4", "reduce atomic", "split_k 2")),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field_and_the_reason(target: str, types: tuple[str, str], field: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        lowered(field, *types, target)
    (found,) = caught.value.diagnostics
    assert found.code == "FP5013"
    assert found.span is not None
    assert found.span.source.text[found.span.start : found.span.end] == field
    assert found.notes
    assert all(len(note) > 30 for note in found.notes)
    assert found.help


@pytest.mark.parametrize("engine", HOPPER)
@pytest.mark.parametrize("field", HARMLESS)
def test_what_is_done_anyway_may_be_written(engine: str, field: str) -> None:
    plan, plain = lowered(field, *HOPPER[engine]), lowered("", *HOPPER[engine])
    assert plan.engine is not None
    assert plan.engine.name == engine
    assert (plan.tile, plan.walk, plan.smem) == (plain.tile, plain.walk, plain.smem)


@pytest.mark.parametrize("field", [field for field in HARMLESS if field != "split_k 1"])
def test_few_rows_keep_their_engine(field: str) -> None:
    variant = lowered(field, "bf16", "nvfp4", when="when M <= 16 ").variants[0]
    assert variant.engine is not None
    assert variant.engine.name == "decode"


@pytest.mark.parametrize("engine", HOPPER)
@pytest.mark.parametrize(("order", "band"), [("along_m", 1), ("along_n", 0), ("4", 4)])
def test_hopper_takes_tiles_in_the_order_asked_for(engine: str, order: str, band: int) -> None:
    plan = lowered(f"raster {order}", *HOPPER[engine])
    assert plan.engine is not None
    assert (plan.engine.name, plan.walk.band) == (engine, band)
    (decision,) = [d for d in plan.decisions if d.what == "order of tiles"]
    assert decision.chosen_by == "schedule"

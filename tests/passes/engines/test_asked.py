"""What a schedule block asks of an engine: done, or refused with the reason."""

from __future__ import annotations

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt.sizes import evaluate

HEAD = "kernel gemm(M, N, K) {{ in a : {a}[M, K]; in b : {b}[N, K]; out c : bf16[M, N]; c = a @ b.T }}\n"
#: The engines of sm_90a by what they multiply.
HOPPER = {"wgmma": ("nvfp4", "nvfp4"), "wgmma_rs": ("bf16", "nvfp4")}
#: A value of each field that no engine of the target takes.
REFUSED = {
    "sm_90a": ["cta_group 2", "accumulators 2", "swap_ab yes"],
    "sm_100a": ["convert once"],
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
        *(("sm_100a", ("ds_act", "ds_weight"), field)
          for field in ("raster 4", "cta_group 2", "store tma")),
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


SPLIT = {
    "FP4030": (HEAD.format(a="nvfp4", b="nvfp4"), "split_k 17"),
    "FP4031": (
        "kernel gemm(E, M, N, K) { in offsets : i32[E + 1]; in a : nvfp4[M by offsets, K]; in b : nvfp4[E, N, K]\n"
        "out c : bf16[M by offsets, N]; c = a @ b.T }\n",
        "split_k 2",
    ),
    "FP4032": (
        "kernel gemm(M, N, K, R) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; in d : bf16[M, R]; in e : bf16[N, R]\n"
        "out c : bf16[M, N]; c = a @ b.T + d @ e.T }\n",
        "split_k auto",
    ),
}


def test_swapped_weights_are_left_operands() -> None:
    """Two products of one x have two ways along K where they are swapped; the compiler does not swap them unasked."""
    text = (
        "kernel gemm(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; in d : nvfp4[N, K]; out c : bf16[M, N]\n"
        "c = silu(a @ b.T) * (a @ d.T) }\nschedule gemm on sm_100a { split_k 2; swap_ab SWAP }\n"
    )
    for swap in ("auto", "no"):
        (kernel,) = analyze(Source("gemm.fp4", text.replace("SWAP", swap))).raise_errors().kernels
        assert lower(kernel, "sm_100a").split is not None
    (kernel,) = analyze(Source("gemm.fp4", text.replace("SWAP", "yes"))).raise_errors().kernels
    with pytest.raises(DiagnosticError) as caught:
        lower(kernel, "sm_100a")
    (found,) = caught.value.diagnostics
    assert found.code == "FP4032"
    assert "swapped" in found.notes[-1]


@pytest.mark.parametrize("code", SPLIT)
@pytest.mark.parametrize("target", ["sm_90a", "sm_100a"])
def test_k_that_cannot_be_split(code: str, target: str) -> None:
    text, field = SPLIT[code]
    text += f"schedule gemm on {target} {{ {field} }}\n"
    (kernel,) = analyze(Source("gemm.fp4", text)).raise_errors().kernels
    with pytest.raises(DiagnosticError) as caught:
        lower(kernel, target)
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert found.span is not None
    assert found.span.source.text[found.span.start : found.span.end] == field


PROMOTED_ROWS = (
    "kernel gemm(E, M, N, K) { in offsets : i32[E + 1]; in a : ds_act[M by offsets, K]; in b : ds_weight[E, N, K]\n"
    "out c : bf16[M by offsets, N]; c = a @ b.T }\nschedule gemm on sm_100a { split_k 2 }\n"
)


def test_promoted_rows_in_groups_are_refused_too() -> None:
    (kernel,) = analyze(Source("gemm.fp4", PROMOTED_ROWS)).raise_errors().kernels
    with pytest.raises(DiagnosticError, match="FP4031|rows in groups"):
        lower(kernel, "sm_100a")


@pytest.mark.parametrize(("a", "b"), [("nvfp4", "nvfp4"), ("ds_act", "ds_weight")])
def test_parts_have_steps(a: str, b: str) -> None:
    """Where K has fewer steps than a split has parts, or would leave some empty, there are fewer parts."""
    depth = 256 if a == "nvfp4" else 128
    plan = lowered("split_k 4", a, b, "sm_100a")
    assert plan.split is not None
    for steps, parts, each in ((0, 1, 1), (1, 1, 1), (2, 2, 1), (5, 3, 2), (8, 4, 2), (9, 3, 3), (100, 4, 25)):
        size = {"M": 1, "N": 1, "K": depth * steps}
        assert (evaluate(plan.split.parts, size), evaluate(plan.split.steps, size)) == (parts, each)


def test_the_workspace_is_that_of_the_parts() -> None:
    """A row of sums of each accumulator for each thread, part and CTA, after the counts; nothing of one part."""
    fields = "tile 256 x 128 x 256; cluster 2 x 1; split_k 4"
    plan = lowered(fields, "nvfp4", "nvfp4", "sm_100a")
    ctas, counts = 3 * 2 * 2, 256
    assert evaluate(plan.epilogue.workspace, {"M": 600, "N": 200, "K": 2048}) == counts + ctas * 4 * 128 * 128 * 4
    assert evaluate(plan.epilogue.workspace, {"M": 600, "N": 200, "K": 200}) == 0


@pytest.mark.parametrize("field", ["store direct", "store auto"])
def test_a_way_to_store_that_moves_a_kernel_to_another_engine_is_said(field: str) -> None:
    plan = lowered(field, "bf16", "nvfp4")
    said = [d for d in plan.decisions if (d.what, d.chosen_by) == ("engine", "schedule")]
    assert plan.engine is not None
    assert bool(said) == (plan.engine.name != "wgmma_rs") == (field != "store auto")

"""Where a left operand is converted: by each tile, or once a call; what blocks ask for, and what the model chooses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes import lower
from fp4cc.passes.rewrites.converted import converted, why_not_converted
from fp4cc.sema import analyze, specialize
from fp4cc.source import Source
from fp4rt.sizes import evaluate

Lower = Callable[..., LoweredKernel]

PAIR = "kernel k(M, N, K) {{ in x : {x}[M, K]; in w : {w}[N, K]; out y : bf16[M, N]; y = x @ w.T }}\n"
ONCE = "schedule k on sm_90a { convert once }\n"


def pair(x: str = "nvfp4", w: str = "") -> str:
    return PAIR.format(x=x, w=w or x)


def test_the_operand_is_decoded_without_its_tensor_scale(lower_text: Lower) -> None:
    """Which is a factor of the sums, as it is where tiles convert."""
    kernel = analyze(Source("k.fp4", pair())).raise_errors().kernels[0]
    parts = converted(kernel)
    (x, wide), (carried,) = parts.first.args, parts.carried
    assert x.format is not None
    assert (x.format.tensor_scale, wide.name, carried.dtype) == (None, "x_bf16", "bf16")
    assert [value.op for value in parts.first.values] == ["arg", "dequantize"]
    scales = [v.attrs["name"] for v in parts.second.values if v.op == "tensor_scale"]
    assert sorted(map(str, scales)) == ["w", "x"]
    left = parts.second.arg("x_bf16").stands_for
    assert left is not None
    assert left.name == "nvfp4"
    plan = lower_text(pair() + ONCE, "sm_90a")
    assert [each.name for each in plan.launches] == ["k_bf16", "k"]


def test_without_a_tensor_scale_the_operand_is_gone() -> None:
    parts = converted(analyze(Source("k.fp4", pair("mxfp8"))).raise_errors().kernels[0])
    assert [arg.name for arg in parts.second.args] == ["x_bf16", "w", "y"]


def test_the_workspace_has_the_operand_in_bf16(lower_text: Lower) -> None:
    plan = lower_text(pair() + ONCE, "sm_90a")
    for m, k in ((1, 32), (300, 160)):
        assert evaluate(plan.epilogue.workspace, {"M": m, "N": 8, "K": k}) == -(-2 * m * k // 256) * 256
    (decision,) = (d for d in plan.decisions if d.what == "conversion")
    assert decision.chosen_by == "schedule"
    assert "in the workspace: K * M * 2 bytes" in decision.why or "in the workspace: M * K * 2 bytes" in decision.why
    assert decision.alternatives


def test_its_rows_are_whole_loads(lower_text: Lower) -> None:
    """Also where the weights would ask for less."""
    texts = {c.text for c in lower_text(pair("mxfp4", "mxfp8") + ONCE, "sm_90a").constraints}
    assert "K % 32 == 0" in texts


@pytest.mark.parametrize("block", ["", "schedule k on sm_90a { convert tile }\n"])
def test_a_block_or_a_single_plan_keeps_one_launch(lower_text: Lower, block: str) -> None:
    """`--plans 1` and blocks that do not ask for it."""
    plan = lower_text(pair() + block, "sm_90a")
    assert (len(plan.launches), plan.epilogue.workspace) == (1, 0)


def test_blocks_with_conditions_have_plans_of_either_form(lower_text: Lower) -> None:
    blocks = "schedule k on sm_90a when M <= 64 { convert tile }\n" + ONCE
    plan = lower_text(pair() + blocks, "sm_90a")
    assert [len(each.launches) for each in (*plan.variants, plan)] == [1, 2]
    for field in ("tile 256 x 128 x 64", "split_k 2", "stages 2"):
        plan = lower_text(pair() + f"schedule k on sm_90a {{ convert once; {field} }}\n", "sm_90a")
        assert plan.schedule is not None
        assert plan.schedule.fields["convert"] == ("once",)


def test_the_model_converts_once_where_there_are_many_rows() -> None:
    """A threshold that nobody has written down; few rows have one launch."""
    kernel = specialize(analyze(Source("k.fp4", pair())).raise_errors().kernels[0], {"N": 8192, "K": 8192})
    lowered = lower(kernel, "sm_90a", 6)
    for rows, launches in ((1, 1), (8, 1), (1024, 2), (4096, 2), (8192, 2)):
        plans = (*lowered.variants, lowered)
        plan = next(p for p in plans if p.when is None or evaluate(p.when, {"M": rows}))
        assert len(plan.launches) == launches, rows


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (PAIR.format(x="bf16", w="nvfp4"), "only the left one of two operands with block scales"),
        (PAIR.format(x="nvfp4", w="bf16"), "only the left one of two operands with block scales"),
        (PAIR.format(x="fp8_token", w="fp8_token"), "only the left one of two operands with block scales"),
        ("kernel k(M, N, K) { in x : nvfp4[M, K]; in v : nvfp4[M, K]; in w : nvfp4[N, K]; out y : bf16[M, N]; "
         "y = x @ w.T + v @ w.T }\n", "several left operands"),
        ("kernel k(M, N, K, E) { in x : nvfp4[M by rows, K]; in w : nvfp4[E, N, K]; in rows : i32[E + 1]; "
         "out y : bf16[M by rows, N]; y = x @ w.T }\n", "rows of x are in groups"),
    ],
)  # fmt: skip
def test_what_is_not_converted_once(lower_text: Lower, text: str, why: str) -> None:
    kernel = analyze(Source("k.fp4", text)).raise_errors().kernels[0]
    assert why in (why_not_converted(kernel) or "")
    with pytest.raises(DiagnosticError, match="FP5013"):
        lower_text(text + ONCE, "sm_90a")

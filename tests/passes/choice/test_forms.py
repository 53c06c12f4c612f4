"""Where a left operand is converted: by each tile, or once a call; what blocks ask for, and what the model chooses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.turned import TURNED
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
        (PAIR.format(x="bf16", w="nvfp4"), "only a left operand with block scales, or of FP8"),
        (PAIR.format(x="nvfp4", w="bf16"), "only a left operand with block scales, or of FP8"),
        (PAIR.format(x="fp8_token", w="fp8_token"), "only a left operand with block scales, or of FP8"),
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


def test_the_order_that_lanes_of_a_quarter_of_weights_take() -> None:
    """Lane t has places 2t, 2t + 1, 2t + 8, 2t + 9 of each 16 (PTX ISA): together eight neighbors of the weights."""
    assert sorted(TURNED) == list(range(32))
    for lane in range(4):
        places = [16 * half + 8 * part + 2 * lane + i for half in (0, 1) for part in (0, 1) for i in (0, 1)]
        assert [TURNED[place] for place in places] == list(range(8 * lane, 8 * lane + 8))


@pytest.mark.parametrize(
    ("x", "w", "turned"),
    [
        ("mxfp8", "mxfp8", True),
        ("nvfp4", "mxfp8_e5m2", True),
        ("mxfp8", "mxfp4", False),  # four bits: a lane reads little
        ("nvfp4", "short", False),  # a lane's eight would have two scales' worth of words
        ("short", "mxfp8", False),  # rows of x need not be whole runs of 32
    ],
)
def test_eight_bit_weights_have_the_operand_turned(lower_text: Lower, x: str, w: str, turned: bool) -> None:
    fmt = "format short extends nvfp4 { element e4m3; scale e4m3 per 1 x 16 }\n"
    plan = lower_text(fmt + pair(x, w) + ONCE, "sm_90a")
    assert plan.kernel.arg("x_bf16").turned == turned
    assert [each.name for each in plan.before] == ["k_bf16_turned" if turned else "k_bf16"]


def test_an_engine_that_does_not_know_the_order_gets_the_other_form(lower_text: Lower) -> None:
    """Sums of products in one accumulator are not for weights in registers."""
    text = ("kernel k(M, N, K) { in x : mxfp8[M, K]; in w : mxfp8[N, K]; in v : mxfp8[N, K]; out y : bf16[M, N]; "
            "y = x @ w.T + x @ v.T }\n")  # fmt: skip
    plan = lower_text(text + ONCE, "sm_90a")
    assert plan.engine is not None
    assert (plan.engine.name, plan.before[0].name) == ("wgmma", "k_bf16")
    assert not any(arg.turned for arg in plan.kernel.args)

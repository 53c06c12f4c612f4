"""`reduce atomic`: what parts of K can add to an output, and what they cannot."""

from __future__ import annotations

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source

HEAD = "kernel k(M, N, K) { in x : bf16[M, K]; in w : bf16[N, K]; in d : bf16[N, K]; in s : f32[]; in r : f32[M]; "
C = "inout c : f32[M, N]; "
#: Outputs and statements that are no sums of parts, by code.
REFUSED = {
    "FP4071": (
        "out c : f32[M, N]; c = x @ w.T",
        "inout c : f32[M, N]; c = x @ w.T",
        "inout c : bf16[M, N]; c = c + x @ w.T",
        "out c : nvfp4[M, N]; c = quantize(x @ w.T, tensor_scale = s)",
        "out c : f32[M]; c = sum(x @ w.T, over = N)",
        C + "c = c - x @ w.T",
        C + "c = c + c + x @ w.T",
        C + "c = s * c + x @ w.T",
        C + "out y : bf16[M, N]; h = x @ w.T; c = c + h; y = h",
    ),
    "FP4072": (
        C + "c = c + (x @ w.T + s)",
        C + "c = c + relu(x @ w.T)",
        C + "c = c + (x @ w.T) * (x @ d.T)",
        C + "c = c + s / (x @ w.T)",
        C + "c = c + f32(bf16(x @ w.T))",
        C + "c = c + c * (x @ w.T)",
        C + "h = x @ w.T; c = c + h * max(h, over = N)",
    ),
}
TAKEN = (
    "c = c + x @ w.T",
    "c = x @ w.T * s / r + c",
    "c = c + (r * (x @ w.T) - exp(s) * (x @ d.T))",
    "c = c + -f32(x @ w.T)",
)


def lowered(text: str, target: str, fields: str = "split_k 3") -> LoweredKernel:
    text = f"{HEAD}{text} }}\nschedule k on {target} {{ reduce atomic; {fields} }}\n"
    (kernel,) = analyze(Source("k.fp4", text)).raise_errors().kernels
    return lower(kernel, target)


@pytest.mark.parametrize("code", REFUSED)
def test_what_is_no_sum_of_parts_is_refused(code: str) -> None:
    for target in ("sm_90a", "sm_100a"):
        for text in REFUSED[code]:
            with pytest.raises(DiagnosticError) as caught:
                lowered(text, target)
            found = caught.value.diagnostics[0]
            assert found.code == code, text
            assert found.span is not None
            assert found.span.source.text[found.span.start : found.span.end] == "reduce atomic"
            assert found.notes[0]


@pytest.mark.parametrize("target", ["sm_90a", "sm_100a"])
@pytest.mark.parametrize("text", TAKEN)
def test_parts_add_and_need_nothing_of_each_other(text: str, target: str) -> None:
    plan = lowered(C + text, target)
    assert plan.split is not None
    assert plan.split.adds
    assert (plan.epilogue.workspace, plan.epilogue.init) == (0, ())
    (output,) = plan.epilogue.outputs
    assert output.store.adds
    assert all(leaf.source != output.arg for leaf in plan.epilogue.inputs)  # nobody reads what others add to
    assert any("atomics" in decision.chosen + decision.why for decision in plan.decisions)


def test_atomics_are_no_stores_by_tma() -> None:
    with pytest.raises(DiagnosticError, match="FP4206|TMA does not store"):
        lowered(C + "c = c + x @ w.T", "sm_100a", "store tma")

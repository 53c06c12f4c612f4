"""Launches that overlap: what a block says goes to all launches of its plan, and to the text of each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.manifest import manifest
from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt.manifest import Manifest, dumps, loads

Lower = Callable[..., LoweredKernel]

WAIT, LET = (f"prims.griddepcontrol(prims.GridDepAction.{action})" for action in ("WAIT", "LAUNCH_DEPENDENTS"))
PRODUCT = "kernel k(M, N, K) {{ in x : {x}[M, K]; in w : {w}[N, K]; out y : bf16[M, N]; y = {y} }}\n"
PLAIN = "x @ w.T"
GROUPED = """kernel k(E, R, N, K) {
    in offsets : i32[E + 1]; in x : nvfp4[R by offsets, K]; in w : nvfp4[E, N, K]
    out y : bf16[R by offsets, N]
    y = x @ w.T
}
"""
ROWS = "kernel k(M, N, K) { in x : bf16[M, K]; in w : nvfp4[N, K]; out q : fp8_token[M, N]; q = quantize(x @ w.T) }\n"
ELEMENTS = "kernel k(M, N) { in x : bf16[M, N]; out y : bf16[M, N]; y = silu(x) }\n"
#: A kernel for each engine and walk: what is written, its target, how many launches it has.
CASES = {
    "tcgen05": (PRODUCT.format(x="nvfp4", w="nvfp4", y=PLAIN), "sm_100a", 1),
    "tcgen05 promoted": (PRODUCT.format(x="ds_act", w="ds_weight", y=PLAIN), "sm_100a", 1),
    "tcgen05 converts": (PRODUCT.format(x="bf16", w="nvfp4", y=PLAIN), "sm_100a", 1),
    "tcgen05 grouped": (GROUPED, "sm_100a", 1),
    "wgmma": (PRODUCT.format(x="bf16", w="bf16", y=PLAIN), "sm_90a", 1),
    "wgmma grouped": (GROUPED, "sm_90a", 1),
    "wgmma_rs": (PRODUCT.format(x="bf16", w="nvfp4", y=PLAIN), "sm_90a", 1),
    "wgmma_fp8": (PRODUCT.format(x="fp8_token", w="fp8_token", y="matmul(x, w.T, accumulate = fast)"), "sm_90a", 1),
    "elements": (ELEMENTS, "sm_90a", 1),
    "launch before": (PRODUCT.format(x="nvfp4", w="nvfp4", y=PLAIN), "sm_90a", 2),
    "launch after": (ROWS, "sm_90a", 2),
    "launch after, sm_100a": (ROWS, "sm_100a", 2),
}  # fmt: skip


def block(target: str, fields: str, when: str = "") -> str:
    return f"schedule k on {target} {when}{{ {fields} }}\n"


def described(plan: LoweredKernel) -> Manifest:
    return loads(dumps(manifest(plan, {}, {})))


@pytest.mark.parametrize("how", ["early", "late"])
@pytest.mark.parametrize("case", CASES)
def test_every_launch_waits_once_and_lets_the_next_begin_once(lower_text: Lower, case: str, how: str) -> None:
    text, target, count = CASES[case]
    more = "convert once; " if case == "launch before" else ""
    plan = lower_text(text + block(target, f"{more}overlap {how}"), target)
    assert len(plan.launches) == count
    assert all(launch.dependent for launch in described(plan).launches())
    for each in plan.launches:
        lines = [line.partition("  #")[0].strip() for line in emit(each).splitlines()]
        assert (lines.count(WAIT), lines.count(LET)) == (1, 1)
        wait = lines.index(WAIT)
        assert (lines.index(LET) == wait + 1) == (how == "early")
        start = next(i for i, line in enumerate(lines) if line.startswith("thread, _, _ = "))
        before = "\n".join(lines[start:wait])
        assert not any(word in before for word in ("load_", "global_", "cp_async", "count_tiles"))


@pytest.mark.parametrize("case", ["tcgen05", "wgmma_rs", "elements", "launch after"])
def test_no_is_what_there_is_without_a_block(lower_text: Lower, case: str) -> None:
    text, target, _ = CASES[case]
    plain, no = lower_text(text, target), lower_text(text + block(target, "overlap no"), target)
    assert [emit(each) for each in no.launches] == [emit(each) for each in plain.launches]
    assert dumps(manifest(no, {}, {})) == dumps(manifest(plain, {}, {}))
    assert '"dependent"' not in dumps(manifest(no, {}, {}))


def test_a_block_that_says_nothing_else_leaves_the_plans_to_the_compiler() -> None:
    """So that they are still chosen by size, and all of them overlap."""
    text = PRODUCT.format(x="bf16", w="nvfp4", y=PLAIN)
    texts = (text, text + block("sm_90a", "overlap late"))
    kernels = [analyze(Source("k.fp4", each)).raise_errors().kernels[0] for each in texts]
    plain, late = (lower(kernel, "sm_90a", 6) for kernel in kernels)
    assert [each.when for each in late.variants] == [each.when for each in plain.variants]
    assert len(late.variants) > 1
    assert {each.overlap for each in (late, *late.variants)} == {"late"}
    assert {d.chosen for d in late.decisions if d.what == "overlap"} == {"late"}


def test_a_launch_that_plans_share_has_one_text_and_is_launched_as_each_plan_says(lower_text: Lower) -> None:
    text = ROWS + block("sm_90a", "overlap early", "when M <= 64 ") + block("sm_90a", "overlap no")
    plan = lower_text(text, "sm_90a")
    (small,) = plan.variants
    assert (small.overlap, plan.overlap) == ("early", "no")
    assert plan.after == small.after
    found = described(plan)
    assert [launch.dependent for launch in found.plan.launches] == [False, False]
    assert [launch.dependent for launch in found.variants[0].plan.launches] == [True, True]


def test_other_words_are_refused(lower_text: Lower) -> None:
    with pytest.raises(DiagnosticError) as caught:
        lower_text(ELEMENTS + block("sm_90a", "overlap yes"), "sm_90a")
    (found,) = caught.value.diagnostics
    assert found.code == "FP5004"
    assert found.labels[0].text == "not `no` or `early` or `late`"

"""The order of memory between warps (docs/decisions/0004), as a reader finds it in the emitted text.

The emulator's memory is sequential: it cannot see a missing fence or a scope that is too small, so these tests look.
"""

from __future__ import annotations

import re

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source

GEMM = "in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T"
DEEPSEEK = "in a : ds_act[M, K]; in b : ds_weight[N, K]; out c : bf16[M, N]; c = a @ b.T"
PAIR, ONE = "cluster 2 x 1; tile 256 x 128 x 256", "cluster 1 x 1; tile 128 x 128 x 256"


def text_of(body: str, target: str = "sm_100a", fields: str = "", dims: str = "M, N, K") -> str:
    """The kernel file of a spec."""
    schedule = f"schedule k on {target} {{ {fields} }}\n" if fields else ""
    spec = f"kernel k({dims}) {{ {body} }}\n{schedule}"
    return emit(lower(analyze(Source("k.fp4", spec), None).raise_errors().kernels[0], target))


def lines_before(text: str, line: str, count: int) -> list[list[str]]:
    """The `count` lines before each line that has the text."""
    lines = [each.strip() for each in text.splitlines()]
    return [lines[i - count : i] for i, each in enumerate(lines) if line in each]


@pytest.mark.parametrize(
    ("body", "fields"), [(GEMM, ONE), (GEMM, PAIR), (DEEPSEEK, "")], ids=["one", "pair", "promoted"]
)
def test_an_accumulator_is_freed_by_a_relaxed_arrival_after_the_fence(body: str, fields: str) -> None:
    """PTX ISA 9.7.16.6.4.4: ld, wait::ld, fence::before_thread_sync, mbarrier.arrive.relaxed."""
    text = text_of(body, fields=fields)
    arrivals = re.findall(r"prims\.mbarrier_arrive\(.*acc_empty.*", text)
    assert arrivals
    assert all(arrival.endswith("relaxed=True)") for arrival in arrivals), arrivals
    for before in lines_before(text, arrivals[0], 3):
        assert before == [
            "prims.tcgen05_fence(prims.Tcgen05Fence.BEFORE_THREAD_SYNC)",
            "prims.bar_warp_sync(cute.arch.FULL_MASK)",
            "if prims.elect_sync():",
        ]
    assert "prims.tcgen05_wait(prims.Tcgen05Wait.LOAD)" in text[: text.index(arrivals[0])]


def rings_of(text: str) -> dict[str, set[str]]:
    """By ring, the functions that wait for it."""
    found: dict[str, set[str]] = {}
    for function, ring in re.findall(r"\b(wait\w*)\((a\w+_(?:full|empty))", text):
        found.setdefault(ring, set()).add(function)
    return found


@pytest.mark.parametrize(("target", "fields", "across"), [
    ("sm_100a", ONE, set[str]()),
    ("sm_100a", PAIR, {"ab_full", "ab_empty", "acc_full", "acc_empty"}),
    ("sm_100a", "cluster 2 x 1; tile 128 x 128 x 256", {"ab_full", "ab_empty"}),
    ("sm_100a", "cluster 1 x 2; tile 128 x 128 x 256", {"ab_full", "ab_empty"}),
    ("sm_90a", "cluster 1 x 1", set[str]()),
    ("sm_90a", "cluster 2 x 1", {"ab_full", "ab_empty"}),
])  # fmt: skip
def test_what_other_ctas_signal_is_waited_for_at_cluster_scope(target: str, fields: str, across: set[str]) -> None:
    text = text_of(GEMM, target, fields)
    rings = rings_of(text)
    assert rings.keys() >= {"ab_full", "ab_empty"}
    for ring, functions in rings.items():
        assert functions == {"wait_in_cluster" if ring in across else "wait"}, ring
    if across:
        body = text[text.index("def wait_in_cluster") :]
        body = body[: body.index("\n\n\n")]
        assert "scope=prims.MBarrierScope.CLUSTER" in body
        assert body.rstrip().endswith("prims.fence_sync_restrict(prims.MemOrder.ACQUIRE)")


@pytest.mark.parametrize(("body", "target", "fields"), [
    ("in a : bf16[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T", "sm_90a", "cluster 2 x 1"),
    (GEMM, "sm_90a", "cluster 2 x 1"),
    (DEEPSEEK, "sm_90a", "cluster 2 x 1"),
    ("in a : bf16[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T", "sm_100a",
     "cluster 2 x 1; tile 256 x 64 x 64"),
])  # fmt: skip
def test_an_arrival_at_another_cta_follows_a_release_of_shared_memory(body: str, target: str, fields: str) -> None:
    """Except the accumulator's, which hands over tensor memory."""
    text = text_of(body, target, fields)
    remote = [line.strip() for line in text.splitlines() if "mbarrier_arrive(prims.mapa(" in line]
    rings = [line for line in remote if "acc_empty" not in line]
    assert rings
    assert all(line.endswith("relaxed=True)") for line in remote), remote
    for before in (before for line in set(rings) for before in lines_before(text, line, 2)):
        assert any(line.startswith("prims.fence_sync_restrict(prims.MemOrder.RELEASE)") for line in before), before

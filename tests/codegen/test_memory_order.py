"""The order of memory between warps (docs/decisions/0004), as a reader finds it in the emitted text.

The emulator's memory is sequential: it cannot see a missing fence or a scope that is too small, so these tests look.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.ir.lowered import EPILOGUE_BARRIER, LoweredKernel
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
    text = re.sub(r"prims\.mbarrier_arrive\(\n\s*(.*)\n\s*\)", r"prims.mbarrier_arrive(\1)", text)  # in one line
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


@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_a_ticket_is_taken_between_two_barriers_of_the_warp(target: str) -> None:
    """The lanes' stores, a release and acquire by the lane that takes it, the lanes' loads."""
    text = text_of("in x : f32[M, N]; out s : f32[M]; s = sum(x, over = N)", target, dims="M, N")
    body = text[text.index("def arrive_last") :]
    body = body[: body.index("\n\n\n")]
    order = re.findall(r"bar_warp_sync|atom[.\w]*|shfl_sync|fence\w*\(", body)
    assert order == ["bar_warp_sync", "atom.acq_rel.gpu.global.add.u32", "shfl_sync", "bar_warp_sync"]


READS = re.compile(r"\bread_row\(|^\s*\w+_to_b?f16\(|\batom_scales\(", re.MULTILINE)
REFILLS = re.compile(r"\bload_ahead\(|\bmbarrier_arrive\(.*ab_empty")


def unfenced(text: str) -> list[str]:
    """Lines by which TMA may fill what threads have read through the other proxy, without fence and barrier between."""
    kernel = text[text.index("@cute.kernel") :]
    found: list[str] = []
    state = "clean"
    for line in map(str.strip, kernel.splitlines()):
        if READS.search(line):
            state = "read"
        elif "fence_proxy(prims.Proxy.ASYNC_SHARED" in line and state == "read":
            state = "fenced"
        elif ("bar_warp_sync" in line or "barrier_cta_sync" in line) and state == "fenced":
            state = "clean"
        elif REFILLS.search(line) and state != "clean":
            found.append(line)
    return found


REFILLED = [
    ("sm_90a", GEMM),
    ("sm_90a", "in a : bf16[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T"),
    (
        "sm_90a",
        "in a : mxfp6[M, K]; in b : nvfp4[N, K]; in d : bf16[N, K]; out c : bf16[M, N]; c = (a @ b.T) * (a @ d.T)",
    ),
    ("sm_90a", DEEPSEEK),
    ("sm_90a", f"in r : bf16[M, N]; {GEMM} + r"),
    ("sm_100a", f"in r : bf16[M, N]; {GEMM} + r"),
    ("sm_100a", f"in r : bf16[M, N]; {DEEPSEEK} + r"),
    ("sm_100a", "in c : f32[M, N]; out d : f32[M, N]; d = 2 * c"),
]


@pytest.mark.parametrize(("target", "body"), REFILLED)
def test_what_threads_have_read_is_filled_again_after_a_proxy_fence(target: str, body: str) -> None:
    text = text_of(body, target, dims="M, N, K" if "K]" in body else "M, N")
    assert READS.search(text), "nothing is read that TMA brings"
    assert unfenced(text) == []
    kernel = text.index("@cute.kernel")
    without = text[:kernel] + text[kernel:].replace("prims.fence_proxy(prims.Proxy.ASYNC_SHARED", "pass  # (")
    assert unfenced(without), "the test sees no hand-over to TMA"


def test_no_two_barriers_of_the_same_warps_stand_back_to_back() -> None:
    """Between two barriers of Hopper's four warps they read or write shared memory, or multiply."""
    text = text_of(f"in v : bf16[N]; in w : bf16[M]; {GEMM} * v + w", "sm_90a")
    kernel = text[text.index("    if warp < LOAD_WARP:") : text.index("def launch(")]
    between = kernel.split("prims.barrier_cta_sync(")[1:-1]
    assert len(between) >= 4
    for part in between:
        assert re.search(r"shared_(load|store)|wgmma|_to_bf16\(", part), part


@pytest.mark.parametrize(("target", "body"), REFILLED)
def test_named_barriers_are_few_and_of_one_set_of_warps_each(target: str, body: str) -> None:
    """A CTA has 16 (PTX ISA, barrier); number 0 is that of all its threads."""
    column = "in v : f32[N]; " if "K]" in body else ""
    factor = " * v" if column else ""
    text = text_of(f"{column}{body}{factor}", target, dims="M, N, K" if column else "M, N")
    numbers: dict[int, set[str]] = {}
    for name, threads in re.findall(r"barrier_cta_sync\((\w+), thread_count=([^)]+)\)", text):
        constant = re.search(rf"^{name} = (\d+)", text, re.MULTILINE)
        numbers.setdefault(int(constant[1] if constant else name), set()).add(threads)
    assert numbers or not column
    assert all(0 < number < 16 for number in numbers)
    assert all(len(threads) == 1 for threads in numbers.values()), numbers


#: What has the epilogue's warps meet: columns in shared memory, transforms of several warps' rows, blocks of theirs.
MEETING = [
    ("columns", f"in v : f32[N]; {GEMM} * v"),
    ("transform", GEMM.replace("a @ b.T", "hadamard(a @ b.T, over = M, size = 128)")),
    ("measured", GEMM.replace("out c : bf16[M, N]; c = a @ b.T", "out c : ds_weight[M, N]; c = quantize(a @ b.T)")),
]


def renumbered(plan: LoweredKernel, number: int) -> LoweredKernel:
    """The plan with another number for the epilogue's barrier."""
    barriers = tuple(replace(b, number=number) if b == EPILOGUE_BARRIER else b for b in plan.named_barriers)
    marked = plan.marked and replace(plan.marked, plan=renumbered(plan.marked.plan, number))
    return replace(plan, named_barriers=barriers, marked=marked)


@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("body", [body for _, body in MEETING], ids=[name for name, _ in MEETING])
def test_the_number_of_the_epilogues_barrier_is_the_lowered_kernels(body: str, target: str) -> None:
    """With another number there, nothing is printed that still has the one from before."""
    kernel = analyze(Source("k.fp4", f"kernel k(M, N, K) {{ {body} }}")).raise_errors().kernels[0]
    plan = lower(kernel, target)
    before, after = emit(plan), emit(renumbered(plan, 9))
    assert before != after
    assert after.replace("barrier_cta_sync(9,", "barrier_cta_sync(1,").replace(", 9)", ", 1)") == before
    assert "barrier_cta_sync(1," not in after

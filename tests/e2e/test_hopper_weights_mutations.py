"""Mistakes put into emitted kernels with weights in registers on purpose, as in test_mutations.py.

What only breaks the order of accesses is proved by the emulator's clocks, whether or not a wrong value comes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .test_mutations import DELAYED, Mutation, assert_caught

Run = Callable[..., Any]

LINES = "format lines extends nvfp4 { layout linear }\n"
GEMM = "kernel gemm(M, N, K) {{ in x : bf16[M, K]; in w : {w}[N, K]; out y : {y}[M, N]; y = x @ w.T }}\n"
TWO = (
    "kernel gemm(M, N, K) { in x : bf16[M, K]; in w : nvfp4[N, K]; in d : nvfp4[N, K]; out y : f32[M, N]\n"
    "y = (x @ w.T) * (x @ d.T) }\n"
)
TILE = "schedule gemm on sm_90a {{ tile {} x {} x 64; stages {} }}"
SPECS = {
    "stored": GEMM.format(w="nvfp4", y="bf16") + TILE.format(256, 128, 3),
    "exchanged": LINES + GEMM.format(w="lines", y="f32") + TILE.format(256, 128, 3),
    "two": TWO + TILE.format(128, 64, 3),
    "turns": GEMM.format(w="nvfp4", y="bf16") + TILE.format(128, 64, 4),
}
FULL, EMPTY = "wait(ab_full.subview(stage), parity)", "wait(ab_empty.subview(stage), parity)"
PARTIAL = "prims.barrier_cta_sync(PARTIAL_BARRIER, thread_count=256)"
WAIT = "prims.wgmma_wait_group_sync_aligned"
IN = {
    "stored": [
        Mutation("products not waited for before their stage is freed", f"{WAIT}(1)", "pass", ordered=True),
        Mutation("sums stored in flight", f"{WAIT}(0)", "pass", ordered=True),
        Mutation("registers not fenced", "prims.wgmma_fence_aligned()", "pass", ordered=True),
        Mutation("codes read without a fence", "prims.fence_proxy(prims.Proxy.ASYNC_SHARED", "pass  # (", ordered=True),
        Mutation("fragments of the wrong row", "row = address + further * i", "row = address"),
        Mutation(
            "fragments in the wrong order",
            "rows[0][j], rows[1][j], rows[0][j + 1]",
            "rows[1][j], rows[0][j], rows[0][j + 1]",
        ),
        Mutation("codes of another lane", "quad * 0x1111", "quad * 0"),
        Mutation("scales of another row", "weight_row + 8 * i", "weight_row"),
        Mutation("scales of other elements", "scales[i][8 * j // per_scale]", "scales[i][0]"),
        Mutation("stage not waited for", FULL, "pass", mode=DELAYED),
        Mutation("load does not wait for a free stage", EMPTY, "pass", mode=DELAYED),
        Mutation("x of another step of K", "A_BYTES + 32 * i", "A_BYTES + 16 * i"),
        Mutation(
            "stage of an odd step left out",
            "for part in cutlass.range_constexpr(2):",
            "for part in cutlass.range_constexpr(1):",
        ),
        Mutation("result not turned around", ".x4.trans.shared", ".x4.shared"),
        Mutation("result in the wrong swizzle", "lane // 8 % 2 ^ lane % 8", "lane // 8 % 2"),
        Mutation("result of the other warpgroup", "y_slabs.subview(warpgroup * 32768)", "y_slabs.subview(0)"),
        Mutation(
            "slab overwritten while it is stored", "prims.cp_async_bulk_wait_group(0, read=True)", "pass", mode=DELAYED
        ),
        Mutation(
            "store before all warps have written",
            "prims.barrier_cta_sync(STORE_BARRIER + warpgroup, thread_count=128)",
            "pass",
            which=1,
            ordered=True,
        ),
    ],
    "exchanged": [
        Mutation("scales of this stage read ahead", "k_stage + 1", "k_stage"),
        Mutation("scales of other rows", "n0 + weight_row", "weight_row"),
        Mutation("second rows' scales those of the first", "found[half] = ", "found[1 - half] = "),
        Mutation("sums of other rows of x", "(i // 4 * 8 + i % 2) * pitch", "(i // 4 * 8) * pitch"),
        Mutation("sums of other weights", "i // 2 % 2 * 32", "0"),
        Mutation(
            "second rows of a tile are the first",
            "store_transposed(acc_registers, 64 * part",
            "store_transposed(acc_registers, 0",
        ),
        Mutation("epilogue does not wait for sums", "wait(acc_full, acc_parity)", "pass", mode=DELAYED, ordered=True),
        Mutation(
            "sums overwritten before they are read", "wait(acc_empty, acc_parity)", "pass", mode=DELAYED, ordered=True
        ),
    ],
    "two": [
        Mutation(
            "both operands' codes the first's",
            "where_int(which == 0, shared_address(b_smem), shared_address(b2_smem))",
            "shared_address(b_smem)",
        ),
        Mutation(
            "both operands' scales the first's",
            "where_int(which == 0, shared_address(sfb_smem), shared_address(sfb2_smem))",
            "shared_address(sfb_smem)",
        ),
        Mutation("scales of the atom's first half", "atom_row + operand_row", "operand_row"),
    ],
    "turns": [
        Mutation("both warpgroups start with one stage", "stage = warpgroup", "stage = warpgroup * 0"),
        Mutation("the second's sums are dropped", "add(acc_registers[i], shared_load_f32", "add(0.0, shared_load_f32"),
        Mutation("sums added before they are written", PARTIAL, "pass", ordered=True),
        Mutation("sums overwritten before they are added", PARTIAL, "pass", which=1, ordered=True),
    ],
}
CASES = [(spec, mutation) for spec, mutations in IN.items() for mutation in mutations]


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "mutation"), CASES, ids=[m.name.replace(" ", "-") for _, m in CASES])
def test_mutation_is_caught(compiler: Any, run: Run, spec: str, mutation: Mutation) -> None:
    assert_caught(compiler, run, SPECS[spec], "sm_90a", mutation, M=260, N=136, K=224)


def test_the_documentation_lists_them() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "verification.md").read_text(encoding="utf-8")
    listed = [line.removeprefix("    * ").split(" (")[0] for line in page.splitlines() if line.startswith("    * ")]
    assert listed == [mutation.name for _, mutation in CASES]

"""Mistakes put into emitted kernels for Hopper on purpose, as in test_mutations.py.

Not caught, because the emulator multiplies at once: a missing wgmma.wait_group, and a stage that is released before a
product has read it where TMA put it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fp4cc.passes.engines.registry import ENGINES

from .test_mutations import DELAYED, Mutation, assert_caught

Run = Callable[..., Any]

SPECS = {
    "pair": "kernel gemm(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : f32[M, N]; c = a @ b.T }\n"
    "schedule gemm on sm_90a { cluster 2 x 1; stages 2 }",
    "layout": "format lines extends nvfp4 { layout linear }\n"
    "kernel gemm(M, N, K) { in a : bf16[M, K]; in b : lines[N, K]; out c : f32[M, N]; c = a @ b.T }\n"
    "schedule gemm on sm_90a { cluster 1 x 1; stages 2 }",
    "two": "kernel gemm(M, N, K) { in a : bf16[M, K]; in b : nvfp4[N, K]; in d : mxfp4[N, K]; out c : f32[M, N]\n"
    "c = (a @ b.T) * (a @ d.T) }\n"
    "schedule gemm on sm_90a { cluster 1 x 1; stages 2 }",
    "halves": "kernel gemm(M, N, K, F = N / 2) { in a : f16[M, K]; in b : nvfp4[N, K]; out c : f32[M, F]\n"
    "g, u = unzip(a @ b.T, N -> F, group = 64); c = g * u }\n"
    "schedule gemm on sm_90a { cluster 1 x 1 }",
    # Elements of four bits leave more of an exact sum to their scales than those of eight do.
    "promoted": "format four extends ds_act { element e2m1 pack low_first }\n"
    "kernel gemm(M, N, K) { in a : four[M, K]; in b : four[N, K]; out c : f32[M, N]; c = a @ b.T }\n"
    "schedule gemm on sm_90a { cluster 1 x 1; stages 2 }",
}
BARRIER = "prims.barrier_cta_sync(OPERAND_BARRIER, thread_count=LOAD_WARP * 32)"
FENCE = "prims.fence_proxy(prims.Proxy.ASYNC_SHARED, space=prims.SharedSpace.shared_cta)"
IN = {
    "pair": [
        Mutation("rows not swizzled", "row & 7 ^ chunk", "chunk"),
        Mutation("descriptor: wrong swizzle", "Int64(1 << 62 |", "Int64(2 << 62 |"),
        Mutation("descriptor: wrong step along K", "half * 64 * 128 + 32 * i", "half * 64 * 128 + 16 * i"),
        Mutation("second half of the rows multiplied twice", "half * 64 * 128 +", "64 * 128 +"),
        Mutation("scale word of another row", "row // 32 * 4 + first", "first"),
        Mutation("converted operands not fenced", FENCE, "pass"),
        Mutation("product before all warps have converted", BARRIER, "pass", mode=DELAYED),
        Mutation("conversion does not wait for data", "wait(ab_full.subview(stage), parity)", "pass", mode=DELAYED),
        Mutation("load does not wait for a free stage", "wait(ab_empty.subview(stage), parity)", "pass", mode=DELAYED),
        Mutation("stage freed for one CTA only", "for i in cutlass.range_constexpr(CLUSTER_M):", "for i in [0]:"),
        Mutation("slice of B at the wrong place", "B_BYTES + cta_m * 2048", "B_BYTES"),
        Mutation("sums of other rows", "lane // 4 + i % 2 * 8", "lane // 4 + i % 2 * 4"),
    ],
    "layout": [
        Mutation("scales of this step read ahead", "k_tile + 1, b_rows", "k_tile, b_rows"),
        Mutation("scales past the last row", "both(row < b_rows, k < b_blocks)", "k < b_blocks"),
        Mutation("scales of another row", "n0 + thread, k_tile", "thread, k_tile"),
        Mutation("stage never released", "prims.mbarrier_arrive(ab_empty.subview(last))", "pass"),
        Mutation("last stage of a tile never released", "prims.mbarrier_arrive(ab_empty.subview(last))", "pass", 1),
    ],
    "two": [
        Mutation("second product reads the first's rows", "SLOT_BYTES + 64 * 128 + 32 * i", "SLOT_BYTES + 32 * i"),
        Mutation("second product adds to the first", "half * 64 + 32, TILE_N", "half * 64, TILE_N"),
        Mutation("scales of the atom's first half", "n0 % 128 + thread % 64", "thread % 64"),
        Mutation("rows converted by the wrong warps", "warp // 2 == 1", "warp // 2 == 0"),
        Mutation("second accumulator read as the first", "exchange + subtile * 128 + 256", "exchange + subtile * 128"),
    ],
    "halves": [
        Mutation("second half read as the first", "exchange + subtile * 128 + 256", "exchange + subtile * 128"),
        Mutation(
            "columns of the product counted as those of a half", "n0 = tile_n * (TILE_N // 2)", "n0 = tile_n * TILE_N"
        ),
    ],
    "promoted": [
        Mutation("partial sums kept over a step", "keep=part + i > 0", "keep=True"),
        Mutation("factors of another step", "a_block_offset(k_tile)", "a_block_offset(0)"),
        Mutation("factors of other rows", "rows = a_factors[2 * half : 2 * half + 2]", "rows = a_factors[:2]"),
        Mutation("factors of other columns", "lane % 4 * 2)", "lane % 4)"),
        Mutation("operands overwritten before all warps have multiplied", BARRIER, "pass", mode=DELAYED),
        Mutation("quarter of other columns", "side * 8192", "0"),
    ],
}
CASES = [(spec, mutation) for spec, mutations in IN.items() for mutation in mutations]


@pytest.fixture(autouse=True)
def _one_engine() -> Iterator[None]:
    """Products of plain operands by weights too, which are another engine's else."""
    with ENGINES.without("wgmma_rs"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "mutation"), CASES, ids=[m.name.replace(" ", "-") for _, m in CASES])
def test_mutation_is_caught(compiler: Any, run: Run, spec: str, mutation: Mutation) -> None:
    assert_caught(compiler, run, SPECS[spec], "sm_90a", mutation, M=300, N=264 if spec != "halves" else 384, K=384)


def test_the_documentation_lists_them() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "verification.md").read_text(encoding="utf-8")
    listed = [line.removeprefix("  * ").split(" (")[0] for line in page.splitlines() if line.startswith("  * ")]
    assert listed == [mutation.name for _, mutation in CASES]

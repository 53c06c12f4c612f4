"""Mistakes put into emitted kernels for Hopper on purpose, as in test_mutations.py.

Not caught, because the emulator multiplies at once: a missing wgmma.wait_group, and a stage that is released before a
product has read it where TMA put it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fp4cc.passes.engines.registry import ENGINES

from .mutants import (
    B,
    Mutation,
    argument,
    argument_of,
    around,
    arrival,
    assigned,
    at,
    binary,
    call,
    condition,
    destination,
    function,
    instead,
    keyword,
    left,
    meeting,
    operand,
    right,
    role,
    to,
    wait,
    without,
    without_term,
)
from .test_mutations import DELAYED, assert_caught

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
    "fp8": "kernel gemm(M, N, K) { in a : ds_act[M, K]; in b : ds_weight[N, K]; out c : f32[M, N]\n"
    "c = matmul(a, b.T, accumulate = fast) }\n"
    "schedule gemm on sm_90a { cluster 2 x 1; stages 2 }",
}


def without_run(address: Any) -> ast.AST:
    """The place of a word in an atom without the run of 32 rows that it is for: the term before the last."""
    address.left = address.left.left
    return address


WARPS = role("epilogue")
MEETING = meeting("epilogue", "OPERAND_BARRIER")
MULTIPLIED = call(WARPS, "mma_64_rows")
ADDING = role("mma")
OF_FP8 = call(ADDING, "mma_64_rows_of_fp8")
AHEAD = call(WARPS, "b_scales_ahead", 1)
SECOND_READ = at(argument(assigned(WARPS, "acc2"), 0), without_term())
IN = {
    "pair": [
        Mutation("rows not swizzled", at(binary(function("nvfp4_to_bf16"), ast.BitXor), right)),
        Mutation(
            "descriptor: wrong swizzle",
            at(binary(function("operand_descriptor"), ast.LShift), operand("left", to("2"))),
        ),
        Mutation("descriptor: wrong step along K", at(assigned(WARPS, "a_part"), instead(32, 16))),
        Mutation("second half of the rows multiplied twice", at(assigned(WARPS, "a_part"), instead("half", 1))),
        Mutation(
            "scale word of another row", at(argument(call(function("atom_scales"), "shared_load_word"), 0), without_run)
        ),
        Mutation("converted operands not fenced", without(call(WARPS, "fence_proxy"))),
        Mutation("product before all warps have converted", without(MEETING), mode=DELAYED),
        Mutation("conversion does not wait for data", without(wait("epilogue", "ab_full")), mode=DELAYED),
        Mutation("load does not wait for a free stage", without(wait("load", "ab_empty")), mode=DELAYED),
        Mutation(
            "stage freed for one CTA only", at(around(arrival("epilogue", "ab_empty"), ast.For, "epilogue"), to("[0]"))
        ),
        Mutation("slice of B at the wrong place", at(destination(B), without_term("cta_m"))),
        Mutation("sums of other rows", at(assigned(WARPS, "sum_row"), instead(8, 4))),
    ],
    "layout": [
        Mutation("scales of this step read ahead", at(argument(AHEAD, 3), left)),
        Mutation("scales past the last row", at(call(function("b_scales_ahead"), "both"), argument_of(1))),
        Mutation("scales of another row", at(argument(AHEAD, 2), right)),
        Mutation("stage never released", without(arrival("epilogue", "ab_empty"))),
        Mutation("last stage of a tile never released", without(arrival("epilogue", "ab_empty", 1))),
    ],
    "two": [
        Mutation("second product reads the first's rows", at(assigned(WARPS, "b_part", 1), without_term())),
        Mutation("second product adds to the first", at(argument(call(WARPS, "mma_64_rows", 1), 1), left)),
        Mutation("scales of the atom's first half", at(argument(call(WARPS, "atom_scales"), 1), right)),
        Mutation("rows converted by the wrong warps", at(condition(WARPS, "warp", 1), operand("test", to("0")))),
        Mutation("second accumulator read as the first", SECOND_READ),
    ],
    "halves": [
        Mutation("second half read as the first", SECOND_READ),
        Mutation("columns of the product counted as those of a half", at(assigned(WARPS, "n0"), to("tile_n * TILE_N"))),
    ],
    "promoted": [
        Mutation("partial sums kept over a step", at(keyword(MULTIPLIED, "keep"), to("True"))),
        Mutation("factors of another step", at(argument(call(WARPS, "a_block_offset"), 0), to("0"))),
        Mutation("factors of other rows", at(assigned(WARPS, "rows"), to("a_factors[:2]"))),
        Mutation("factors of other columns", at(binary(function("column_factors"), ast.Mod), to("lane % 4 // 2"))),
        Mutation("operands overwritten before all warps have multiplied", without(MEETING), mode=DELAYED),
        Mutation("quarter of other columns", at(assigned(WARPS, "b_part"), instead("side", 0))),
    ],
    "fp8": [
        Mutation("fp8: sums of a step kept over the next", at(keyword(OF_FP8, "keep"), to("True"))),
        Mutation("fp8: wrong step along K", at(assigned(ADDING, "a_part"), instead(32, 16))),
        Mutation("fp8: both warpgroups multiply the same rows", at(assigned(ADDING, "a_desc"), left)),
        Mutation("fp8: factors of other rows", at(assigned(ADDING, "row"), instead(8, 4))),
        Mutation("fp8: factors of the next step", at(assigned(ADDING, "turn"), to("step + 1 & 3"))),
        Mutation("fp8: product before its data are there", without(wait("mma", "ab_full")), mode=DELAYED),
        Mutation("fp8: stage never released", without(arrival("mma", "ab_empty"))),
        Mutation("fp8: sums written before the last tile's are read", without(wait("mma", "acc_empty")), mode=DELAYED),
        Mutation("fp8: sums read before they are there", without(wait("epilogue", "acc_full")), mode=DELAYED),
        Mutation("fp8: sums of other rows", at(assigned(ADDING, "lane_row"), instead(16, 8))),
        Mutation(
            "fp8: stage released for one CTA only",
            at(around(arrival("mma", "ab_empty"), ast.For, "mma"), to("[0]")),
        ),
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

"""Mistakes put into emitted kernels with weights in registers on purpose, as in test_mutations.py.

What only breaks the order of accesses is proved by the emulator's clocks, whether or not a wrong value comes of it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .mutants import (
    Edit,
    Emitted,
    Find,
    Mutation,
    argument,
    argument_of,
    assigned,
    at,
    binary,
    both,
    call,
    every,
    function,
    instead,
    instruction,
    kernel,
    left,
    names,
    only,
    operand,
    operands,
    right,
    to,
    without,
)
from .test_mutations import DELAYED, assert_caught

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


def fragments(emitted: Emitted) -> ast.List:
    """A stage's registers of A, for 16 elements along K."""
    return only(every(only(every(emitted.function("weight_fragments"), ast.Return), "result"), ast.List), "fragment")


def turned(node: ast.List) -> ast.AST:
    """The first two registers in each other's place."""
    node.elts[:2] = reversed(node.elts[:2])
    return node


def parts(emitted: Emitted) -> ast.Call:
    """What goes over the stages of a step along K."""
    steps = (loop for loop in every(emitted.kernel, ast.For) if ast.unparse(loop.target) == "k_tile")
    inner = only(every(only(steps, "loop over K"), ast.For), "loop over stages")
    return only(every(ast.Expr(inner.iter), ast.Call), "range of stages")


def slab(emitted: Emitted) -> ast.Call:
    """Where a warpgroup's results are on their way out."""
    return call(kernel, "subview", 0, lambda each: "y_slabs" in names(each))(emitted)


def place_of_scales(emitted: Emitted) -> ast.expr:
    """Which of a lane's rows a word of scales is put down for."""
    stores = (each.targets[0] for each in every(emitted.function("w_scales_ahead"), ast.Assign))
    return only((each for each in stores if isinstance(each, ast.Subscript)), "place of scales").slice


def first_stage(emitted: Emitted) -> ast.expr:
    """The stage with which a warpgroup starts, where two take them in turns."""
    values = (each.value for each in every(emitted.kernel, ast.Assign))
    return only((each for each in values if ast.unparse(each) == "warpgroup"), "first stage")


def waited(ring: str) -> Find:
    """The wait for a barrier of a ring: one role alone waits for each."""
    return call(kernel, "wait", 0, lambda each: ring in names(each.args[0]))


def met(barrier: str, which: int = 0) -> Find:
    """A place where warps meet at a named barrier."""
    return call(kernel, "barrier_cta_sync", which, lambda each: barrier in names(each))


def without_name(name: str) -> Edit:
    """A sum without a term that is a name."""

    def change(node: ast.AST) -> ast.AST:
        for each in every(ast.Expr(node), ast.BinOp):  # pyright: ignore[reportArgumentType]
            if isinstance(each.left, ast.Name) and each.left.id == name:
                each.left = ast.Constant(0)
        return node

    return change


GROUP_WAIT = "wgmma_wait_group_sync_aligned"
SCALES = call(kernel, "atom_scales")
FIRST_AHEAD, AHEAD = call(kernel, "w_scales_ahead"), call(kernel, "w_scales_ahead", 1)
STORED = call(kernel, "store_transposed")
IN = {
    "stored": [
        Mutation(
            "products not waited for before their stage is freed", without(call(kernel, GROUP_WAIT)), ordered=True
        ),
        Mutation("sums stored in flight", without(call(kernel, GROUP_WAIT, 1)), ordered=True),
        Mutation("registers not fenced", without(call(kernel, "wgmma_fence_aligned")), ordered=True),
        Mutation("codes read without a fence", without(call(kernel, "fence_proxy")), ordered=True),
        Mutation("fragments of the wrong row", at(assigned(function("weight_fragments"), "row"), left)),
        Mutation("fragments in the wrong order", at(fragments, turned)),
        Mutation("codes of another lane", at(binary(function("lane_selector"), ast.Mult), operand("right", to("0")))),
        Mutation("scales of another row", at(argument(SCALES, 1), left)),
        Mutation("scales of other elements", at(binary(function("weight_fragments"), ast.FloorDiv), to("0"))),
        Mutation("stage not waited for", without(waited("ab_full")), mode=DELAYED),
        Mutation("load does not wait for a free stage", without(waited("ab_empty")), mode=DELAYED),
        Mutation("x of another step of K", at(assigned(kernel, "x_part"), instead(32, 16))),
        Mutation("stage of an odd step left out", at(argument(parts, 0), to("1"))),
        Mutation("result not turned around", at(instruction("stmatrix.sync"), operands(r"\.trans", ""))),
        Mutation("result in the wrong swizzle", at(binary(function("stage_transposed"), ast.BitXor), left)),
        Mutation("result of the other warpgroup", at(argument(slab, 0), to("0"))),
        Mutation(
            "slab overwritten while it is stored", without(call(kernel, "cp_async_bulk_wait_group")), mode=DELAYED
        ),
        Mutation("store before all warps have written", without(met("STORE_BARRIER", 1)), ordered=True),
    ],
    "exchanged": [
        Mutation("scales of this stage read ahead", at(argument(AHEAD, 3), left)),
        Mutation("scales of other rows", both(*(at(argument(each, 2), right) for each in (AHEAD, FIRST_AHEAD)))),
        Mutation("second rows' scales those of the first", at(place_of_scales, to("1 - half"))),
        Mutation("sums of other rows of x", at(binary(function("store_transposed"), ast.Mod), to("0"))),
        Mutation("sums of other weights", at(binary(function("store_transposed"), ast.Mod, 1), to("0"))),
        Mutation("second rows of a tile are the first", at(argument(STORED, 1), to("0"))),
        Mutation("epilogue does not wait for sums", without(waited("acc_full")), mode=DELAYED, ordered=True),
        Mutation("sums overwritten before they are read", without(waited("acc_empty")), mode=DELAYED, ordered=True),
    ],
    "two": [
        Mutation("both operands' codes the first's", at(call(kernel, "where_int"), argument_of(1))),
        Mutation("both operands' scales the first's", at(call(kernel, "where_int", 1), argument_of(1))),
        Mutation("scales of the atom's first half", at(argument(SCALES, 1), without_name("atom_row"))),
    ],
    "turns": [
        Mutation("both warpgroups start with one stage", at(first_stage, to("cutlass.Int32(0)"))),
        Mutation("the second's sums are dropped", at(call(function("add_partial"), "add"), argument_of(0))),
        Mutation("sums added before they are written", without(met("PARTIAL_BARRIER")), ordered=True),
        Mutation("sums overwritten before they are added", without(met("PARTIAL_BARRIER", 1)), ordered=True),
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

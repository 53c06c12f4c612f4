"""PTX of kernels whose names are those that emitted files, their language or PTX have for something else."""

from __future__ import annotations

import random

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source

from ..codegen.names_spec import SLOTS, TARGETS, neutral, spec, words
from .conftest import Compiler

#: Names that went wrong once: constants of the file, locals of the kernel, words of the DSL, of PTX and of Python.
NASTY = {
    "kernel": "MMA_WARP", "left": "STAGES", "right": "TILE_K", "row": "A_BYTES", "column": "ACC_STRIDE", "dim": "BAND",
    "tile": "cutlass", "scalar": "tmem", "param": "prims", "output": "_", "codes": "element", "top": "lambda",
    "value": "acc", "function": "place", "formal": "column", "format": "wait", "layout": "LOAD_WARP",
}  # fmt: skip
OTHERS = {
    "kernel": "WARP_SZ", "left": "a", "right": "a_scale", "row": "self", "column": "b_factor", "dim": "m_size",
    "tile": "loop_body_0", "scalar": "a_ts", "param": "start_0", "output": "c_smem", "codes": "store_c_scales",
    "top": "__name__", "value": "print", "function": "launch", "formal": "x", "format": "Path", "layout": "compile",
}  # fmt: skip


def ptx(compiler: Compiler, text: str, target: str) -> str:
    """The PTX of a kernel, its entry called `entry`."""
    (kernel,) = analyze(Source("spec.fp4", text), None).raise_errors().kernels
    found = compiler.compile(emit(lower(kernel, target)), target)["ptx"].decode()
    assert f".entry {kernel.name}_0(" in found
    return found.replace(f"{kernel.name}_0", "entry")


@pytest.mark.parametrize(
    ("chosen", "target"),
    [
        pytest.param(NASTY, "sm_100a", id="nasty-sm_100a"),
        pytest.param(NASTY, "sm_90a", id="nasty-sm_90a", marks=pytest.mark.slow),
        pytest.param(OTHERS, "sm_100a", id="others-sm_100a", marks=pytest.mark.slow),
        pytest.param(OTHERS, "sm_90a", id="others-sm_90a", marks=pytest.mark.slow),
    ],
)
def test_the_ptx_is_that_of_neutral_names(compiler: Compiler, chosen: dict[str, str], target: str) -> None:
    assert ptx(compiler, spec("gemm", **chosen), target) == ptx(compiler, neutral("gemm", **chosen), target)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", range(12))
def test_the_ptx_is_that_of_neutral_names_for_any_words(compiler: Compiler, seed: int, target: str) -> None:
    some = random.Random(seed)
    chosen = dict(zip(SLOTS["gemm"], some.sample(words(), len(SLOTS["gemm"])), strict=True))
    if analyze(Source("spec.fp4", spec("gemm", **chosen)), None).failed:
        return  # the language has one of these words for something
    assert ptx(compiler, spec("gemm", **chosen), target) == ptx(compiler, neutral("gemm", **chosen), target)

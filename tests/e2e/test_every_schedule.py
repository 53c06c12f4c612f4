"""Every schedule that the compiler could choose computes what the spec says, not only those that it does choose.

Kernels with epilogues of all kinds times the legal blocks of all engines. All of them take long: some of each kernel
are drawn by a seed (`FP4CC_SEED`).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.kernel import Kernel, Schedule
from fp4cc.passes import lower
from fp4cc.passes.choice import forms
from fp4cc.passes.choice.cases import Fields
from fp4cc.passes.engines.registry import ENGINES
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4cc.tuning.blocks import lines

from ..gpu.test_specs import sizes

Run = Callable[..., Any]
TARGETS = ("sm_90a", "sm_100a")
DRAWN = 3
SIZES = ({"M": 70, "N": 192, "K": 992}, {"M": 300, "N": 160, "K": 544})
SPECS = Path(__file__).parent.parent / "gpu"
#: Two outputs of 32 bits, whose way out takes shared memory from the stages, and what looks along rows.
MORE = """
kernel two_wide(M, N, K) {
    in x : bf16[M, K]; in w : nvfp4[N, K]; out y : f32[M, N]; out z : f32[M, N]
    h = x @ w.T
    y = h
    z = 2 * h
}
kernel faked(M, N, K) {
    in x : bf16[M, K]; in w : nvfp4[N, K]; out y : bf16[M, N]
    y = dequantize(quantize(x @ w.T, format = mxfp8))
}
kernel turned(M, N, K) {
    in x : bf16[M, K]; in w : mxfp4[N, K]; out y : bf16[M, N]
    y = hadamard(x @ w.T, over = N, size = 16)
}
"""


def kernels() -> dict[str, Kernel]:
    """By name: those with many epilogues and products, FP8 with fast sums, two scaled operands, and MORE."""
    texts = [*(SPECS.joinpath(f"{name}.fp4").read_text() for name in ("epilogues", "products", "fp8", "pairs")), MORE]
    found = [analyze(Source("spec.fp4", text), SPECS).raise_errors().kernels for text in texts]
    return {kernel.name: kernel for each in found for kernel in each}


KERNELS = kernels()


def with_block(kernel: Kernel, target: str, fields: Fields) -> Kernel:
    block = Schedule(target, None, fields, kernel.span, dict.fromkeys(fields, kernel.span))
    return replace(kernel, schedules=(block,))


def check(
    compiler: Any, run: Run, kernel: Kernel, target: str, fields: Fields, *, some: Sequence[dict[str, int]] = SIZES
) -> None:
    artifact = compiler.built(lower(with_block(kernel, target, fields), target), target)
    for wanted in some:
        trial = run(artifact, sms=2, seed=3, **sizes(artifact, wanted))
        assert trial.identical, (lines(fields), wanted, [str(c) for c in trial.comparisons])


@pytest.mark.parametrize("name", ["faked", "two_wide"])
def test_warpgroups_that_take_turns(name: str, compiler: Any, run: Run) -> None:
    """Blocks along rows of a result that lies transposed in registers; few stages beside a large epilogue."""
    check(compiler, run, KERNELS[name], "sm_90a", {"tile": (128, 64, 64)}, some=[{"M": 20, "N": 64, "K": 544}])


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KERNELS)
def test_blocks_drawn_by_a_seed(name: str, target: str, compiler: Any, run: Run) -> None:
    kernel = replace(KERNELS[name], schedules=())
    legal: list[Fields] = []
    for fields in forms.blocks(kernel, target, ENGINES.blocks):
        try:
            lower(with_block(kernel, target, fields), target)
        except DiagnosticError:
            continue
        legal.append(fields)
    draw = random.Random(f"{os.environ.get('FP4CC_SEED', 0)} {name} {target}")
    for fields in draw.sample(legal, min(DRAWN, len(legal))):
        check(compiler, run, kernel, target, fields)

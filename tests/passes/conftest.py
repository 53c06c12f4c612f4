"""Lowering of specs given as text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes import lower
from fp4cc.sema import analyze, specialize
from fp4cc.source import Source

Lower = Callable[..., LoweredKernel]


@pytest.fixture
def lower_text() -> Lower:
    """Lower the first kernel of a text; keyword arguments fix dims."""

    def run(text: str, target: str = "sm_100a", **dims: int) -> LoweredKernel:
        kernel = analyze(Source("spec.fp4", text), None).raise_errors().kernels[0]
        return lower(specialize(kernel, dims), target)

    return run


@pytest.fixture
def lower_gemm(lower_text: Lower) -> Lower:
    """Lower `c = a @ b.T` with formats `a` and `b`, an output type, and a schedule's fields as text."""

    def run(a: str = "nvfp4", b: str = "", *, out: str = "bf16", fields: str = "", **dims: int) -> LoweredKernel:
        args = f"in a : {a}[M, K]; in b : {b or a}[N, K]; out c : {out}[M, N]"
        text = f"kernel gemm(M, N, K) {{ {args}; c = a @ b.T }}\n"
        if fields:
            text += f"schedule gemm on sm_100a {{ {fields} }}\n"
        return lower_text(text, **dims)

    return run

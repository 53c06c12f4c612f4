"""What the emulator runs in these tests is what users' cubins are made of."""

from __future__ import annotations

import pytest

from fp4cc.codegen.emit import emit

from ..unoptimized import unoptimized
from .conftest import Compiler

TEXT = """
kernel up(M, N, K) {
    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in s : f32[]
    out y : nvfp4[M, N]; out total : f32[M]
    h = relu(x @ w.T)
    y = quantize(h, tensor_scale = s)
    total = sum(h, over = N)
}
"""


@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_the_ptx_does_not_depend_on_the_assemblers_level(compiler: Compiler, target: str) -> None:
    python = emit(compiler.lowered(TEXT, target))
    optimized, other = compiler.compile(python, target), compiler.compile(unoptimized(python), target)
    assert optimized["ptx"] == other["ptx"]
    assert optimized["cubin"] != other["cubin"]

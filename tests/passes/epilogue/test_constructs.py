"""The plan's halves of the epilogue's constructs: each thing is claimed by one, and a plan takes what they need."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes.epilogue.registry import CONSTRUCTS
from fp4cc.passes.problem.unzip import Frame
from fp4rt.ops import OPS

Lower = Callable[..., LoweredKernel]
#: Every kind of value, input and output.
SPEC = """
kernel k(M, N, K) {
    in a : e4m3[M, K]; in b : e4m3[N, K]
    in column : f32[N]; in row : f32[M]; in tile : bf16[M, N]; in signs : f32[32]; in amax : f32[]; in rng : u64[2]
    param gain : f32 = 1.5
    out y : bf16[M, N]
    out q : mxfp8[M, N]
    out top : f32[N]
    s = (a @ b.T * column + row + tile * gain) * amax + N + uniform(rng, stream = 1)
    h = hadamard(s, over = N, size = 32, signs = signs)
    y = dequantize(quantize(h, amax = amax, format = nvfp4))
    q = quantize(s)
    top = max(s, over = M)
}
"""
GEMM = "kernel k(M, N, K) {{ in a : e4m3[M, K]; in b : e4m3[N, K]; in v : f32[N]; out y : {}; y = {} }}"


@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_each_thing_is_claimed_by_one_construct(lower_text: Lower, target: str) -> None:
    """But for what one only stores and another would compute: that of an output is the output's."""
    program = lower_text(SPEC, target).epilogue
    frame = Frame(program.kernel, program.problem, program.accumulators, program.group)
    known = CONSTRUCTS.known
    for statement in program.statements:
        value = program.kernel.values[statement.value]
        makers = [each.name for each in known if each.makes(statement.value, frame)]
        assert len(makers) == (OPS[value.op].kind != "leaf"), (value.op, makers)
    for leaf in program.inputs:
        assert [leaf.kind in each.reads for each in known].count(True) == 1, leaf
    for output in program.outputs:
        assert [output.kind in each.writes for each in known].count(True) == 1, output
    for store in program.kernel.stores:
        arg, value = program.kernel.arg(store.arg), program.kernel.values[store.value]
        assert [each.stores(arg, value, frame) for each in known].count(True) == 1, arg.name
    # All but those that are there for halves, for blocks over a line, for quantized inputs without a product, and for
    # rows by number.
    assert {each.name for each in known} - set(program.constructs) == {"unzipped", "measure", "decoded", "gathered"}


@pytest.mark.parametrize(
    ("out", "value", "met"),
    [
        ("bf16[M, N]", "a @ b.T", False),
        ("bf16[M, N]", "a @ b.T * v", True),
        ("bf16[M, N]", "hadamard(a @ b.T, over = N, size = 128)", False),
        ("bf16[M, N]", "hadamard(a @ b.T, over = M, size = 128)", True),
        ("ds_act[M, N]", "quantize(a @ b.T)", False),
        ("ds_weight[M, N]", "quantize(a @ b.T)", True),
    ],
)
def test_the_epilogues_barrier_is_there_where_its_warps_meet(
    lower_text: Lower, out: str, value: str, met: bool
) -> None:
    """Columns in shared memory, transforms of several warps' rows, blocks of theirs."""
    for target in ("sm_100a", "sm_90a"):
        plan = lower_text(GEMM.format(out, value), target)
        assert plan.epilogue.barriers == (("EPILOGUE_BARRIER",) if met else ())
        assert [b.number for b in plan.named_barriers if b.name == "EPILOGUE_BARRIER"] == [1] * met

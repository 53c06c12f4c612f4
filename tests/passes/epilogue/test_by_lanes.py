"""Which kernels have rows that lanes share: those whose outputs a lane can quantize from its own columns alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes.epilogue.by_lanes import by_lanes

Lower = Callable[..., LoweredKernel]
X, TOP, RNG = "in x : bf16[M, N];", "in top : f32[];", "in rng : u64[2];"


def spec(body: str) -> str:
    return f"kernel k({'L, ' * ('L' in body)}M, N) {{ {body} }}"


SHARED = {
    "nvfp4": f"{X} {TOP} out q : nvfp4[M, N]; q = quantize(x, amax = top)",
    "mxfp4": f"{X} out q : mxfp4[M, N]; q = quantize(x)",
    "mxfp8": "in x : f16[M, N]; out q : mxfp8[M, N]; q = quantize(x)",
    "batches": "in x : bf16[L, M, N]; out q : mxfp4[L, M, N]; q = quantize(x)",
    "two of each": f"{X} in g : e4m3[M, N]; out q : mxfp4[M, N]; out p : mxfp8[M, N]; q = quantize(x * g); "
    "p = quantize(gelu(g))",
    "hadamard": f"{X} in s : f32[32]; out q : mxfp4[M, N]; q = quantize(hadamard(x, over = N, size = 32, signs = s))",
    "stochastic": f"{X} {RNG} out q : mxfp4[M, N]; q = quantize(x, rounding = stochastic(rng, stream = 1))",
    "param": f"{X} param gain : f32 = 2.0; out q : mxfp4[M, N]; q = quantize(x * gain)",
}
ALONE = {
    "another plain output": f"{X} out q : mxfp4[M, N]; out y : bf16[M, N]; q = quantize(x); y = x",
    "columns too": f"{X} out q : mxfp4[M, N]; out t : mxfp4[N, M]; q = quantize(x); t = quantize(x.T)",
    "a reduction": f"{X} out q : mxfp4[M, N]; out top : f32[]; q = quantize(x); top = max(abs(x), over = all)",
    "blocks of several rows": f"{X} {TOP} out q : nvfp4_2d[M, N]; q = quantize(x, amax = top)",
    "blocks of 128": f"{X} out q : ds_act[M, N]; q = quantize(x)",
    "24 bytes": f"{X} out q : mxfp6_e3m2[M, N]; q = quantize(x)",
    "wide elements": "in x : f32[M, N]; out q : mxfp4[M, N]; q = quantize(x)",
    "columns apart": "in x : bf16[N, M]; out q : mxfp4[M, N]; q = quantize(x.T)",
    "a value a row": f"{X} in s : f32[M]; out q : mxfp4[M, N]; q = quantize(x * s)",
    "a value a column": f"{X} in s : f32[N]; out q : mxfp4[M, N]; q = quantize(x * s)",
    "hadamard down": f"{X} out q : mxfp4[M, N]; q = quantize(hadamard(x, over = M, size = 32))",
    "hadamard of 64": f"{X} out q : mxfp4[M, N]; q = quantize(hadamard(x, over = N, size = 64))",
    "a product": "in a : bf16[M, L]; in b : bf16[N, L]; out q : mxfp4[M, N]; q = quantize(a @ b.T)",
}


@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("name", SHARED)
def test_quantizers_have_rows_that_lanes_share(lower_text: Lower, name: str, target: str) -> None:
    lowered = lower_text(spec(SHARED[name]), target)
    assert lowered.epilogue.by_lanes
    assert not lowered.tensor_maps and not lowered.smem.buffers and not lowered.named_barriers
    assert all(leaf.load is None for leaf in lowered.epilogue.inputs)
    assert by_lanes(lowered.epilogue) is None  # it was asked once


@pytest.mark.parametrize("name", ALONE)
def test_what_others_are_needed_for_is_left_to_threads_with_a_row(lower_text: Lower, name: str) -> None:
    assert not lower_text(spec(ALONE[name]), "sm_90a").epilogue.by_lanes


def test_a_flag_says_whether_rows_start_on_16_bytes(lower_text: Lower) -> None:
    given = f"{X} {TOP} out q : nvfp4[M, N]; q = quantize(x, amax = top)"
    params = {p.name: p.param.source for p in lower_text(spec(given), "sm_90a").launch.params}
    assert params["q_vector"] == ("eq", ("mod", ("div", ("mul", "N", 4), 8), 16), 0)
    always = lower_text(spec(SHARED["mxfp4"]), "sm_90a").launch.params  # N is a multiple of 32
    assert not any(p.name == "q_vector" for p in always)

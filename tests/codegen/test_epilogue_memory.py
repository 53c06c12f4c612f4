"""Tile inputs that TMA loads ahead, and plans that stage less where shared memory is short."""

from __future__ import annotations

import pytest

from fp4cc.passes import lower
from fp4cc.passes.epilogue.memory import STAGING_LIMIT
from fp4rt.devices.emulator import EmulatorDevice

from .pipeline import Built, build, parse, run

INPUTS = """
kernel k(L, M, N, K) {
    in x : nvfp4[L, M, K]; in w : nvfp4[L, N, K]
    in t : f32[L, M, N]; in u : bf16[M, N]; in c : f16[L, M, N]; in d : e4m3[L, M, N]
    in e : e5m2[M, N]; in f : f32[N, M]
    param beta : f32 = 0.5
    inout y : bf16[L, M, N]
    y = x @ w.T + t * u + c * d + e - f + beta * y
}
schedule k on sm_100a { tile 128 x 128 x 256 }
"""


def many_outputs(count: int, dtype: str = "f32") -> str:
    outputs = "; ".join(f"out y{i} : {dtype}[M, N]" for i in range(count))
    bodies = "\n".join(f"    y{i} = h + {i}" for i in range(count))
    return f"""
kernel k(M, N, K) {{
    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in r : f32[M, N]
    {outputs}
    h = x @ w.T + r
{bodies}
}}
"""


@pytest.fixture(scope="module")
def inputs() -> Built:
    return build(INPUTS)


def test_inputs_are_loaded_ahead(inputs: Built) -> None:
    loaded = {leaf.name for leaf in inputs.lowered.epilogue.inputs if leaf.load is not None}
    # f lies across the product, and t finds no room: their threads read them.
    assert loaded == {"u", "c", "d", "e", "y"}


@pytest.mark.parametrize(
    "dims", [pytest.param((1, 128, 256, 32), marks=pytest.mark.slow), (2, 130, 272, 32), (3, 77, 99, 32), (1, 5, 8, 32)]
)
def test_inputs_of_every_type(inputs: Built, dims: tuple[int, int, int, int]) -> None:
    sizes = dict(zip(("L", "M", "N", "K"), dims, strict=True))
    for beta in (0.5, 0.0):
        for comparison in run(inputs, sizes, beta=beta):
            assert comparison.equal, f"beta {beta}: {comparison}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_late_loads(inputs: Built, seed: int) -> None:
    device = EmulatorDevice(mode="delayed", seed=seed, sms=2)
    for comparison in run(inputs, {"L": 2, "M": 40, "N": 134, "K": 32}, device=device):
        assert comparison.equal, str(comparison)


@pytest.mark.parametrize("count", [1, 2, 4, 12])
def test_staging_fits(count: int) -> None:
    lowered = lower(parse(many_outputs(count)), "sm_100a")
    buffers = [buffer for buffer in lowered.smem.buffers if "sub-tiles" in buffer.what]
    assert sum(buffer.total for buffer in buffers) <= STAGING_LIMIT


def test_results_that_leave_from_registers() -> None:
    built = build(many_outputs(8, "bf16").replace("y0 : bf16", "y0 : f32").replace("y1 : bf16", "y1 : f32"))
    assert any(output.store.via != "direct" for output in built.lowered.epilogue.outputs)
    direct = build(many_outputs(12))
    assert {output.store.via for output in direct.lowered.epilogue.outputs} == {"direct"}
    for case in (built, direct):
        for comparison in run(case, {"M": 70, "N": 136, "K": 32}):
            assert comparison.equal, str(comparison)

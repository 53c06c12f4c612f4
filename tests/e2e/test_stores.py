"""How a schedule block asks for results to be stored: by TMA or by threads, with the same bits."""

from __future__ import annotations

from itertools import product

import pytest

from .conftest import Compiler, run_artifact

#: Engines that take the choice: target, operands, and what the kernel says before its values.
ENGINES = {
    "tcgen05": ("sm_100a", "nvfp4", "nvfp4", ""),
    "tcgen05, converted": ("sm_100a", "bf16", "nvfp4", ""),
    "wgmma": ("sm_90a", "nvfp4", "nvfp4", ""),
    "wgmma_fp8": ("sm_90a", "e4m3", "e4m3", "accumulate = fast"),
}
#: Outputs and statements on the product `p`, and whether TMA can store all of them.
EPILOGUES = {
    "plain": ("out y : bf16[M, N]", "y = p", True),
    "wide": ("out y : f32[M, N]; out z : f16[M, N]", "y = p; z = p + 1.0", True),
    "bytes": ("in row : f32[M]; out y : e4m3[M, N]", "y = p * row", True),
    "residual": (
        "in r : bf16[M, N]; out y : bf16[M, N]; out top : f32[M]",
        "y = p + r; top = max(abs(p), over = N)",
        True,
    ),
    "across": ("out y : bf16[N, M]", "y = p.T", False),
    "rows": ("in ts : f32[]; out y : nvfp4[M, N]", "y = quantize(p, tensor_scale = ts)", True),
    "columns": ("in ts : f32[]; out y : nvfp4[N, M]", "y = quantize(p.T, tensor_scale = ts)", False),
    "mx rows": ("out y : mxfp8_e4m3[M, N]; out z : bf16[M, N]", "y = quantize(p); z = p", True),
}
CELLS = list(product(ENGINES, EPILOGUES, ("direct", "tma")))
SAMPLE = [("tcgen05", "rows", "direct"), ("wgmma", "plain", "tma")]


def spec(engine: str, epilogue: str, way: str, n: str) -> tuple[str, str]:
    target, a, b, fast = ENGINES[engine]
    outs, statements, _ = EPILOGUES[epilogue]
    by = f"matmul(a, b.T, {fast})" if fast else "a @ b.T"
    text = f"kernel k(M, {n}, K) {{ in a : {a}[M, K]; in b : {b}[N, K]; {outs}; p = {by}; {statements} }}\n"
    return text + f"schedule k on {target} {{ store {way} }}\n", target


def cell(compiler: Compiler, engine: str, epilogue: str, way: str) -> None:
    """With a last tile that is not full; threads also store rows of an odd length where the output has no blocks."""
    odd = way == "direct" and "quantize" not in EPILOGUES[epilogue][1]
    text, target = spec(engine, epilogue, way, "N" if way == "direct" else "N = 160")
    artifact = compiler.artifact(text, target)
    (ptx,) = (data.decode() for name, data in artifact.files.items() if name.endswith(".ptx"))
    assert ("cp.async.bulk.tensor.2d.global.shared" in ptx) == (way == "tma")
    for dims in ({"M": 160, "K": 256, **({"N": 160} if way == "direct" else {})}, {"M": 50, "N": 77, "K": 128}):
        if "N" in dims and dims["N"] == 77 and not odd:
            continue
        trial = run_artifact(artifact, sms=2, **dims)
        assert trial.equal, (text, dims, trial.comparisons)


@pytest.mark.parametrize(("engine", "epilogue", "way"), SAMPLE)
def test_results_are_stored_as_asked(compiler: Compiler, engine: str, epilogue: str, way: str) -> None:
    cell(compiler, engine, epilogue, way)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "epilogue", "way"), [
    each for each in CELLS if each not in SAMPLE and (each[2] == "direct" or EPILOGUES[each[1]][2])
])  # fmt: skip
def test_every_engine_with_every_epilogue(compiler: Compiler, engine: str, epilogue: str, way: str) -> None:
    cell(compiler, engine, epilogue, way)

"""Weights from registers on Hopper: emulated kernels equal the reference, whatever operands, sizes and epilogues."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from fp4cc.ir.lowered import WgmmaRS

Check = Callable[..., None]

FORMATS = """
format lines      extends nvfp4 { layout linear }
format squares    extends nvfp4 { scale e4m3 per 16 x 16 }
format steps      extends mxfp6 { scale e8m0 per 1 x 64 }
format long       extends mxfp4 { scale e8m0 per 1 x 256 }
format rows       extends mxfp4 { scale e8m0 per 1 x all }
format nvfp6_e3m2 extends nvfp4 { element e3m2 pack low_first }
format nvfp6_e2m3 extends nvfp4 { element e2m3 pack low_first; layout linear }
"""
BF16 = ("nvfp4", "nvfp4_2d", "lines", "squares", "mxfp4", "steps", "long", "rows", "mxfp6_e3m2", "mxfp6_e2m3",
        "fp8_token", "e4m3", "e5m2")  # fmt: skip
F16 = ("nvfp4", "lines", "nvfp6_e3m2", "nvfp6_e2m3", "e4m3", "e5m2")
#: By name: arguments beside x and w, outputs, statements. What is stored from registers, and what an epilogue does.
EPILOGUES = {
    "plain": ("", "out y : {wide}[{lead}M, N]", "y = x @ w.T"),
    "scalars": ("in s : f32[]; param alpha : f32", "out y : bf16[{lead}M, N]", "y = relu(x @ w.T * s) * alpha"),
    "f32": ("", "out y : f32[{lead}M, N]", "y = x @ w.T"),
    "bias": ("in bias : bf16[N]; in r : bf16[{lead}M, N]", "out y : bf16[{lead}M, N]", "y = gelu(x @ w.T + bias) + r"),
    "two": ("in v : f32[{lead}M]", "out y : bf16[{lead}M, N]; out z : f32[{lead}M, N]", "y = x @ w.T; z = x @ w.T * v"),
    "quantized": ("in ts : f32[]", "out y : nvfp4[{lead}M, N]", "y = quantize(x @ w.T, tensor_scale = ts)"),
    "columns": ("in ts : f32[]", "out y : nvfp4[{lead}N, M]", "y = quantize((x @ w.T).T, tensor_scale = ts)"),
    "amax": (
        "",
        "out y : bf16[{lead}M, N]; out top : f32[]",
        "y = x @ w.T; top = max(abs(x @ w.T), over = ({over}M, N))",
    ),
}
FEW = {"amax", "quantized", "columns"}  # not with batches here


def spec(x: str, w: str, epilogue: str = "plain", lead: str = "", tile: str = "", of_w: str | None = None) -> str:
    inputs, outputs, body = (text.format(wide=x, lead=lead, over=lead) for text in EPILOGUES[epilogue])
    args = [f"in x : {x}[{lead}M, K]", f"in w : {w}[{lead if of_w is None else of_w}N, K]"]
    args += [part for part in (inputs, outputs) if part]
    schedule = f"\nschedule gemm on sm_90a {{ tile {tile} }}" if tile else ""
    return f"{FORMATS}kernel gemm({lead}M, N, K) {{ {'; '.join(args)}; {body} }}{schedule}\n"


def ours(compiler: Any, text: str) -> WgmmaRS:
    return compiler.lowered(text, "sm_90a").engine_as(WgmmaRS)


def test_results_from_registers(compiler: Any, check: Check) -> None:
    """Rows of y that TMA can store, and rows that it cannot, through one kernel."""
    text = spec("bf16", "nvfp4", tile="128 x 128 x 64")
    assert ours(compiler, text).stores
    check(text, "sm_90a", M=70, N=72, K=160)
    check(text, "sm_90a", M=33, N=11, K=32)


def test_an_epilogue_of_its_own_warps(compiler: Any, check: Check) -> None:
    """Two runs of 128 rows of a tile, and a tile after it."""
    text = spec("bf16", "lines", "bias", tile="256 x 128 x 64")
    assert not ours(compiler, text).stores
    check(text, "sm_90a", M=130, N=136, K=96, sms=1)


def test_stages_in_turns(compiler: Any, check: Check) -> None:
    """Two warpgroups with the same weight rows, each with every second stage; the first adds the other's sums."""
    text = spec("bf16", "nvfp4", tile="128 x 64 x 64")
    assert ours(compiler, text).turns
    check(text, "sm_90a", M=40, N=72, K=352)


def test_sums_are_cleared_before_the_fence(compiler: Any, check: Check) -> None:
    """With K known the first step is compiled apart, where zeros would be written behind the fence of its wgmma."""
    text = spec("bf16", "nvfp4", tile="128 x 64 x 64").replace("K)", "K = 256)")
    assert ours(compiler, text).turns
    check(text, "sm_90a", M=8, N=64, K=256, order="strict")


@pytest.mark.slow
def test_few_rows(compiler: Any, check: Check) -> None:
    """Tiles of 64 rows, where no epilogue's threads have one each."""
    text = spec("bf16", "lines", tile="64 x 64 x 64")
    assert ours(compiler, text).rows == 64
    check(text, "sm_90a", M=100, N=136, K=352, sms=2, mode="delayed", order="strict")
    check(text, "sm_90a", M=33, N=71, K=96)


CASES = [
    *((x, w, e, "", "") for x, ws in (("bf16", BF16), ("f16", F16)) for w in ws for e in ("plain", "f32")),
    *(("bf16", w, e, lead, tile) for w in ("nvfp4", "lines") for e in EPILOGUES for lead in ("", "L, ")
      for tile in ("256 x 128 x 64", "128 x 128 x 64", "128 x 64 x 64") if not (lead and e in FEW)),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("x", "w", "epilogue", "lead", "tile"), CASES, ids=lambda v: str(v).replace(" ", "") or "-")
def test_all(compiler: Any, check: Check, x: str, w: str, epilogue: str, lead: str, tile: str) -> None:
    """Sizes by seed: none is a whole number of tiles."""
    seed = sum(map(ord, x + w + epilogue + lead + tile))
    numbers = random.Random(seed)
    text = spec(x, w, epilogue, lead, tile, of_w=numbers.choice(["", lead]))
    assert ours(compiler, text).stores == (epilogue in ("plain", "scalars"))
    n = 16 * numbers.randint(1, 17)
    m = 16 * numbers.randint(1, 20) if epilogue == "columns" else numbers.randint(1, 300)
    sizes = {"M": m, "N": n, "K": 64 * numbers.randint(1, 6), **({"L": 2} if lead else {})}
    check(text, "sm_90a", seed=seed, **sizes)
    check(text, "sm_90a", seed=seed, mode="delayed", sms=2, order="strict", **sizes)


SEVERAL = {
    "dual": "in d : {w}[N, K]; out y : f32[M, N]; y = (x @ w.T) * (x @ d.T)",
    "three": "in d : {w}[N, K]; in e : {w}[N, K]; out y : bf16[M, N]; y = (x @ w.T) * (x @ d.T) + relu(x @ e.T)",
    "interleaved": "out y : bf16[M, F]; g, u = unzip(x @ w.T, N -> F, group = 32); y = silu(g) * u",
    "turns": "out y : bf16[M, F]; g, u = unzip(x @ w.T, N -> F, group = 128); y = silu(g) * u",
    "halves": "out y : bf16[M, F]; g, u = unzip(x @ w.T, N -> F, group = F); y = silu(g) * u",
}


@pytest.mark.slow
@pytest.mark.parametrize("w", ["nvfp4", "lines", "squares"])
@pytest.mark.parametrize("name", SEVERAL)
def test_several_products(compiler: Any, check: Check, name: str, w: str) -> None:
    dims = "M, N, K, F = N / 2" if "F" in SEVERAL[name] else "M, N, K"
    body = f"in x : bf16[M, K]; in w : {w}[N, K]; {SEVERAL[name].format(w=w)}"
    text = f"{FORMATS}kernel gemm({dims}) {{ {body} }}\n"
    assert ours(compiler, text).name == "wgmma_rs"
    check(text, "sm_90a", M=150, N=512, K=224)
    check(text, "sm_90a", M=260, N=256, K=96, mode="delayed", sms=2)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 32), (257, 129, 64), (128, 128, 0), (0, 8, 32)], ids=str)
def test_residues(check: Check, shape: tuple[int, int, int]) -> None:
    for epilogue in ("plain", "f32"):
        check(spec("bf16", "nvfp4", epilogue), "sm_90a", **dict(zip("MNK", shape, strict=True)))

"""Operands converted once a call on Hopper: two launches, or three, that equal the reference bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.manifest import manifest, plans
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt import Artifact

Check = Callable[..., None]

FORMATS = """
format lines   extends nvfp4 { layout linear }
format squares extends nvfp4 { scale e4m3 per 16 x 16 }
format eights  extends nvfp4 { scale e4m3 per 1 x 8; layout linear }
format long    extends mxfp4 { scale e8m0 per 1 x 256 }
format rows    extends mxfp8 { scale e8m0 per 1 x all; layout linear }
format small   extends nvfp4 { element e4m3; scale e4m3 per 1 x 32 }
"""
#: By name: arguments beside x and w, outputs, statements.
EPILOGUES = {
    "plain": ("", "out y : bf16[{lead}M, N]", "y = x @ w.T"),
    "f32": ("", "out y : f32[{lead}M, N]", "y = x @ w.T"),
    "bias": ("in bias : bf16[N]; in r : bf16[{lead}M, N]", "out y : bf16[{lead}M, N]", "y = gelu(x @ w.T + bias) + r"),
    "quantized": ("in ts : f32[]", "out y : nvfp4[{lead}M, N]", "y = quantize(x @ w.T, tensor_scale = ts)"),
    "top": ("", "out y : f32[{lead}M, N]; out top : f32[{lead}M]", "y = x @ w.T; top = max(x @ w.T, over = N)"),
    "gated": ("in v : {w}[N, K]", "out y : bf16[{lead}M, N]", "y = silu(x @ w.T) * (x @ v.T)"),
    "sum": ("in v : {w}[N, K]", "out y : bf16[{lead}M, N]", "y = x @ w.T + x @ v.T"),
    "tokens": ("", "out y : fp8_token[{lead}M, N]; out z : f32[{lead}M, N]", "z = x @ w.T; y = quantize(x @ w.T)"),
    "itself": ("", "out y : f32[{lead}M, M]", "y = x @ x.T"),
}


def spec(x: str, w: str, epilogue: str = "plain", lead: str = "", blocks: tuple[str, ...] = ("convert once",)) -> str:
    inputs, outputs, body = (text.format(lead=lead, w=w) for text in EPILOGUES[epilogue])
    of_w = [] if epilogue == "itself" else [f"in w : {w}[N, K]"]
    args = [f"in x : {x}[{lead}M, K]", *of_w, *(part for part in (inputs, outputs) if part)]
    schedules = "\n".join(f"schedule gemm on sm_90a {block}" for block in map(_block, blocks))
    n = "" if epilogue == "itself" else "N, "
    return f"{FORMATS}kernel gemm({lead}M, {n}K) {{ {'; '.join(args)}; {body} }}\n{schedules}\n"


def _block(text: str) -> str:
    return text if "{" in text else f"{{ {text} }}"


def lowered(text: str, most: int = 1) -> LoweredKernel:
    return lower(analyze(Source("spec.fp4", text), None).raise_errors().kernels[0], "sm_90a", most)


def test_plans_with_and_without_a_launch_before(check: Check) -> None:
    """One artifact whose plans differ in launches and in workspaces: sizes on both sides of what divides them."""
    text = spec("nvfp4", "nvfp4", blocks=("when M <= 40 { convert tile }", "{ convert once; tile 128 x 64 x 64 }"))
    plan = lowered(text)
    assert [len(each.launches) for each in (*plan.variants, plan)] == [1, 2]
    assert plan.variants[0].epilogue.workspace == 0
    for m in (1, 40, 41, 70):
        check(text, "sm_90a", M=m, N=72, K=160)


@pytest.mark.slow
def test_the_compilers_own_plans(compiler: Any, run: Callable[..., Any]) -> None:
    """Where no block decides: M on both sides of each threshold of a kernel for any M."""
    plan = lowered("kernel gemm(M, N = 256, K = 512) { in x : nvfp4[M, K]; in w : nvfp4[N, K]; out y : bf16[M, N]; "
                   "y = x @ w.T }", 6)  # fmt: skip
    every = (*plan.variants, plan)
    assert {len(each.launches) for each in every} == {1, 2}
    files = {
        f"{name}.{ending}": data
        for name, each in plans(plan).items()
        for ending, data in compiler.compile(emit(each), "sm_90a").items()
    }
    artifact = Artifact.build(manifest(plan, {}, {}), files)
    for m in (16, 17, 70):
        trial = run(artifact, M=m, N=256, K=512, sms=2)
        assert trial.equal, (m, trial.comparisons)


PAIRS = [
    ("nvfp4", "nvfp4"), ("mxfp4", "mxfp4"), ("mxfp8", "mxfp8"), ("mxfp8", "mxfp4"), ("mxfp4", "mxfp8"),
    ("nvfp4", "mxfp8_e5m2"), ("mxfp6", "mxfp6_e2m3"), ("mxfp6_e2m3", "nvfp4"), ("lines", "lines"),
    ("squares", "squares"), ("eights", "nvfp4"), ("long", "long"), ("rows", "mxfp8"), ("small", "small"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("x", "w"), PAIRS, ids="-".join)
def test_pairs(check: Check, x: str, w: str) -> None:
    """Every kind of element, scale and layout; K is no whole number of steps."""
    text = spec(x, w)
    assert len(lowered(text).before) == 1
    whole = 256 if x == "long" else 64 if "6" in x + w else 32
    check(text, "sm_90a", M=133, N=136, K=-(-320 // whole) * whole)
    check(text, "sm_90a", M=9, N=8, K=-(-96 // whole) * whole, sms=1, mode="delayed", order="strict")


#: One tensor scale is for all batches, and one operand twice is not transposed with them.
UNBATCHED = ("quantized", "itself")
CASES = [(e, x, lead) for e in EPILOGUES for x in ("nvfp4", "mxfp8") for lead in ("", "L, ")
         if not (lead and e in UNBATCHED)]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("epilogue", "x", "lead"), CASES, ids=lambda v: v.replace(", ", "") or "-")
def test_epilogues(check: Check, epilogue: str, x: str, lead: str) -> None:
    """The second launch has every epilogue; the form of a single launch computes the same."""
    sizes = {"M": 144, "N": 160, "K": 224, **({"L": 2} if lead else {})}
    if epilogue == "itself":
        del sizes["N"]
    for block in ("convert once", "convert tile"):
        check(spec(x, x, epilogue, lead, (block,)), "sm_90a", **sizes)


@pytest.mark.slow
def test_three_launches(check: Check) -> None:
    """Rows that are measured first, of a product whose operand is converted first."""
    text = spec("nvfp4", "nvfp4", "tokens", blocks=("when M <= 16 { convert tile }", "convert once"))
    plan = lowered(text)
    assert [len(each.launches) for each in (*plan.variants, plan)] == [2, 3]
    for m in (7, 16, 17, 150):
        check(text, "sm_90a", M=m, N=96, K=256)

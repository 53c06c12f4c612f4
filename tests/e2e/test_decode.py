"""Products of few rows for Hopper: every kind of operand, scale layout, size and epilogue, equal to the reference."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from fp4cc.ir.lowered import Decode, LoweredKernel
from fp4rt import random_inputs
from fp4rt.devices.emulator import EmulatorDevice

from .mutants import Mutation
from .test_mutations import assert_caught

Check = Callable[..., None]
Run = Callable[..., Any]

FORMATS = """
layout tall { coords row : 64, k : 2; atom ((16, 4), 2) : ((4, 1), 64); order row, k, batch; pad 255 }
layout odd { coords row : 6, k : 3; atom ((2, 3), 3) : ((9, 3), 1); order row, batch, k; pad 7 }
layout nans { coords row : 128, k : 4; atom ((32, 4), 4) : ((16, 4), 1); order k, row, batch; pad 127 }
format lines   extends nvfp4 { layout linear }
format eights  extends nvfp4 { layout blocked_8x4 }
format talls   extends mxfp4 { layout tall }
format odds    extends mxfp4 { layout odd }
format padded  extends nvfp4 { layout nans }                # as blocked_128x4, but its padding is NaN
format squares extends nvfp4 { scale e4m3 per 16 x 16 }
format columns extends mxfp4 { scale e8m0 per all x 32; layout linear }
format steps   extends nvfp4 { scale e4m3 per 1 x 64 }
format wide    extends mxfp8 { scale e8m0 per 1 x 128; layout linear }
format rows    extends mxfp4 { scale e8m0 per 1 x all }
"""
WEIGHTS = (
    "nvfp4", "mxfp4", "mxfp6_e3m2", "mxfp6_e2m3", "lines", "eights", "talls", "odds", "padded", "squares", "columns",
    "steps", "rows",
)  # fmt: skip
#: Left operands and what may stand on the right of them.
PAIRS = [
    *(("bf16", name) for name in (*WEIGHTS, "bf16", "e4m3", "e5m2")),
    *(("f16", name) for name in ("nvfp4", "lines", "padded", "f16", "e4m3", "e5m2")),
    *(("e4m3", name) for name in ("mxfp4", "e5m2", "bf16")),
    *(("nvfp4", name) for name in ("nvfp4", "mxfp8_e4m3", "bf16")),
    *(("mxfp8_e4m3", name) for name in ("mxfp4", "mxfp8_e5m2", "wide")),
    *(("mxfp6_e3m2", name) for name in ("mxfp6_e2m3", "bf16", "lines")),
    ("wide", "mxfp4"),
]
ROWS = (1, 2, 7, 8, 9, 16)


@dataclass(frozen=True)
class Case:
    """A pair of operands and sizes."""

    a: str
    b: str
    batched: bool
    m: int
    n: int
    k: int

    def __str__(self) -> str:
        return f"{self.a}-{self.b}-{'batched-' if self.batched else ''}{self.m}x{self.n}x{self.k}"

    @property
    def text(self) -> str:
        lead = "L, " if self.batched else ""
        args = f"in a : {self.a}[{lead}M, K]; in b : {self.b}[{lead}N, K]; out c : f32[{lead}M, N]"
        return f"{FORMATS}kernel k({lead}M = {self.m}, N, K) {{ {args}; c = a @ b.T }}\n"

    @property
    def dims(self) -> dict[str, int]:
        return {"M": self.m, "N": self.n, "K": self.k} | ({"L": 3} if self.batched else {})


def few(kernel: str) -> str:
    """A kernel with a plan for few rows beside the one for any."""
    return f"{FORMATS}{kernel}\nschedule k on sm_90a when M <= 16 {{ }}\n"


def cases(seed: int) -> Iterator[Case]:
    """Every pair once, with sizes at random: rows of both groups, columns and K of all residues."""
    chosen = random.Random(seed)
    for a, b in PAIRS:
        multiple = 64 if "mxfp6" in a + b else 32
        k = chosen.choice((multiple, 128, 160, 8 * 128, 9 * 128 + 96)) // multiple * multiple
        n = chosen.choice((1, 8, 31, 32, 33, 72, 130))
        yield Case(a, b, chosen.random() < 0.25, chosen.choice(ROWS), n, k)


def check_few(check: Check, compiler: Any, text: str, **dims: int) -> None:
    """A kernel whose M is known has the plan for few rows, and its outputs are the reference's."""
    assert isinstance(compiler.lowered(text, "sm_90a").engine, Decode)
    check(text, "sm_90a", **dims)


@pytest.mark.parametrize("case", [c for i, c in enumerate(cases(0)) if i % 13 == 0], ids=str)
def test_operands(check: Check, compiler: Any, case: Case) -> None:
    check_few(check, compiler, case.text, **case.dims)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_all_operands(check: Check, compiler: Any, seed: int) -> None:
    for case in cases(seed):
        check_few(check, compiler, case.text, seed=seed, **case.dims)


@pytest.mark.parametrize("rows", [pytest.param(1, marks=pytest.mark.slow), 16])
def test_sizes_of_one_plan(check: Check, compiler: Any, rows: int) -> None:
    """N and K at the ends of tiles, steps and rounds of all warps, with fewer rows than the plan is for, or all."""
    text = few("kernel k(M, N, K) { in a : bf16[M, K]; in b : nvfp4[N, K]; out c : f32[M, N]; c = a @ b.T }")
    assert isinstance(compiler.lowered(text, "sm_90a").variants[0].engine, Decode)
    for n, k in ((32, 0), (5, 32), (64, 128 * 16 + 32), (40, 128 * 33)):
        check(text, "sm_90a", M=rows, N=n, K=k)


#: Kernels whose outputs take every construct: name -> arguments and statements, and N.
EPILOGUES = {
    "bias, gelu, residual": (
        "in x : bf16[M, K]; in w : nvfp4[N, K]; in v : bf16[N]; in r : bf16[M, N]; out y : bf16[M, N]",
        "y = gelu(x @ w.T + v) + r", 72,
    ),
    "quantized": (
        "in x : bf16[M, K]; in w : mxfp4[N, K]; in s : f32[]; out y : nvfp4[M, N]; out z : mxfp8[M, N]",
        "h = x @ w.T; y = quantize(h, amax = s); z = quantize(h)", 160,
    ),
    "reduced": (
        "in x : bf16[M, K]; in w : nvfp4[N, K]; out y : f32[M]; out z : f32[N]; out t : f32[]",
        "h = x @ w.T; y = max(abs(h), over = N); z = sum(h, over = M); t = max(abs(h), over = (M, N))", 72,
    ),
    "gated": (
        "in x : bf16[M, K]; in w : nvfp4[N, K]; in v : mxfp4[N, K]; out y : bf16[M, N]",
        "y = silu(x @ w.T) * (x @ v.T)", 72,
    ),
    "three accumulators": (
        "in x : bf16[M, K]; in w : nvfp4[N, K]; in v : nvfp4[N, K]; in u : mxfp4[N, K]; out y : bf16[M, N]",
        "y = (x @ w.T) * (x @ v.T) + silu(x @ u.T)", 72,
    ),
    "four accumulators": (
        "in x : bf16[M, K]; in w : nvfp4[N, K]; in v : mxfp4[N, K]; in u : mxfp4[M, K]; out y : f32[M, N]",
        "y = (x @ w.T) * (x @ v.T) * (u @ v.T) * (u @ w.T)", 40,
    ),
    "sum of products": (
        "in x : mxfp4[M, K]; in w : mxfp4[N, K]; in xr : bf16[M, R]; in up : bf16[N, R]; out y : bf16[M, N]",
        "y = x @ w.T + xr @ up.T", 40,
    ),
    "panels": (
        "in x : bf16[M, K]; in w : mxfp4[N, K]; in s : f32[64]; out y : bf16[M, N]",
        "y = hadamard(x @ w.T, over = N, size = 64, signs = s)", 128,
    ),
    "a scale a row": (
        "in x : bf16[M, K]; in w : fp8_token[N, K]; out y : bf16[M, N]", "y = x @ w.T", 40,
    ),
    "rounded at random": (
        "in x : bf16[M, K]; in w : nvfp4[N, K]; in rng : u64[2]; out y : mxfp4[M, N]",
        "y = quantize(x @ w.T, rounding = stochastic(rng, stream = 1))", 96,
    ),
}  # fmt: skip
HALVES = (1, 16, 32, 64, 128, "F")


def epilogue(name: str, m: int) -> tuple[str, dict[str, int]]:
    """A kernel's text, and sizes for it."""
    args, statements, n = EPILOGUES[name]
    dims = {"M": m, "N": n, "K": 320} | ({"R": 72} if "R]" in args else {})
    return f"{FORMATS}kernel k(M = {m}, {', '.join(list(dims)[1:])}) {{ {args}\n{statements} }}\n", dims


@pytest.mark.parametrize("m", [3, 16])
@pytest.mark.parametrize("name", EPILOGUES)
@pytest.mark.slow
def test_epilogues(check: Check, compiler: Any, name: str, m: int) -> None:
    text, dims = epilogue(name, m)
    check_few(check, compiler, text, **dims)


@pytest.mark.parametrize("name", ["bias, gelu, residual", "gated"])
def test_some_epilogues(check: Check, compiler: Any, name: str) -> None:
    text, dims = epilogue(name, 9)
    check_few(check, compiler, text, **dims)


@pytest.mark.slow
@pytest.mark.parametrize("group", HALVES)
def test_halves(check: Check, compiler: Any, group: int | str) -> None:
    body = f"g, u = unzip(x @ w.T + v, N -> F, group = {group}); y = silu(g) * u"
    args = "in x : bf16[M, K]; in w : nvfp4[N, K]; in v : bf16[N]; out y : bf16[M, F]"
    text = f"{FORMATS}kernel k(M = 9, N, K, F = N / 2) {{ {args}\n{body} }}\n"
    check_few(check, compiler, text, M=9, N=512, K=320)


def test_accesses_are_in_order(compiler: Any) -> None:
    """Between the warps that multiply, the sum of their shares and the epilogue."""
    text, dims = epilogue("bias, gelu, residual", 9)
    artifact = compiler.artifact(text, "sm_90a")
    inputs = random_inputs(artifact.manifest, dims, seed=0)
    artifact.load_kernel(EmulatorDevice(order="strict"))(**inputs)


@dataclass(frozen=True)
class Replaced(Mutation):
    """A mistake in the text: the first (or `which`-th) `old` replaced by `new`."""

    old: str = ""
    new: str = ""
    which: int = 0

    def applied(self, plan: LoweredKernel, text: str) -> str:
        parts = text.split(self.old)
        assert len(parts) > self.which + 1, "the kernel no longer has this text"
        at = self.which + 1
        return self.old.join(parts[:at]) + self.new + self.old.join(parts[at:])


def mistake(name: str, old: str, new: str, which: int = 0, *, ordered: bool = False) -> Replaced:
    return Replaced(name, lambda _: None, ordered=ordered, old=old, new=new, which=which)


MUTATED = "kernel k(M, N, K) { in a : bf16[M, K]; in b : lines[N, K]; out c : f32[M, N]; c = a @ b.T }"
SUMS = "own_sums = exchange + share * (ROWS * PITCH)"
MUTATIONS = [
    mistake("weights of another order along K than x", "for i in range(4)]", "for i in (1, 0, 2, 3)]"),
    mistake("x left as it lies", "in_turns(pairs_of", "(pairs_of"),
    mistake("a step left out", "next_step = at + SHARES * AHEAD", "next_step = at + 2 * SHARES * AHEAD"),
    mistake("all warps take the same steps", "share = warp // BLOCKS", "share = 0 * warp"),
    mistake("lanes take the same run", "part = lane % 4", "part = lane % 2"),
    mistake("weights past the last row are read", "row < b_rows", "row < b_rows + 64"),
    mistake("weights past the end of a row are read", "b_row_bytes - offset", "b_row_bytes + 64 - offset"),
    mistake("scales of the next block", "(step * 4 + part) * 2", "(step * 4 + part) * 2 + 1"),
    mistake("one scale for two blocks", "scale[", "scale[0 * "),
    mistake("rows 8 and 16 of a fragment swapped", "low[i], high[i], low[i + 1]", "high[i], low[i], low[i + 1]"),
    mistake("second group of rows multiplied as the first", "xs[group][i", "xs[0][i"),
    mistake("shares on top of one another", SUMS, SUMS.replace("share *", "0 *")),
    mistake("sums of other columns", "8 * (i // 2) + lane // 4", "8 * (1 - i // 2) + lane // 4"),
    mistake("a share not added", "range_constexpr(1, shares)", "range_constexpr(2, shares)"),
    mistake("shares added before all are there", "prims.barrier_cta_sync()", "pass", ordered=True),
    mistake("epilogue before all shares are added", "prims.barrier_cta_sync()", "pass", 1, ordered=True),
]


@pytest.mark.parametrize(
    "mutation",
    [
        pytest.param(m, id=m.name.replace(" ", "-"), marks=[] if i % 8 == 0 else [pytest.mark.slow])
        for i, m in enumerate(MUTATIONS)
    ],
)
def test_mutation_is_caught(compiler: Any, run: Run, mutation: Mutation) -> None:
    text = FORMATS + MUTATED.replace("(M, N, K)", "(M = 12, N, K)")
    assert_caught(compiler, run, text, "sm_90a", mutation, M=12, N=72, K=19 * 128 + 32)

"""Every construct of an epilogue with every kind of quantized output, made by one CTA and by pairs, at residue shapes.

Codes, scale bytes, padding and tensor scales equal the reference's byte for byte. `pytest -m slow` tries all of them;
otherwise each construct is tried with one output format and one schedule, which rotate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

Check = Callable[..., None]

#: What an output is quantized to, and the factor it is given.
OUTPUTS = {"nvfp4": "amax = amax", "mxfp4": "", "mxfp8_e4m3": ""}
SCHEDULES = {"one CTA": "tile 128 x 128 x 256; cluster 1 x 1", "pairs": "tile 256 x 128 x 256; cluster 2 x 2"}

FORMATS = """
format tiles_nvfp4 extends nvfp4 { scale e4m3 per 16 x 16 stored 1 x 16 }
format tiles_mxfp4 extends mxfp4 { scale e8m0 per 32 x 32 stored 1 x 32 }
format tiles_mxfp8_e4m3 extends mxfp8_e4m3 { scale e8m0 per 32 x 32 stored 1 x 32 }
format four_over_six extends nvfp4 { quantizer nvfp4_4over6_mse }
layout turned { coords row : 32, k : 2; atom ((8, 4), 2) : ((2, 16), 1); order row, k, batch; pad 3 }
format turned_nvfp4 extends nvfp4 { layout turned }
format turned_mxfp4 extends mxfp4 { layout turned }
format turned_mxfp8_e4m3 extends mxfp8_e4m3 { layout turned }
"""
#: Arguments that constructs may use.
ARGS = (
    "in x : nvfp4[M, K]", "in w : nvfp4[N, K]", "in v : nvfp4[N, K]", "in xr : bf16[M, R]", "in up : bf16[N, R]",
    "in bias : bf16[N]", "in row : f32[M]", "in col : f32[N]", "in r : bf16[M, N]", "in amax : f32[]",
    "in rng : u64[2]", "in s16 : f32[16]", "in s64 : f32[64]", "param gain : f32 = 0.75", "inout acc : f32[M, N]",
    "out y : bf16[M, N]", "out top : f32[M]", "out peak : f32[N]", "out total : f32[]",
)  # fmt: skip


@dataclass(frozen=True)
class Construct:
    """The lines that make `h` from arguments; N, or F for the halves of N; what is quantized and how."""

    lines: str
    n: str = "N"
    value: str = "h"
    options: str = ""
    prefix: str = ""
    formats: tuple[str, ...] = tuple(OUTPUTS)


PLAIN = "h = x @ w.T"
CONSTRUCTS = {
    "plain": Construct(PLAIN),
    "bias and gelu": Construct("h = gelu(gain * (x @ w.T) + bias)"),
    "row and column scales": Construct("h = (x @ w.T) * row * col"),
    "residual": Construct("h = x @ w.T + 0.5 * acc\nacc = h"),
    "residual and a second output": Construct("h = tanh(x @ w.T) + r\ny = h"),
    "dropout": Construct("h = where(uniform(rng, stream = 1) >= 0.25, (x @ w.T) / 0.75, 0)"),
    "stochastic": Construct(PLAIN, options="rounding = stochastic(rng, stream = 2)"),
    "blocks of two dimensions": Construct(PLAIN, prefix="tiles_"),
    "a layout of its own": Construct(PLAIN, prefix="turned_"),
    "four over six": Construct(PLAIN, formats=("four_over_six",)),
    "hadamard 16 along N": Construct("h = bf16(hadamard(x @ w.T, over = N, size = 16, signs = s16))"),
    "hadamard 32 along M": Construct("h = bf16(hadamard(x @ w.T, over = M, size = 32))"),
    "hadamard 64 along N": Construct("h = bf16(hadamard(x @ w.T, over = N, size = 64, signs = s64))"),
    "hadamard 128 along M": Construct("h = bf16(hadamard(x @ w.T, over = M, size = 128))"),
    "two products": Construct("h = silu(x @ w.T) * (x @ v.T)"),
    "low rank": Construct("h = x @ w.T + xr @ up.T + bias"),
    "unzip 1": Construct("g, u = unzip(x @ w.T, N -> F, group = 1)\nh = silu(g) * u", n="F"),
    "unzip 16": Construct("g, u = unzip(x @ w.T + bias, N -> F, group = 16)\nh = silu(g) * u", n="F"),
    "unzip 64": Construct("g, u = unzip(x @ w.T, N -> F, group = 64)\nh = silu(g) * u", n="F"),
    "unzip halves": Construct("g, u = unzip(x @ w.T, N -> F, group = F)\nh = silu(g) * u", n="F"),
    "reductions beside it": Construct(
        "h = x @ w.T\ntop = max(abs(h), over = N)\npeak = mean_square(h, over = M)\ntotal = sum(h, over = (M, N))"
    ),
}


def text(construct: Construct, fmt: str, schedule: str | None) -> str:
    """A kernel with the construct and its value quantized along rows and along columns."""
    used = f"{construct.lines} {construct.options} {OUTPUTS.get(fmt, 'amax = amax')}"
    words = set("".join(c if c.isalnum() else " " for c in used).split())
    args = [arg for arg in ARGS if arg.split()[1] in words]
    n, stored = construct.n, construct.prefix + fmt
    options = ", ".join(part for part in (OUTPUTS.get(fmt, "amax = amax"), construct.options) if part)
    tail = f", {options}" if options else ""
    outputs = [f"out q : {stored}[M, {n}]", f"out qt : {stored}[{n}, M]"]
    dims = ["M", "N", "K", *(["R"] if "xr" in words else []), *(["F = N / 2"] if n == "F" else [])]
    body = "\n    ".join([*args, *outputs, *construct.lines.split("\n"), f"q = quantize(h{tail})",
                          f"qt = quantize(h.T{tail})"])  # fmt: skip
    block = f"schedule k on sm_100a {{ {SCHEDULES[schedule]} }}\n" if schedule is not None else ""
    return f"{FORMATS}\nkernel k({', '.join(dims)}) {{\n    {body}\n}}\n{block}"


def shapes(construct: Construct) -> Iterator[dict[str, int]]:
    """Less than a tile, and more than one with residues: multiples of what blocks and transforms take."""
    if "over = M, size = 128" in construct.lines:
        yield sizes(construct, 128, 192, 96)
        yield sizes(construct, 384, 320, 288)
    else:
        yield sizes(construct, 32, 64, 96)
        yield sizes(construct, 288, 448, 288)


def sizes(construct: Construct, m: int, n: int, k: int) -> dict[str, int]:
    """The sizes of a call, `n` of what is stored."""
    rank = {"R": 40} if "xr" in construct.lines else {}
    return {"M": m, "N": 2 * n if construct.n == "F" else n, "K": k, **rank}


def run(
    check: Check, construct: Construct, fmt: str, schedule: str | None, *shapes: dict[str, int], seed: int = 0
) -> None:
    """A kernel for sm_100a by a schedule, or one for sm_90a."""
    spec, target = text(construct, fmt, schedule), "sm_100a" if schedule is not None else "sm_90a"
    for number, shape in enumerate(shapes):
        mode = {"mode": "delayed", "seed": seed + number} if schedule == "pairs" else {}
        check(spec, target, sms=4, **shape, **mode)


ON_HOPPER = ["hadamard 64 along N", "unzip halves", "reductions beside it"]


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [*SCHEDULES, None])
@pytest.mark.parametrize(
    ("name", "fmt"), [(name, fmt) for name, construct in CONSTRUCTS.items() for fmt in construct.formats]
)
def test_every_construct_with_every_output(check: Check, name: str, fmt: str, schedule: str) -> None:
    run(check, CONSTRUCTS[name], fmt, schedule, *shapes(CONSTRUCTS[name]))


@pytest.mark.parametrize("number", range(len(CONSTRUCTS)), ids=list(CONSTRUCTS))
def test_every_construct(check: Check, number: int) -> None:
    construct = list(CONSTRUCTS.values())[number]
    fmt = construct.formats[number % len(construct.formats)]
    shape = sizes(construct, 256 if "size = 128" in construct.lines else 160, 192, 96)
    run(check, construct, fmt, list(SCHEDULES)[number // 2 % 2], shape, seed=1)


@pytest.mark.parametrize("name", ON_HOPPER)  # the others are in the slow matrix
def test_on_hopper(check: Check, name: str) -> None:
    """The same epilogue reads its sums from shared memory there."""
    construct = CONSTRUCTS[name]
    shape = sizes(construct, 128, 192, 96)
    run(check, construct, construct.formats[len(name) % len(construct.formats)], None, shape)

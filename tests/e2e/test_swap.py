"""Swapped operands: weights as the instruction's A, so that few rows of x are the narrow side of a tile.

Outputs equal the reference's bit for bit, whatever the epilogue does with the sums. `pytest -m slow` tries every
operand with every epilogue; otherwise a sample of both is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from random import Random
from typing import Any

import pytest

from .mutants import Mutation, assigned, at, constant, instead, plus, role, to
from .test_mutations import assert_caught

Check = Callable[..., None]

FORMATS = """
format lin extends nvfp4 { layout linear }
format mx  extends mxfp8_e4m3 { layout linear }
format tiles_mxfp4 extends mxfp4 { scale e8m0 per 32 x 32 stored 1 x 32 }
"""
#: Operands x and w, the depth of their tiles, and what K is a multiple of.
OPERANDS = {
    "nvfp4": ("nvfp4", "nvfp4", 256, 32),
    "mxfp4": ("mxfp4", "mxfp4", 256, 32),
    "mxfp8": ("mxfp8_e4m3", "mxfp8_e4m3", 128, 32),
    "mxfp8 by mxfp4": ("mxfp8_e4m3", "mxfp4", 128, 128),
    "linear": ("lin", "lin", 256, 32),
    "mx linear": ("mx", "mx", 128, 32),
    "bf16": ("bf16", "bf16", 64, 8),
    "e4m3": ("e4m3", "e4m3", 128, 16),
    "w4a16": ("bf16", "nvfp4", 64, 32),
    "row scales": ("fp8_token", "fp8_token", 128, 16),
}
#: Further arguments, outputs, statements on the product `p`, and what M is a multiple of.
EPILOGUES = {
    "plain": ("", "out y : f32[M, N]", "y = p", 1),
    "across": ("", "out y : bf16[N, M]", "y = p.T", 1),
    "vectors": ("in bias : bf16[N]; in row : f32[M]; param gain : f32 = 0.75;", "out y : bf16[M, N]",
                "y = gelu(gain * p * row + bias)", 1),
    "residual": ("in r : bf16[M, N]; inout acc : f32[M, N];", "out y : f16[M, N]",
                 "h = p + 0.5 * acc; acc = h; y = tanh(h) + r", 1),
    "rows": ("in ts : f32[];", "out y : nvfp4[M, N]", "y = quantize(p, tensor_scale = ts)", 1),
    "columns": ("in ts : f32[];", "out y : nvfp4[N, M]", "y = quantize(p.T, tensor_scale = ts)", 16),
    "mx rows": ("", "out y : mxfp8_e4m3[M, N]", "y = quantize(p)", 1),
    "both": ("", "out y : mxfp4[M, N]; out t : mxfp4[N, M]", "y = quantize(p); t = quantize(p.T)", 32),
    "blocks": ("", "out y : tiles_mxfp4[M, N]", "y = quantize(p)", 32),
    "maxima": ("", "out top : f32[M]; out peak : f32[N]; out all : f32[]; out y : bf16[M, N]",
               "top = max(abs(p), over = N); peak = min(p, over = M); all = max(abs(p), over = (M, N)); y = p", 1),
    "sums": ("", "out total : f32[M]; out power : f32[N]; out y : bf16[M, N]",
             "total = sum(p, over = N); power = mean_square(p, over = M); y = p", 1),
    "gated": ("in v : {b}[N, K];", "out y : bf16[M, N]", "y = silu(p) * (x @ v.T)", 1),
    "gated rows": ("in v : {b}[N, K];", "out y : nvfp4[M, N]; in ts : f32[]",
                   "y = quantize(silu(p) * (x @ v.T), tensor_scale = ts)", 1),
    "low rank": ("in xr : bf16[M, R]; in up : bf16[N, R];", "out y : bf16[M, N]", "y = p + xr @ up.T", 1),
    "dropout": ("in rng : u64[2];", "out y : bf16[M, N]",
                "y = where(uniform(rng, stream = 1) >= 0.25, p / 0.75, 0)", 1),
    "stochastic": ("in rng : u64[2]; in ts : f32[];", "out y : nvfp4[M, N]",
                   "y = quantize(p, tensor_scale = ts, rounding = stochastic(rng, stream = 2))", 1),
    "hadamard": ("", "out y : bf16[M, N]", "y = hadamard(p, over = N, size = 16)", 1),
}  # fmt: skip
ROWS = (1, 2, 7, 8, 16, 33, 64)
#: Tiles of weights by rows of x; with pairs of CTAs too.
TILES = ((128, 32), (128, 64), (256, 64), (128, 128))


#: Products that are scaled as they are summed cannot be swapped; with two of them the scales of rows are factors.
CELLS = [(o, e) for o, e in product(OPERANDS, EPILOGUES) if o != "row scales" or "gated" in e]
SAMPLE = [("nvfp4", "rows", (128, 32), 7), ("bf16", "across", (128, 32), 1)]


def spec(operands: str, epilogue: str, tile: tuple[int, int], cluster: str = "auto", rows: int = 64) -> str:
    """A kernel; tiles of 32 rows of x are for calls that have no more."""
    a, b, depth, _ = OPERANDS[operands]
    more, outs, statements, _ = EPILOGUES[epilogue]
    dims = "M, N, K, R" if "R]" in more else "M, N, K"
    args = f"in x : {a}[M, K]; in w : {b}[N, K]; {more.format(b=b)} {outs}"
    when = f" when M <= {tile[1]}" if rows <= tile[1] else ""
    chosen = "" if cluster == "auto" else f"; cluster {cluster}"
    return (
        f"{FORMATS}kernel k({dims}) {{ {args}; p = x @ w.T; {statements} }}\n"
        f"schedule k on sm_100a{when} {{ tile {tile[0]} x {tile[1]} x {depth}; swap_ab yes{chosen} }}\n"
    )


def cell(check: Check, operands: str, epilogue: str, tile: tuple[int, int], rows: int, draw: Random) -> None:
    """A run with tiles to spare along N, the last one not full, and K with a residue."""
    _, _, depth, step = OPERANDS[operands]
    whole = EPILOGUES[epilogue][3]
    m = -(-rows // whole) * whole
    if m > tile[1]:
        tile = (tile[0], 64)
    n = tile[0] + 32 * draw.randrange(1, 5)
    k = depth + step * draw.randrange(1, depth // step) if depth > step else 2 * depth
    order = draw.choice([{}, {"mode": "delayed", "seed": draw.randrange(9)}])
    rank = {"R": 40} if "R]" in EPILOGUES[epilogue][0] else {}
    clusters = ["auto", "2 x 1"] if tile[0] == 128 else ["auto", "2 x 1", "4 x 1"]
    check(spec(operands, epilogue, tile, draw.choice(clusters), m), M=m, N=n, K=k, sms=8, **rank, **order)


@pytest.mark.parametrize(("operands", "epilogue", "tile", "rows"), SAMPLE)
def test_a_sample_of_swapped_operands(
    check: Check, operands: str, epilogue: str, tile: tuple[int, int], rows: int
) -> None:
    cell(check, operands, epilogue, tile, rows, Random(f"{operands} {epilogue}"))


@pytest.mark.slow
@pytest.mark.parametrize(("operands", "epilogue"), CELLS)
def test_swapped_operands(check: Check, operands: str, epilogue: str) -> None:
    """Every operand with every epilogue, each in a tile and a number of rows that take turns."""
    number = CELLS.index((operands, epilogue))
    draw = Random(f"{operands} {epilogue}")
    cell(check, operands, epilogue, TILES[number % len(TILES)], ROWS[number % len(ROWS)], draw)


@pytest.mark.slow
def test_batches(check: Check) -> None:
    """Of both operands, and of x alone: weights are then the same for all."""
    for weights in ("w : nvfp4[L, N, K]", "w : nvfp4[N, K]"):
        text = (
            f"kernel k(L, M, N, K) {{ in x : nvfp4[L, M, K]; in {weights}; in rng : u64[2]; out y : bf16[L, M, N]; "
            "y = where(uniform(rng, stream = 3) >= 0.5, x @ w.T, 0) }\n"
            "schedule k on sm_100a when M <= 32 { tile 128 x 32 x 256; swap_ab yes }"
        )
        check(text, L=3, M=9, N=160, K=288, sms=4)


@pytest.mark.slow
def test_the_same_bits_on_any_number_of_sms(compiler: Any, run: Any) -> None:
    artifact = compiler.artifact(spec("nvfp4", "sums", (128, 32), "1 x 1", 16))
    for sms in (1, 8, 148):
        assert run(artifact, sms=sms, M=13, N=416, K=544).equal


@pytest.mark.slow
def test_accesses_are_ordered(compiler: Any, run: Any) -> None:
    """No false alarm of the strict proof, with clusters and delays."""
    artifact = compiler.artifact(spec("nvfp4", "columns", (128, 32), "2 x 1", 32))
    assert run(artifact, sms=4, mode="delayed", seed=5, order="strict", M=16, N=288, K=544).equal


#: Scales are laid out anew, so tiles of 32 rows of x need no condition, and there is one plan.
SWAPPED = spec("linear", "vectors", (128, 32), "1 x 1")
LOAD, CONVERT = role("load"), role("convert")
MUTATIONS = [
    Mutation("an instruction of 64 columns", constant("INSTRUCTION", plus("0x80000"))),
    Mutation("tiles as far apart as wider ones", at(assigned(LOAD, "n0"), instead("TILE_N", "64"))),
    Mutation("rows of x from where those of w start", at(assigned(CONVERT, "n0"), to("m0"))),
]


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mistake_with_swapped_operands_is_caught(compiler: Any, run: Any, mutation: Mutation) -> None:
    assert compiler.lowered(SWAPPED).variants == ()
    assert_caught(compiler, run, SWAPPED, "sm_100a", mutation, M=59, N=288, K=320)

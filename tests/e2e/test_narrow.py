"""Tiles whose width is no multiple of 64: converter warps lay out the scales of those that cut atoms."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from random import Random
from typing import Any

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.passes.choice.schedule import cluster_problem
from fp4cc.targets import SM100A

from .mutants import Mutation, argument, assigned, at, call, constant, instead, plus, role, to
from .test_mutations import assert_caught

Check = Callable[..., None]

FORMATS = """
format lin extends nvfp4 { layout linear }
format mx  extends mxfp8_e4m3 { layout linear }
"""
#: Operands, the depth of their tiles, and what K is a multiple of. Scales: none, none left once dequantized, laid out
#: anew, from rows or from atoms that tiles cut, and by TMA for a lone tile along N.
OPERANDS = {
    "bf16": ("bf16", "bf16", 64, 8),
    "e4m3": ("e4m3", "e4m3", 128, 16),
    "w4a16": ("bf16", "nvfp4", 64, 32),
    "linear": ("lin", "lin", 256, 32),
    "mx linear": ("mx", "mx", 128, 32),
    "atoms": ("nvfp4", "nvfp4", 256, 32),
    "mx atoms": ("mxfp8_e4m3", "mxfp8_e4m3", 128, 32),
    "lone": ("nvfp4", "nvfp4", 256, 32),
}
#: Further arguments, outputs, and statements on the product `p`.
EPILOGUES = {
    "plain": ("", "out y : f32[M, N]", "y = p"),
    "gelu": ("in bias : bf16[N]; in r : bf16[M, N];", "out y : bf16[M, N]", "y = gelu(p + bias) + r"),
    "rows": ("in ts : f32[];", "out y : nvfp4[M, N]", "y = quantize(p, tensor_scale = ts)"),
    "mx rows": ("", "out y : mxfp8_e4m3[M, N]", "y = quantize(p)"),
    "columns": ("in ts : f32[];", "out y : nvfp4[N, M]", "y = quantize(p.T, tensor_scale = ts)"),
    "reductions": ("", "out y : bf16[M, N]; out top : f32[M]; out all : f32[]",
                   "y = p; top = max(abs(p), over = N); all = max(abs(p), over = (M, N))"),
    "gated": ("in b2 : {b}[N, K];", "out y : bf16[M, N]", "y = silu(p) * (a @ b2.T)"),
}  # fmt: skip
WIDTHS = SM100A.narrow_n
CELLS = list(product(OPERANDS, EPILOGUES, WIDTHS, (1, 2)))
#: A cell of each kind of operand that differs; the slow test runs all of them.
SAMPLE = [
    ("bf16", "reductions", 32, 2), ("w4a16", "rows", 96, 2), ("atoms", "mx rows", 160, 1), ("lone", "plain", 96, 1),
]  # fmt: skip


def blocks(epilogue: str) -> int:
    """What N is a multiple of."""
    return 32 if epilogue == "mx rows" else 16


def lone_columns(epilogue: str, width: int) -> int:
    """The N of a kernel with one tile along it, not full where there is room."""
    return max(blocks(epilogue), width - blocks(epilogue))


def spec(operands: str, epilogue: str, width: int, pair: int, cluster: tuple[int, int]) -> str:
    a, b, depth, _ = OPERANDS[operands]
    more, outs, statements = EPILOGUES[epilogue]
    n = f"N = {lone_columns(epilogue, width)}" if operands == "lone" else "N"
    args = f"in a : {a}[M, K]; in b : {b}[N, K]; {more.format(b=b)} {outs}"
    return (
        f"{FORMATS}kernel k(M, {n}, K) {{ {args}; p = a @ b.T; {statements} }}\nschedule k on sm_100a {{ "
        f"tile {128 * pair} x {width} x {depth}; cluster {cluster[0]} x {cluster[1]} }}\n"
    )


def cell(check: Check, operands: str, epilogue: str, width: int, pair: int, draw: Random) -> None:
    """A run with tiles to spare along M and N, the last ones not full, and K with a residue."""
    legal = [c for c in SM100A.cluster_shapes[:5] if cluster_problem(c, pair, width, SM100A) is None]
    _, _, depth, step = OPERANDS[operands]
    n = lone_columns(epilogue, width) if operands == "lone" else 2 * width + blocks(epilogue)
    m = 128 * pair + 16 * draw.randrange(1, 7)
    k = depth + step * draw.randrange(1, depth // step)
    order = draw.choice([{}, {"mode": "delayed", "seed": draw.randrange(9)}])
    text = spec(operands, epilogue, width, pair, draw.choice(legal))
    check(text, M=m, N=n, K=k, sms=8, **order)


@pytest.mark.parametrize(("operands", "epilogue", "width", "pair"), SAMPLE)
def test_a_sample_of_narrow_tiles(check: Check, operands: str, epilogue: str, width: int, pair: int) -> None:
    cell(check, operands, epilogue, width, pair, Random(f"{operands} {epilogue} {width} {pair}"))


@pytest.mark.slow
@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize("epilogue", EPILOGUES)
def test_narrow_tiles(check: Check, operands: str, epilogue: str) -> None:
    """Every operand with every epilogue, in two of the widths and both numbers of CTAs, drawn anew for each."""
    draw = Random(f"{operands} {epilogue}")
    for pair, width in zip((1, 2), draw.sample(WIDTHS, 2), strict=True):
        cell(check, operands, epilogue, width, pair, draw)


def test_scales_come_by_tma_where_no_tile_cuts_their_atoms(compiler: Any) -> None:
    """Else converter warps lay those of each tile out anew, from wherever in an atom it starts."""
    for width, n in product(WIDTHS, ("N", "N = 512")):
        text = spec("atoms", "plain", width, 1, (1, 1)).replace("(M, N,", f"(M, {n},")
        assert [feed.kind for feed in compiler.lowered(text).mainloops[0].conversions] == ["relaid"], text
        whole = compiler.lowered(text.replace(f"x {width} x", f"x {max(64, width // 64 * 64)} x"))
        assert not whole.mainloops[0].conversions
    bounded = spec("atoms", "plain", 96, 1, (1, 1)).replace(") {", ") where N <= 96 {")
    assert not compiler.lowered(bounded).mainloops[0].conversions


def test_halves_that_share_atoms_are_refused(compiler: Any) -> None:
    """The second half's tiles start at a row of their own."""
    text = (
        "kernel k(M, N, K, F = N / 2) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; out y : bf16[M, F]\n"
        "g, u = unzip(a @ b.T, N -> F, group = F); y = g * u }\nschedule k on sm_100a { tile 128 x 96 x 256 }\n"
    )
    with pytest.raises(DiagnosticError, match=r"FP5010.*tiles of 96 columns would cut the scale atoms of b"):
        compiler.lowered(text)


LINEAR = spec("linear", "plain", 96, 1, (1, 1))
MMA, LOAD, EPILOGUE, CONVERT = role("mma"), role("load"), role("epilogue"), role("convert")
MUTATIONS = [
    Mutation("scales from the start of an atom", at(argument(call(CONVERT, "fetch_b"), 1), to("n0 // 128 * 128"))),
    Mutation("scales of the second half of an atom", at(argument(assigned(MMA, "scale_b"), 0), plus(2))),
    Mutation("sub-tiles of another width", at(assigned(EPILOGUE, "column"), instead(32, 64))),
    Mutation("an instruction of 64 columns", constant("INSTRUCTION", plus("-0x80000"))),
    Mutation("tiles as far apart as wider ones", at(assigned(LOAD, "n0"), instead("TILE_N", "128"))),
]


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mistake_in_a_narrow_tile_is_caught(compiler: Any, run: Any, mutation: Mutation) -> None:
    assert_caught(compiler, run, LINEAR, "sm_100a", mutation, M=130, N=232, K=320)

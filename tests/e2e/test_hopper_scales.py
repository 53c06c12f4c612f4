"""Scales that Hopper's GEMM reads by their layout: any provable one, of one row or several, of any run along K."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Check = Callable[..., None]

FORMATS = """
layout tall { coords row : 64, k : 2; atom ((16, 4), 2) : ((4, 1), 64); order row, k, batch; pad 255 }
layout odd { coords row : 6, k : 3; atom ((2, 3), 3) : ((9, 3), 1); order row, batch, k; pad 7 }
layout near { coords row : 8, k : 4, batch : 2; atom (8, 4, 2) : (8, 2, 1); order batch, k, row; pad 0 }
layout nans { coords row : 128, k : 4; atom ((32, 4), 4) : ((16, 4), 1); order k, row, batch; pad 127 }
format lines   extends nvfp4 { layout linear }
format eights  extends nvfp4 { layout blocked_8x4 }
format talls   extends mxfp4 { layout tall }
format odds    extends mxfp8 { layout odd }
format nears   extends nvfp4 { layout near }
format padded  extends nvfp4 { layout nans }                # as blocked_128x4, but its padding is NaN
format squares extends nvfp4 { scale e4m3 per 16 x 16 }
format columns extends mxfp4 { scale e8m0 per all x 32; layout linear }
format halves  extends nvfp4 { scale e4m3 per 1 x 32 }
format steps   extends nvfp4 { scale e4m3 per 1 x 64 }
format wide    extends mxfp8 { scale e8m0 per 1 x 128; layout linear }
format rows    extends mxfp4 { scale e8m0 per 1 x all }
"""
NAMES = ("lines", "eights", "talls", "odds", "nears", "padded", "squares", "columns", "halves", "steps", "wide", "rows")


def gemm(a: str, b: str, out: str = "f32", schedule: str = "") -> str:
    args = f"in a : {a}[L, M, K]; in b : {b}[L, N, K]; out c : {out}[L, M, N]"
    tail = f"schedule gemm on sm_90a {{ {schedule} }}\n" if schedule else ""
    return f"{FORMATS}kernel gemm(L, M, N, K) {{ {args}; c = a @ b.T }}\n{tail}"


@pytest.mark.parametrize(("a", "b"), [("squares", "odds"), ("nears", "padded")])
def test_layouts_and_blocks(check: Check, a: str, b: str) -> None:
    check(gemm(a, b), "sm_90a", L=3, M=140, N=72, K=224)


def test_delays(check: Check) -> None:
    text = gemm("lines", "eights", "f16", "cluster 2 x 1; stages 2")
    check(text, "sm_90a", mode="delayed", sms=2, L=1, M=200, N=72, K=224)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 1, 128), (2, 129, 130, 384), (3, 300, 200, 640), (1, 5, 7, 0)], ids=str)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_all_of_them(check: Check, name: str, side: str, shape: tuple[int, int, int, int]) -> None:
    a, b = (name, "nvfp4") if side == "left" else ("mxfp4" if name in ("odds", "wide") else "bf16", name)
    check(gemm(a, b), "sm_90a", sms=4, **dict(zip("LMNK", shape, strict=True)))


@pytest.mark.slow
def test_a_plain_operand_that_batches_share(check: Check) -> None:
    args = "in a : f16[L, M, K]; in b : lines[N, K]; out c : f32[L, M, N]"
    check(f"{FORMATS}kernel gemm(L, M, N, K) {{ {args}; c = a @ b.T }}", "sm_90a", L=2, M=140, N=72, K=224)

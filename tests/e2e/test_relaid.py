"""Operands whose scales converter warps lay out anew: any layout, any schedule, equal to the reference."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from ..layouts import declared, random_layout

Check = Callable[..., None]
Schedule = tuple[int, int, tuple[int, int]]

#: The padding of 255 is a NaN as either type of scale.
LAYOUTS = """
layout across   { coords row : 1, k : 1; atom (1, 1) : (0, 0); order row, k, batch; pad 255 }
layout odd      { coords row : 6, k : 3; atom ((2, 3), 3) : ((9, 3), 1); order k, batch, row; pad 255 }
layout batches  { coords batch : 2, row : 4, k : 4; atom (2, 4, 4) : (16, 4, 1); order batch, row, k; pad 255 }
layout wide     { coords row : 2, k : 16; atom (2, 16) : (16, 1); order row, k, batch; pad 255 }
layout strips   { coords row : 1, k : 2; atom (1, 2) : (0, 1); order k, row, batch; pad 255 }
"""
NAMES = ["linear", "blocked_8x4", "across", "odd", "batches", "wide", "strips"]
#: Formats by the first two letters of their names; the depth of a tile of each.
KINDS = {"nv": "nvfp4", "mx": "mxfp4", "m8": "mxfp8_e4m3", "m6": "mxfp6_e2m3"}
DEPTH = {"nv": 256, "mx": 256, "m8": 128, "m6": 128}
FORMATS = "".join(
    f"format {kind}_{name} extends {base} {{ layout {name} }}\n" for name in NAMES for kind, base in KINDS.items()
)

#: Tiles and clusters: one CTA and pairs, halves of scale atoms, multicast both ways of what still comes by TMA.
SCHEDULES: list[Schedule] = [
    (128, 128, (1, 1)),
    (128, 64, (1, 2)),
    (128, 192, (2, 1)),
    (128, 256, (1, 1)),
    (256, 64, (2, 1)),
    (256, 128, (2, 2)),
    (256, 192, (4, 2)),
    (256, 256, (2, 1)),
]
MODES = [{}, {"mode": "delayed", "seed": 1}, {"mode": "delayed", "seed": 2}]


def kernel(dims: str, args: str, value: str, where: str = "", out: str = "f32[M, N]") -> str:
    """A kernel after the formats of this file."""
    return f"{LAYOUTS}{FORMATS}kernel k({dims}) {where} {{ {args}; out y : {out}; y = {value} }}\n"


def scheduled(schedule: Schedule, depth: int, more: str = "") -> str:
    """The block for a tile and a cluster."""
    m, n, cluster = schedule
    return f"schedule k on sm_100a {{ tile {m} x {n} x {depth}; cluster {cluster[0]} x {cluster[1]}; {more} }}\n"


def gemm(a: str, b: str, schedule: Schedule, depth: int, more: str = "", where: str = "") -> str:
    """`y = a @ b.T`."""
    args = f"in a : {a}[M, K]; in b : {b}[N, K]"
    return kernel("M, N, K", args, "a @ b.T", where) + scheduled(schedule, depth, more)


@pytest.mark.parametrize("index", range(5), ids=NAMES[:5])
def test_layouts(check: Check, index: int) -> None:
    """Layouts on either side or both, formats and schedules in turn; residues in every size.

    One cluster takes all tiles, so that the ring wraps for every team.
    """
    kind, name, other = list(KINDS)[index % 4], NAMES[index], NAMES[(index + 3) % len(NAMES)]
    sides = [(name, other), (None, name), (name, None)][index % 3]
    a, b = (KINDS[kind] if side is None else f"{kind}_{side}" for side in sides)
    schedule, depth = SCHEDULES[index], DEPTH[kind]
    m, n, cluster = schedule
    sizes = {"M": m + 9, "N": n + 72, "K": 3 * depth + (128 if kind == "m6" else 96)}
    check(gemm(a, b, schedule, depth), **sizes, sms=cluster[0] * cluster[1], mode="delayed", seed=index)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SCHEDULES)))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_every_layout_with_every_schedule(check: Check, name: str, kind: str, number: int) -> None:
    m, n, cluster = SCHEDULES[number]
    mode = MODES[(number + len(name) + len(kind)) % len(MODES)]
    text = gemm(f"{kind}_{name}", f"{kind}_{name}", SCHEDULES[number], DEPTH[kind])
    check(text, M=m - 60, N=n + 72, K=896, sms=cluster[0] * cluster[1], **mode)


def random_spec(seed: int) -> tuple[str, dict[str, int]]:
    """Random layouts for both operands of a batched product, one of which all batches may share."""
    rng = Random(seed)
    kind, schedule = rng.choice(list(KINDS)), rng.choice(SCHEDULES)
    layouts = [random_layout(rng, name) for name in ("first", "second")]
    head = "".join(map(declared, layouts))
    head += "".join(f"format {x.name}_format extends {KINDS[kind]} {{ layout {x.name} }}\n" for x in layouts)
    leads = rng.choice([("L, ", "L, "), ("L, ", ""), ("", "L, ")])
    args = f"in a : first_format[{leads[0]}M, K]; in b : second_format[{leads[1]}N, K]; out y : f32[L, M, N]"
    text = f"{head}kernel k(L, M, N, K) {{ {args}; y = a @ b.T }}\n{scheduled(schedule, DEPTH[kind])}"
    k = 128 * rng.randint(1, 6) + (0 if kind == "m6" else 32 * rng.randint(0, 3))
    sizes = {"L": rng.randint(1, 3), "M": rng.randint(1, 300), "N": rng.randint(1, 300), "K": k}
    return text, {**sizes, "sms": schedule[2][0] * schedule[2][1]}


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_random_layouts(check: Check, seed: int) -> None:
    text, sizes = random_spec(seed)
    check(text, **sizes)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 60))
def test_more_random_layouts(check: Check, seed: int) -> None:
    text, sizes = random_spec(seed)
    check(text, **sizes, **MODES[seed % len(MODES)])


@pytest.mark.parametrize(("kind", "width"), [("nv", 16), ("mx", 8), ("m8", 4)])
def test_the_widest_loads(check: Check, compiler: object, kind: str, width: int) -> None:
    """Rows of a known length: one load takes a row's scales of a stage."""
    text = gemm(f"{kind}_linear", KINDS[kind], (128, 64, (1, 1)), DEPTH[kind], where="where K % 256 == 0")
    (mainloop,) = compiler.lowered(text).mainloops  # type: ignore[attr-defined]
    assert [conversion.scales.width for conversion in mainloop.conversions] == [width]
    if kind == "nv":
        check(text, M=130, N=72, K=512, sms=1)


TALL = """
format tall  extends nvfp4 { scale e4m3 per 16 x 16 }
format block extends nvfp4 { scale e4m3 per 24 x 16; layout linear }
format all   extends nvfp4 { scale e4m3 per all x 16; layout odd }
"""


def test_one_scale_for_several_rows(check: Check) -> None:
    """Stored once, in the tensor core's own layout or another one."""
    args = "in x : block[M, K]; in w : tall[N, K]; in v : all[N, K]"
    text = TALL + kernel("M, N, K", args, "x @ w.T - x @ v.T") + scheduled((256, 64, (2, 1)), 256)
    check(text, M=130, N=72, K=320, sms=2)


def test_a_ring_shorter_than_the_warps_there_would_be(check: Check) -> None:
    text = gemm("nv_linear", "nv_odd", (128, 64, (1, 1)), 256, "stages 2")
    check(text, M=130, N=100, K=1312, sms=1, mode="delayed", seed=1)


def test_products_that_share_an_operand(check: Check) -> None:
    args = "in x : nv_linear[M, K]; in g : nv_odd[N, K]; in u : nvfp4[N, K]"
    text = kernel("M, N, K", args, "silu(x @ g.T) * (x @ u.T)", out="bf16[M, N]")
    check(text + scheduled((256, 64, (2, 2)), 256), M=140, N=136, K=544, sms=4, mode="delayed", seed=1)


def test_mainloops_with_and_without_converters(check: Check) -> None:
    """The low-rank product has nothing to convert; the warps keep the ring's barriers in step all the same."""
    args = "in w : mx_wide[N, K]; in x : mx_strips[M, K]; in xr : bf16[M, R]; in up : bf16[N, R]"
    text = kernel("M, N, K, R", args, "x @ w.T + xr @ up.T")
    check(text + scheduled((256, 128, (2, 1)), 256), M=140, N=200, K=544, R=136, sms=2, mode="delayed", seed=3)

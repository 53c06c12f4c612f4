"""Gated activations from one weight, end to end: halves that take turns and halves that lie apart."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

Check = Callable[..., None]

UP = """
kernel up(M, N, K, F = N / 2) {
    in x : %(x)s[M, K]; in w : %(w)s[N, K]; in ts : f32[]
    out y : %(out)s
    g, u = unzip(x @ w.T, N -> F, group = %(group)s)
    h = swiglu(g, u)
    y = %(value)s
}
schedule up on sm_100a { tile %(m)d x %(n)d x %(k)d; cluster %(cluster_m)d x %(cluster_n)d }
"""
LOW_RANK = """
kernel up(M, N, K, R, F = N / 2) {
    in x : %(fmt)s[M, K]; in w : %(fmt)s[N, K]; in xr : bf16[M, R]; in v : bf16[N, R]; in bias : bf16[N]
    out y : bf16[M, F]
    g, u = unzip(x @ w.T + xr @ v.T + bias, N -> F, group = %(group)s)
    y = swiglu(g, u)
}
schedule up on sm_100a { tile %(m)d x %(n)d x 256; cluster %(cluster_m)d x %(cluster_n)d }
"""

OUTPUTS = {
    "bf16": ("bf16[M, F]", "h"),
    "nvfp4": ("nvfp4[M, F]", "quantize(h, tensor_scale = ts)"),
    "mxfp4": ("mxfp4[M, F]", "quantize(h)"),
    "mxfp8": ("mxfp8[F, M]", "quantize(h.T)"),
}
GROUPS = ["1", "16", "64", "F"]
SCHEDULES = [
    (128, 64, (1, 1)),
    (128, 128, (1, 2)),
    (128, 192, (2, 1)),
    (128, 256, (1, 1)),
    (256, 64, (2, 1)),
    (256, 128, (2, 2)),
    (256, 192, (4, 2)),
    (256, 256, (2, 1)),
]
MODES = [{}, {"mode": "delayed", "seed": 1}]


def fits(group: str, n: int) -> bool:
    """Whether a tile holds whole groups of halves that take turns, or two accumulators of those that lie apart."""
    return n <= 192 if group == "F" else n % max(64, 2 * int(group)) == 0


def up(
    group: str, out: str, m: int, n: int, cluster: tuple[int, int], x: str = "nvfp4", w: str = "", k: int = 256
) -> str:
    declared, value = OUTPUTS[out]
    names = {"x": x, "w": w or x, "out": declared, "value": value, "group": group, "m": m, "n": n, "k": k}
    return UP % {**names, "cluster_m": cluster[0], "cluster_n": cluster[1]}


def low_rank(fmt: str, group: str, m: int, n: int, cluster: tuple[int, int]) -> str:
    return LOW_RANK % {
        "fmt": fmt, "group": group, "m": m, "n": n, "cluster_m": cluster[0], "cluster_n": cluster[1]
    }  # fmt: skip


def half(group: str, n: int) -> int:
    """The columns of a half: tiles and a residue; of halves apart, the second begins within a scale atom."""
    return 2 * n + 32 if group == "F" else n // 2 + 64


@pytest.mark.parametrize(
    ("group", "out", "index"), [("F", "nvfp4", 4), ("F", "bf16", 2), ("16", "mxfp8", 0), ("64", "mxfp4", 5)]
)
def test_gated(check: Check, group: str, out: str, index: int) -> None:
    m, n, cluster = SCHEDULES[index]
    sms, mode = cluster[0] * cluster[1], MODES[index % 2]
    check(up(group, out, m, n, cluster), M=160, N=2 * half(group, n), K=288, sms=sms, **mode)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "m", "n", "cluster"), [(g, *s) for g, s in product(GROUPS, SCHEDULES) if fits(g, s[1])]
)
@pytest.mark.parametrize("out", OUTPUTS)
def test_every_gated_form(check: Check, out: str, group: str, m: int, n: int, cluster: tuple[int, int]) -> None:
    text, sms = up(group, out, m, n, cluster), cluster[0] * cluster[1]
    for mode in MODES:
        check(text, M=m + 32, N=2 * half(group, n), K=288, sms=sms, **mode)
    check(text, M=32, N=2 * 64, K=32)
    if group == "1" and out == "bf16":
        check(text, M=37, N=2 * 33, K=32)


@pytest.mark.parametrize("group", ["1", "F"])
def test_low_rank(check: Check, group: str) -> None:
    """NVFP4 has a tensor scale: two accumulators of both halves, or four."""
    text = low_rank("nvfp4", group, 256, 64, (2, 1))
    check(text, M=140, N=256, K=96, R=40, sms=2)


def low_rank_fits(fmt: str, group: str, n: int) -> bool:
    """Whether tensor memory has a tile's accumulators: NVFP4's are two, which hold no groups of 128 together."""
    slots = 2 if fmt == "nvfp4" else 1
    apart = group == "F" or (group == "128" and slots == 2)
    return 2 * slots * n < 512 and (group == "F" or n != 192) if apart else slots * n < 512 and fits(group, n)


FORMS = [
    (fmt, group, *schedule)
    for fmt, group, schedule in product(("nvfp4", "mxfp4"), (*GROUPS, "128"), SCHEDULES)
    if low_rank_fits(fmt, group, schedule[1])
]


@pytest.mark.slow
@pytest.mark.parametrize(("fmt", "group", "m", "n", "cluster"), FORMS)
def test_every_low_rank_form(check: Check, fmt: str, group: str, m: int, n: int, cluster: tuple[int, int]) -> None:
    for mode in MODES:
        check(low_rank(fmt, group, m, n, cluster), M=m + 9, N=768, K=288, R=40, sms=cluster[0] * cluster[1], **mode)


#: Groups and halves, and the tiles that lie within a group.
WIDE = [
    ("192", 576, [(128, 64, (1, 1)), (128, 192, (2, 1)), (256, 192, (4, 2))]),
    ("256", 512, [(128, 64, (1, 2)), (256, 128, (2, 2))]),
    ("320", 640, [(256, 64, (2, 1))]),
    ("F", 320, [(128, 64, (1, 1)), (256, 192, (2, 1))]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("group", "half", "schedules"), WIDE, ids=[w[0] for w in WIDE])
@pytest.mark.parametrize(
    ("x", "w", "k"), [("nvfp4", "", 256), ("bf16", "", 64), ("e4m3", "e5m2", 128), ("mxfp8_e4m3", "mxfp4", 128)]
)
def test_groups_wider_than_a_tile(
    check: Check, x: str, w: str, k: int, group: str, half: int, schedules: list[tuple[int, int, tuple[int, int]]]
) -> None:
    for m, n, cluster in schedules:
        text = up(group, "bf16", m, n, cluster, x, w, k)
        check(text, M=m + 9, N=2 * half, K=384, sms=cluster[0] * cluster[1])


@pytest.mark.parametrize(
    ("x", "w", "k"),
    [pytest.param("bf16", "bf16", 64, marks=pytest.mark.slow), ("bf16", "nvfp4", 64), ("nvfp4", "nvfp4", 256)],
)
def test_halves_apart_start_at_any_row(check: Check, x: str, w: str, k: int) -> None:
    """Of plain operands by TMA; scales are laid out anew, dequantized rows are found one by one."""
    check(up("F", "bf16", 256, 128, (2, 1), x, w, k), M=140, N=2 * 100, K=96, sms=2)


ODD = """
layout odd { coords row : 6, k : 3; atom ((2, 3), 3) : ((9, 3), 1); order k, batch, row; pad 255 }
format tall extends mxfp4 { scale e8m0 per 4 x 32; layout odd }
"""


@pytest.mark.parametrize(
    ("x", "group", "k"),
    [("mxfp4", "F", 256), pytest.param("bf16", "F", 64, marks=pytest.mark.slow), ("bf16", "192", 64)],
)
def test_halves_apart_with_scales_of_several_rows(check: Check, x: str, group: str, k: int) -> None:
    """The second half begins within one of the layout's atoms."""
    text = (
        f"{ODD}kernel up(L, M, N, K, F = N / 2) {{ in x : {x}[L, M, K]; in w : tall[L, N, K]; out y : bf16[L, M, F]\n"
        f"g, u = unzip(x @ w.T, N -> F, group = {group}); y = swiglu(g, u) }}\n"
        f"schedule up on sm_100a {{ tile 128 x 64 x {k}; cluster 1 x 1 }}\n"
    )
    check(text, L=2, M=20, N=384 if group == "192" else 2 * 100, K=96)


def test_dequantized_rows_take_turns(check: Check) -> None:
    check(up("192", "bf16", 128, 192, (1, 1), "bf16", "nvfp4", 64), M=70, N=768, K=96, sms=1)


@pytest.mark.slow
@pytest.mark.parametrize("group", ["2", "F"])
def test_batches(check: Check, group: str) -> None:
    text = (
        "kernel up(L, M, N, K, F = N / 2) { in x : nvfp4[L, M, K]; in w : nvfp4[L, N, K]; in v : nvfp4[N, K]\n"
        "in r : bf16[L, M, N]; in b : f32[L, N]; out y : nvfp4[L, M, F]; in ts : f32[]\n"
        f"g, u = unzip(x @ w.T + x @ v.T + r + b, N -> F, group = {group})\n"
        "y = quantize(swiglu(g, u), tensor_scale = ts) }\n"
    )
    for tile, cluster in (("256 x 64 x 256", "2 x 2"), ("128 x 64 x 256", "1 x 1")):
        check(text + f"schedule up on sm_100a {{ tile {tile}; cluster {cluster} }}", L=3, M=140, N=384, K=320, sms=4)


OTHERS = {
    # A product beside the unzipped one, and one that adds to a half: they have the halves' columns.
    "beside": "swiglu(g, u) * (x @ v.T)",
    "added to a half": "silu(g) * (u + x @ v.T)",
    # The first half alone is one product.
    "one half": "relu(g)",
    # Halves of two weights in different ways.
    "two unzips": "swiglu(g, u) + a * b",
}


@pytest.mark.slow
@pytest.mark.parametrize("value", OTHERS.values(), ids=OTHERS.keys())
@pytest.mark.parametrize("group", ["F", "192"])
def test_other_products(check: Check, value: str, group: str) -> None:
    text = (
        "kernel up(M, N, K, F = N / 2) { in x : mxfp4[M, K]; in w : mxfp4[N, K]; in v : mxfp4[F, K]\n"
        f"in z : mxfp4[N, K]; out y : f32[M, F]; g, u = unzip(x @ w.T, N -> F, group = {group})\n"
        f"a, b = unzip(x @ z.T, N -> F, group = F); y = {value} }}\n"
    )
    for tile, cluster in (("128 x 64 x 256", "1 x 1"), ("256 x 64 x 256", "2 x 2")):
        check(text + f"schedule up on sm_100a {{ tile {tile}; cluster {cluster} }}", M=300, N=768, K=320, sms=4)

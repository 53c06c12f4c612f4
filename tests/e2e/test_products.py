"""Several products in one kernel, and products of plain operands, end to end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product

import pytest

Check = Callable[..., None]

GATED = """
kernel gated(M, N, K) {
    in x : %(a)s[M, K]; in wg : %(g)s[N, K]; in wu : %(u)s[N, K]
    out y : %(out)s[M, N]
    y = %(value)s
}
"""
SVD = """
kernel svd(M, N, K, R) {
    in x : %(fmt)s[M, K]; in w : %(fmt)s[N, K]; in xr : %(plain)s[M, R]; in up : %(plain)s[N, R]; in bias : bf16[N]
    out y : f32[M, N]
    y = x @ w.T + xr @ up.T + bias
}
"""
PLAIN = "kernel plain(M, N, K) { in a : %s[M, K]; in b : %s[N, K]; out c : f32[M, N]; c = a @ b.T }\n"

#: Tiles and clusters: one CTA and pairs, halves of scale atoms, multicast both ways.
SCHEDULES = [
    (128, 128, (1, 1)),
    (128, 64, (1, 2)),
    (128, 192, (2, 1)),
    (256, 64, (2, 1)),
    (256, 128, (2, 2)),
    (256, 192, (4, 2)),
]
MODES = [{}, {"mode": "delayed", "seed": 1}, {"mode": "delayed", "seed": 2}]


def some(cases: Iterable[tuple[object, ...]], keep: int) -> list[object]:
    """The cases, all but every `keep`-th of them slow."""
    return [pytest.param(*case, marks=[] if i % keep == 0 else [pytest.mark.slow]) for i, case in enumerate(cases)]


def gated(
    a: str = "nvfp4", g: str = "nvfp4", u: str = "nvfp4", out: str = "bf16", value: str = "silu(x @ wg.T) * (x @ wu.T)"
) -> str:
    """Two products that share their left operand."""
    return GATED % {"a": a, "g": g, "u": u, "out": out, "value": value}


def svd(fmt: str, plain: str = "bf16") -> str:
    """A product and a low-rank one beside it."""
    return SVD % {"fmt": fmt, "plain": plain}


def schedule(name: str, m: int, n: int, k: int, cluster: tuple[int, int], more: str = "") -> str:
    """A block that fixes the tile and the cluster."""
    fields = f"tile {m} x {n} x {k}; cluster {cluster[0]} x {cluster[1]}; {more}"
    return f"schedule {name} on sm_100a {{ {fields} }}\n"


@pytest.mark.parametrize(("m", "n", "cluster", "options"), some(((*s, o) for o in MODES for s in SCHEDULES), 11))
def test_gated(check: Check, m: int, n: int, cluster: tuple[int, int], options: dict[str, object]) -> None:
    """Residues in every size; one cluster takes all tiles, so that the rings wrap."""
    text = gated() + schedule("gated", m, n, 256, cluster)
    check(text, M=m + 9, N=n + 72, K=800, sms=cluster[0] * cluster[1], **options)


@pytest.mark.parametrize(
    ("fmt", "m", "n", "cluster", "options"),
    some(((fmt, *s, o) for fmt in ("nvfp4", "mxfp4") for o in MODES for s in SCHEDULES), 11),
)
def test_low_rank(check: Check, fmt: str, m: int, n: int, cluster: tuple[int, int], options: dict[str, object]) -> None:
    """NVFP4 has a tensor scale, so there are two accumulators; MXFP4 has none, so there is one."""
    text = svd(fmt) + schedule("svd", m, n, 256, cluster)
    check(text, M=m + 9, N=n + 72, K=544, R=40, sms=cluster[0] * cluster[1], **options)


@pytest.mark.parametrize(
    ("plain", "fmt"), some(product(("f16", "e4m3", "e5m2"), ("mxfp8_e4m3", "mxfp6_e2m3", "mxfp8_e4m3")), 4)
)
def test_low_rank_of_other_types(check: Check, plain: str, fmt: str) -> None:
    text = svd(fmt, plain) + schedule("svd", 256, 192, 128, (2, 1))
    check(text, M=130, N=200, K=384, R=144, sms=2)


GATED_FORMATS = [
    ("mxfp4", "mxfp4", "mxfp4"),
    ("mxfp8_e4m3", "mxfp4", "mxfp6_e3m2"),  # one mainloop: B's formats differ, the kind does not
    ("mxfp4", "mxfp4", "mxfp8_e5m2"),  # two mainloops: A is packed in shared memory for one, unpacked for the other
    ("bf16", "bf16", "bf16"),
    ("e4m3", "e5m2", "e4m3"),
]


@pytest.mark.parametrize(
    ("tile_m", "cluster", "a", "g", "u"),
    some(((*tile, *formats) for tile in ((128, (1, 1)), (256, (2, 2))) for formats in GATED_FORMATS), 2),
)
def test_gated_with_other_formats(check: Check, tile_m: int, cluster: tuple[int, int], a: str, g: str, u: str) -> None:
    deep = {"bf16": 64, "mxfp4": 256}.get(a, 128)
    text = gated(a, g, u, "f32", "relu(x @ wg.T) * (x @ wu.T)") + schedule("gated", tile_m, 128, deep, cluster)
    check(text, M=140, N=136, K=384, sms=4)


@pytest.mark.parametrize("out", ["nvfp4", "mxfp4", pytest.param("mxfp8_e4m3", marks=pytest.mark.slow)])
def test_gated_and_quantized(check: Check, out: str) -> None:
    given = ", tensor_scale = s" if out == "nvfp4" else ""
    head = "in s : f32[]; " if given else ""
    text = (
        f"kernel up(M, N, K) {{ in x : nvfp4[M, K]; in wg : nvfp4[N, K]; in wu : nvfp4[N, K]; {head}\n"
        f"out y : {out}[M, N]\n"
        f"y = quantize(bf16(swiglu(x @ wg.T, x @ wu.T)){given}) }}\n"
    )
    check(text + schedule("up", 128, 128, 256, (1, 1)), M=130, N=160, K=320)
    check(text + schedule("up", 256, 64, 256, (2, 1)), M=260, N=96, K=320)


def test_batches(check: Check) -> None:
    text = (
        "kernel gated(L, M, N, K) { in x : nvfp4[L, M, K]; in wg : nvfp4[L, N, K]; in wu : nvfp4[N, K]\n"
        "out y : f32[L, M, N]; y = (x @ wg.T) * (x @ wu.T) }\n"
    )
    check(text + schedule("gated", 256, 128, 256, (2, 2)), L=3, M=140, N=200, K=320, sms=4)
    check(text + schedule("gated", 128, 192, 256, (1, 1)), L=2, M=140, N=200, K=320, sms=2)


@pytest.mark.parametrize(
    ("more",), some(((m,) for m in ("accumulators 1", "stages 2", "stages 1", "raster along_m")), 2)
)
def test_other_fields(check: Check, more: str) -> None:
    check(gated() + schedule("gated", 128, 64, 256, (1, 1), more), M=300, N=200, K=544, sms=3)


SUMS = {
    # One accumulator of two kinds of instruction and three depths.
    "three": "x @ w.T + u @ v.T + xr @ up.T",
    # The sum has a use of its own: one accumulator; the third product has another.
    "two and one": "relu(x @ w.T + u @ v.T) * (xr @ up.T)",
    # A product that is used twice is not only a part of the sum.
    "used twice": "(x @ w.T + u @ v.T) * (xr @ up.T) + (xr @ up.T)",
}


@pytest.mark.parametrize("value", SUMS.values(), ids=SUMS.keys())
def test_sums(check: Check, value: str) -> None:
    text = (
        "kernel sums(M, N, K, J, R) { in x : mxfp8_e4m3[M, K]; in w : mxfp4[N, K]; in u : mxfp4[M, J]\n"
        "in v : mxfp4[N, J]; in xr : bf16[M, R]; in up : bf16[N, R]; out y : f32[M, N]\n"
        f"y = {value} }}\n"
    )
    check(text + schedule("sums", 128, 128, 128, (1, 1)), M=140, N=72, K=128, J=320, R=72, sms=1)
    check(text + schedule("sums", 256, 64, 128, (2, 2)), M=300, N=72, K=256, J=64, R=8, sms=4)


def test_sums_that_share_an_operand(check: Check) -> None:
    """Both products of one mainloop add to one accumulator; x is both sides of the last."""
    text = (
        "kernel sums(M, N, K) { in x : mxfp4[M, K]; in w : mxfp4[N, K]; in v : mxfp4[N, K]; out y : f32[M, N]\n"
        "y = x @ w.T + x @ v.T }\n"
    )
    check(text + schedule("sums", 128, 192, 256, (1, 1)), M=140, N=200, K=320, sms=1)


def test_a_product_with_itself(check: Check) -> None:
    """The same argument on both sides has a tensor map for each."""
    text = "kernel gram(M, K, J = M) { in x : bf16[M, K]; in z : bf16[J, K]; out y : f32[M, J]; y = x @ z.T }\n"
    check(text, M=130, K=72)


@pytest.mark.parametrize(
    ("fmt", "m", "n", "cluster"),
    some(((f, *s) for f in ("bf16", "e4m3") for s in [*SCHEDULES, (128, 256, (1, 1)), (256, 256, (2, 2))]), 5),
)
def test_plain_operands(check: Check, fmt: str, m: int, n: int, cluster: tuple[int, int]) -> None:
    deep = 64 if fmt == "bf16" else 128
    text = PLAIN % (fmt, fmt) + schedule("plain", m, n, deep, cluster)
    check(text, M=2 * m + 9, N=n + 72, K=336, sms=cluster[0] * cluster[1])
    check(text, M=m, N=n, K=336, mode="delayed", seed=1)


@pytest.mark.parametrize(("a", "b"), some([("f16", "f16"), ("e5m2", "e5m2"), ("e4m3", "e5m2")], 2))
def test_plain_pairs(check: Check, a: str, b: str) -> None:
    check(PLAIN % (a, b), M=130, N=200, K=208)


def test_plain_operands_without_k_give_zeros(check: Check) -> None:
    check(PLAIN % ("bf16", "bf16"), M=130, N=300, K=0, sms=2)

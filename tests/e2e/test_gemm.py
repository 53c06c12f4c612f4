"""Plain GEMMs end to end: every operand pair, every schedule, residues in every size, batches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

Check = Callable[..., None]

MX = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4")
#: e2m1 with e8m0 scales per 16: the third combination that kind::mxf4nvf4 takes.
E8M0_16 = (
    "format mx16 { element e2m1 pack low_first; scale e8m0 per 1 x 16; layout blocked_128x4; quantizer mx_floor }\n"
)
PAIRS = [("nvfp4", "nvfp4"), ("mx16", "mx16"), *product(MX, MX)]

SCHEDULES = [
    (m, n, cluster)
    for m, n, clusters in (
        (128, 128, ((1, 1), (2, 1), (2, 2), (4, 2))),
        (256, 128, ((2, 1), (2, 2), (4, 2))),
        (128, 256, ((1, 2),)),
        (256, 256, ((2, 1), (4, 4))),
        (128, 64, ((1, 1), (1, 4))),
        (256, 64, ((2, 1),)),
        (128, 192, ((1, 1), (2, 2))),
        (256, 192, ((4, 1),)),
    )
    for cluster in clusters
]


def depth(a: str, b: str) -> int:
    """The tile's depth: 256 where both operands stay packed, else 128."""
    return 256 if a == b and a in ("nvfp4", "mx16", "mxfp4") else 128


def k_step(a: str, b: str) -> int:
    """What K must be a multiple of."""
    return 32 if depth(a, b) == 256 or (a.startswith("mxfp8") and b.startswith("mxfp8")) else 128


def gemm(a: str, b: str, out: str = "f32", schedule: str = "", batch: bool = False) -> str:
    """The text of `c = a @ b.T` under a schedule."""
    lead = "L, " if batch else ""
    head = E8M0_16 if "mx16" in (a, b) else ""
    args = f"in a : {a}[{lead}M, K]; in b : {b}[{lead}N, K]; out c : {out}[{lead}M, N]"
    tail = f"schedule gemm on sm_100a {{ {schedule} }}\n" if schedule else ""
    return f"{head}kernel gemm({lead}M, N, K) {{ {args}; c = a @ b.T }}\n{tail}"


def scheduled(a: str, b: str, m: int, n: int, cluster: tuple[int, int], **options: object) -> str:
    """The same with a tile and a cluster."""
    fields = f"tile {m} x {n} x {depth(a, b)}; cluster {cluster[0]} x {cluster[1]}"
    return gemm(a, b, schedule=fields, **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "index",
    [pytest.param(i, id=f"{a}-{b}", marks=[] if i % 8 == 0 else [pytest.mark.slow]) for i, (a, b) in enumerate(PAIRS)],
)
def test_every_operand_pair(check: Check, index: int) -> None:
    """Each pair with a 1-CTA and a 2-CTA schedule, which rotate from pair to pair."""
    a, b = PAIRS[index]
    single = [s for s in SCHEDULES if s[0] == 128]
    double = [s for s in SCHEDULES if s[0] == 256]
    k = 3 * k_step(a, b)
    check(scheduled(a, b, *single[index % len(single)]), M=130, N=200, K=k)
    check(scheduled(a, b, *double[index % len(double)]), M=300, N=328, K=k)


@pytest.mark.slow
@pytest.mark.parametrize(("m", "n", "cluster"), SCHEDULES)
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_every_operand_pair_with_every_schedule(
    check: Check, a: str, b: str, m: int, n: int, cluster: tuple[int, int]
) -> None:
    check(scheduled(a, b, m, n, cluster), M=300, N=200, K=3 * k_step(a, b))


@pytest.mark.parametrize(
    ("m", "n", "cluster"),
    [pytest.param(*each, marks=[] if i % 5 == 0 else [pytest.mark.slow]) for i, each in enumerate(SCHEDULES)],
)
def test_every_schedule_persistent(check: Check, m: int, n: int, cluster: tuple[int, int]) -> None:
    """One cluster takes all tiles, so rings and accumulators wrap."""
    text = scheduled("nvfp4", "nvfp4", m, n, cluster, out="bf16")
    check(text, M=2 * m + 9, N=3 * n + 8, K=800, sms=cluster[0] * cluster[1])


RESIDUES = [(129, 127, 96), (1, 1, 32), (2, 511, 1056), (127, 129, 64), (255, 257, 288), (384, 3, 512)]


@pytest.mark.parametrize(
    ("out", "sizes"),
    [
        pytest.param(out, each, marks=[] if i == 0 or (i < 3 and out in ("f32", "e4m3")) else [pytest.mark.slow])
        for out in ("f32", "bf16", "f16", "e4m3", "e5m2")
        for i, each in enumerate(RESIDUES)
    ],
)
def test_residues_and_output_types(check: Check, out: str, sizes: tuple[int, int, int]) -> None:
    """Odd N leaves by plain stores, N whose rows start on 16 bytes by TMA: the same kernel does both."""
    m, n, k = sizes
    check(gemm("nvfp4", "nvfp4", out, "tile 128 x 128 x 256; cluster 1 x 1"), M=m, N=n, K=k)


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize(("m", "n", "cluster"), [(128, 192, (1, 1)), (256, 64, (2, 2)), (256, 256, (2, 1))])
def test_batches(check: Check, m: int, n: int, cluster: tuple[int, int], batch: int) -> None:
    text = scheduled("nvfp4", "nvfp4", m, n, cluster, batch=True)
    check(text, L=batch, M=130, N=200, K=320)


def test_batches_that_share_an_operand(check: Check) -> None:
    text = (
        "kernel shared(L, M, N, K) { in a : nvfp4[L, M, K]; in b : nvfp4[N, K]; out c : f32[L, M, N]; c = a @ b.T }\n"
        "schedule shared on sm_100a { tile 256 x 128 x 256; cluster 2 x 2 }\n"
    )
    check(text, L=3, M=140, N=260, K=320)


@pytest.mark.parametrize("tile", ["tile 128 x 256 x 256; cluster 1 x 1", "tile 256 x 128 x 256; cluster 2 x 1"])
def test_no_k_gives_zeros(check: Check, tile: str) -> None:
    check(gemm("nvfp4", "nvfp4", schedule=tile), M=130, N=300, K=0, sms=2)


@pytest.mark.parametrize(("m", "n"), [(0, 128), (128, 0), (0, 0)])
def test_nothing_to_compute_launches_nothing(check: Check, m: int, n: int) -> None:
    check(gemm("nvfp4", "nvfp4", schedule="tile 128 x 128 x 256"), M=m, N=n, K=256)


@pytest.mark.parametrize(
    "fields", ["accumulators 1", "raster along_m", "raster along_n", "raster 2", "stages 2", "stages 1"]
)
def test_other_fields(check: Check, fields: str) -> None:
    text = gemm("nvfp4", "nvfp4", schedule=f"tile 128 x 64 x 256; cluster 1 x 1; {fields}")
    check(text, M=300, N=330, K=1056, sms=3)


def test_static_sizes(check: Check) -> None:
    """All dims static: no size is a parameter."""
    check(
        "kernel gemm(M = 200, N = 136, K = 320) {"
        " in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T }"
    )


def test_variants_by_size(check: Check) -> None:
    text = gemm("nvfp4", "nvfp4") + (
        "schedule gemm on sm_100a when M <= 128 { tile 128 x 64 x 256 }\n"
        "schedule gemm on sm_100a { tile 256 x 128 x 256; cluster 2 x 1 }\n"
    )
    check(text, M=100, N=200, K=320)
    check(text, M=300, N=200, K=320)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("m", "n", "cluster"), [(128, 128, (1, 1)), (128, 64, (2, 2)), (256, 256, (2, 1)), (256, 128, (4, 2))]
)
def test_asynchronous_operations_may_take_their_time(
    check: Check, m: int, n: int, cluster: tuple[int, int], seed: int
) -> None:
    """With copies, MMAs and barrier arrivals delayed at random, in persistent loops of several tiles."""
    text = scheduled("nvfp4", "nvfp4", m, n, cluster)
    check(text, M=300, N=300, K=800, sms=cluster[0] * cluster[1], mode="delayed", seed=seed)

"""Which schedule applies, and what the compiler chooses on its own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from fp4cc.ir.lowered import LoweredKernel

Lower = Callable[..., LoweredKernel]

GEMM = "kernel gemm(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T }\n"
TWO = GEMM + (
    "schedule gemm on sm_100a when M <= 128 { tile 128 x 64 x 256 }\n"
    "schedule gemm on sm_100a { tile 256 x 256 x 256; cluster 2 x 1; stages 3; raster along_m }\n"
)


def test_a_schedule_decides_what_it_names(lower_text: Lower) -> None:
    lowered = lower_text(TWO, M=4096)
    assert (lowered.tile.m, lowered.tile.n, lowered.tile.k) == (256, 256, 256)
    assert (lowered.cluster.m, lowered.cluster.n) == (2, 1)
    assert lowered.rings.stages == 3
    assert lowered.walk.band == 1
    assert lowered.variants == ()
    assert {d.what for d in lowered.decisions if d.chosen_by == "schedule"} == {
        "schedule", "tile", "cluster", "stages", "order of tiles",
    }  # fmt: skip


def test_the_first_match_wins_for_static_sizes(lower_text: Lower) -> None:
    lowered = lower_text(TWO, M=100)
    assert (lowered.tile.m, lowered.tile.n) == (128, 64)
    assert lowered.variants == ()


def test_a_condition_on_a_dynamic_dim_becomes_a_variant(lower_text: Lower) -> None:
    lowered = lower_text(TWO)
    assert lowered.tile.m == 256
    assert lowered.when is None
    (variant,) = lowered.variants
    assert variant.when == ("le", "M", 128)
    assert variant.tile.n == 64
    assert variant.cluster.m == 1  # M <= 128 has rows for one CTA


def test_a_schedule_for_another_target_does_not_apply(lower_text: Lower) -> None:
    lowered = lower_text(GEMM + "schedule gemm on sm_120a { tile 128 x 128 x 128 }\n")
    assert lowered.schedule is None


def test_without_a_last_schedule_the_compiler_chooses(lower_text: Lower) -> None:
    lowered = lower_text(GEMM + "schedule gemm on sm_100a when M <= 128 { tile 128 x 64 x 256 }\n")
    assert lowered.schedule is None
    assert len(lowered.variants) == 1


@pytest.mark.parametrize(
    ("sizes", "tile", "cluster"),
    [
        ((1, 4096, 4096), (128, 32), (1, 4)),  # weights stream past one row: narrow tiles, so that most SMs load them
        ((128, 7168, 16384), (128, 64), (1, 4)),
        ((64, 64, 320), (128, 32), (1, 2)),
        ((8192, 8192, 8192), (256, 256), (2, 2)),  # compute bound: pairs, and multicast to feed them
        ((100000, 128, 512), (128, 128), (1, 1)),
    ],
)
def test_the_compilers_choice_is_sensible(
    lower_gemm: Lower, sizes: tuple[int, int, int], tile: tuple[int, int], cluster: tuple[int, int]
) -> None:
    m, n, k = sizes
    lowered = lower_gemm(M=m, N=n, K=k)
    assert (lowered.tile.m, lowered.tile.n) == tile
    assert (lowered.cluster.m, lowered.cluster.n) == cluster


SHAPES = list(product(("nvfp4", "mxfp4", "mxfp8_e4m3", "mxfp6_e2m3"), (1, 128, 129, 1000, 65536),
                      (1, 64, 65, 200, 4096, 100000)))  # fmt: skip


@pytest.mark.parametrize(
    ("fmt", "m", "n"),
    [pytest.param(*shape, marks=[] if i % 7 == 0 else [pytest.mark.slow]) for i, shape in enumerate(SHAPES)],
)
def test_every_shape_has_a_schedule(lower_gemm: Lower, fmt: str, m: int, n: int) -> None:
    lowered = lower_gemm(fmt, M=m, N=n, K=1024)
    assert lowered.rings.stages >= 3
    assert lowered.smem.total <= lowered.smem.limit


def test_what_was_assumed_is_recorded(lower_gemm: Lower) -> None:
    tile = next(d for d in lower_gemm().decisions if d.what == "tile")
    assert "(with M, N, K unknown and taken as 4096)" in tile.why


def test_what_was_assumed_is_what_it_was_chosen_for(lower_text: Callable[..., LoweredKernel]) -> None:
    """A batch counts as one, and a bound that `when` gives as itself."""
    lowered = lower_text(
        "kernel k(L, M, N, K) { in a : nvfp4[L, M, K]; in b : nvfp4[L, N, K]; out c : bf16[L, M, N]; c = a @ b.T }\n"
        "schedule k on sm_100a when M <= 128 { stages auto }\n"
    )
    for plan, expected in ((lowered.variants[0], "(with M unknown and taken as 128, N, K as 4096, L as 1)"),
                           (lowered, "(with M, N, K unknown and taken as 4096, L as 1)")):  # fmt: skip
        assert expected in next(d for d in plan.decisions if d.what == "tile").why

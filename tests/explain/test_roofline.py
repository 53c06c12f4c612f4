"""The timing model against published figures and hand calculations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fp4cc.explain.roofline import Work, estimate, mma_cycles
from fp4cc.targets import SM100A
from fp4rt.timing import values

RATES = SM100A.rates


def nvfp4(m: int, n: int, k: int, *, cta_group: int = 1, tile_n: int = 256, cluster: tuple[int, int] = (1, 1)) -> Work:
    """An NVFP4 GEMM with bf16 output: 9/16 byte an operand element."""
    tile_m = 128 * cta_group
    rows_b = tile_n // cta_group
    fill = (128 + rows_b) * 256 * 9 // 16 + (tile_n - rows_b) * 256 // 16
    return Work(
        m, n, k, 1, tile_m, tile_n, 256, *cluster, cta_group, 64, 32768,
        fill, (m + n) * k * 9 // 16, 2 * m * n, overlapped=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("m", "n", "k", "published"),
    [(128, 7168, 16384, 8.994), (128, 4096, 7168, 2.354), (128, 7168, 2048, 1.333)],
)
def test_the_memory_floor_of_published_problems(m: int, n: int, k: int, published: float) -> None:
    """The GPU MODE NVFP4 GEMMs state their speed of light at 7.68 TB/s."""
    found = estimate(nvfp4(m, n, k), replace(RATES, dram_bytes_per_s=7.68e12))
    assert found.memory_time * 1e6 == pytest.approx(published, rel=0.01)
    assert found.roofline_time == found.memory_time


def test_the_peak_is_nine_petaflops() -> None:
    found = estimate(nvfp4(8192, 8192, 8192, cta_group=2, cluster=(2, 1)), RATES)
    assert found.flop / found.compute_time == pytest.approx(8.97e15, rel=0.01)
    assert found.roofline_time == found.compute_time


@pytest.mark.parametrize(("cta_group", "bytes_per_clock"), [(1, 108), (2, 76)])
def test_the_fill_that_full_rate_needs(cta_group: int, bytes_per_clock: int) -> None:
    """A 1-CTA 128 x 256 tile needs 108 bytes a clock, a 2-CTA 256 x 256 tile 76: both over what L2 gives."""
    work = nvfp4(4096, 4096, 4096, cta_group=cta_group, cluster=(cta_group, 1))
    found = estimate(work, RATES)
    assert work.fill_bytes / found.mma_cycles == pytest.approx(bytes_per_clock, abs=0.5)
    assert found.limit == "shared memory fill"


def test_multicast_over_four_ctas_feeds_the_tensor_core() -> None:
    work = nvfp4(8192, 8192, 8192, cta_group=2, cluster=(4, 2))
    assert estimate(replace(work, fill_bytes=work.fill_bytes // 2), RATES).limit == "tensor core"


@pytest.mark.parametrize(("n", "cycles"), [(256, 128), (128, 64), (64, 48)])
def test_narrow_tiles_wait_for_shared_memory(n: int, cycles: float) -> None:
    assert mma_cycles(128, n, 1) == cycles


def test_waves_count_whole_clusters() -> None:
    found = estimate(nvfp4(128 * 149, 256, 1024), RATES)
    assert (found.ctas, found.waves, found.resident) == (149, 2, 148)
    assert found.last_wave == pytest.approx(1 / 148)
    pairs = estimate(nvfp4(256 * 74, 256, 1024, cta_group=2, cluster=(2, 1)), RATES)
    assert (pairs.ctas, pairs.waves, pairs.last_wave) == (148, 1, 1.0)


def test_a_small_problem_is_latency() -> None:
    assert estimate(nvfp4(128, 256, 256), RATES).limit == "latency"


def test_an_empty_problem_costs_only_its_launch() -> None:
    found = estimate(nvfp4(0, 256, 256), RATES)
    assert found.flop == 0
    assert found.waves == 0
    assert found.time == pytest.approx(values("sm_100a")["closed_launch_seconds"], rel=0.01)


def test_no_more_is_promised_than_anybody_has_published() -> None:
    """8192^3 in FP4: DeepGEMM's 5702 TFLOP/s, 63 % of the roofline (https://github.com/deepseek-ai/DeepGEMM/pull/348),
    because power takes a third of the clock; without that the model would say 98 %."""
    work = nvfp4(8192, 8192, 8192, cta_group=2, cluster=(2, 1))
    work = replace(work, fill_bytes=27648, overlapped=True)
    found = estimate(work, RATES)
    assert found.flop / found.time == pytest.approx(5.702e15, rel=0.03)
    assert found.efficiency == pytest.approx(0.63, abs=0.02)
    assert found.clock < 0.7 * RATES.clock_ghz * 1e9
    assert estimate(work, replace(RATES, power=0.0)).efficiency > 0.95


def test_overlapped_accumulators_hide_the_epilogue() -> None:
    plain = nvfp4(8192, 8192, 2048, cta_group=2, cluster=(2, 1))
    assert estimate(replace(plain, overlapped=True), RATES).time < estimate(plain, RATES).time

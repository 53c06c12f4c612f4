"""The pipeline's arithmetic, checked against a direct model of who needs which bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fp4cc.ir.lowered import LoweredGemm

Lower = Callable[..., LoweredGemm]

CASES = [
    (m, n, cluster)
    for m in (128, 256)
    for n in (64, 128, 192, 256)
    for cluster in ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 2), (2, 4), (4, 4), (8, 2))
    if not (m == 256 and cluster[0] == 1)
]


@pytest.fixture
def scheduled(lower_gemm: Lower) -> Lower:
    def run(m: int, n: int, cluster: tuple[int, int], fmt: str = "nvfp4") -> LoweredGemm:
        depth = 256 if "fp4" in fmt else 128
        return lower_gemm(fmt, fields=f"tile {m} x {n} x {depth}; cluster {cluster[0]} x {cluster[1]}")

    return run


def _ranks(mask: int) -> set[int]:
    return {bit for bit in range(16) if mask >> bit & 1}


@pytest.mark.parametrize("fmt", ["nvfp4", "mxfp4", "mxfp8_e4m3"])
@pytest.mark.parametrize(("m", "n", "cluster"), CASES)
def test_every_cta_gets_each_byte_once(scheduled: Lower, m: int, n: int, cluster: tuple[int, int], fmt: str) -> None:
    lowered = scheduled(m, n, cluster, fmt)
    for load in lowered.pipeline.loads:
        size = lowered.smem.buffer(load.buffer).bytes
        for rank in range(lowered.cluster.size):
            arriving = sum(load.slice_bytes for mask in load.masks if rank in _ranks(mask))
            assert arriving == size, (load.buffer, rank)


@pytest.mark.parametrize(("m", "n", "cluster"), CASES)
def test_a_multicast_reaches_only_ctas_that_need_the_data(
    scheduled: Lower, m: int, n: int, cluster: tuple[int, int]
) -> None:
    lowered = scheduled(m, n, cluster)
    width, group = lowered.cluster.m, lowered.mma.cta_group
    for load in lowered.pipeline.loads:
        for rank, mask in enumerate(load.masks):
            for other in _ranks(mask):
                same_row, same_column = rank % width == other % width, rank // width == other // width
                if load.buffer in ("a_smem", "sfa_smem"):
                    assert same_row
                elif load.buffer == "sfb_smem":
                    assert same_column
                else:
                    assert same_column
                    assert (rank - other) % group == 0


@pytest.mark.parametrize(("m", "n", "cluster"), CASES)
def test_a_slot_is_freed_by_exactly_the_mmas_that_read_it(
    scheduled: Lower, m: int, n: int, cluster: tuple[int, int]
) -> None:
    """An issuer may refill a stage when every MMA that reads data it sent has committed: no more, no fewer."""
    lowered = scheduled(m, n, cluster)
    group = lowered.mma.cta_group
    pipeline = lowered.pipeline
    for rank in range(lowered.cluster.size):
        receivers = {other for load in pipeline.loads for other in _ranks(load.masks[rank])}
        readers = {other - other % group for other in receivers}
        committing = {leader for leader, mask in enumerate(pipeline.empty_masks) if rank in _ranks(mask)}
        # A CTA with no slice of its own to issue (one slice for a whole group) may wait for more than it must.
        assert readers <= committing
        assert len(committing) == pipeline.barrier("ab_empty").arrivals


@pytest.mark.parametrize(("m", "n", "cluster"), CASES)
def test_the_full_barrier_counts_what_arrives(scheduled: Lower, m: int, n: int, cluster: tuple[int, int]) -> None:
    lowered = scheduled(m, n, cluster)
    stage = sum(lowered.smem.buffer(load.buffer).bytes for load in lowered.pipeline.loads)
    assert lowered.pipeline.barrier("ab_full").tx_bytes == stage * lowered.mma.cta_group


def test_unpacked_operands_count_their_packed_bytes(lower_gemm: Lower) -> None:
    lowered = lower_gemm("mxfp6_e3m2", "mxfp4", fields="tile 128 x 128 x 128; cluster 1 x 1")
    a, b = lowered.pipeline.load("a_smem"), lowered.pipeline.load("b_smem")
    assert (a.slice_bytes, a.tx_bytes) == (128 * 128, 128 * 96)
    assert (b.slice_bytes, b.tx_bytes) == (128 * 128, 128 * 64)


@pytest.mark.parametrize("fmt", ["nvfp4", "mxfp4", "mxfp8_e4m3"])
@pytest.mark.parametrize(("m", "n"), [(m, n) for m in (128, 256) for n in (64, 128, 192, 256)])
def test_tensor_memory_holds_accumulators_and_scales(scheduled: Lower, m: int, n: int, fmt: str) -> None:
    lowered = scheduled(m, n, (2, 1), fmt)
    tmem = lowered.tmem
    second = range(tmem.acc_stride, tmem.acc_stride + n)
    scales = range(tmem.sfa, tmem.columns)
    assert tmem.columns in (32, 64, 128, 256, 512)
    assert second.stop <= tmem.sfa < tmem.sfb
    atoms = lowered.mma.instructions_per_tile_k // lowered.mma.instructions_per_atom
    assert tmem.sfb == tmem.sfa + atoms * tmem.sfa_columns
    assert tmem.sfb + atoms * tmem.sfb_columns <= scales.stop
    shared = n - tmem.acc_stride
    assert tmem.overlapped(n) == (shared > 0)
    if shared > 0:  # the sub-tiles read before the release cover the shared columns, from either side
        assert 32 * tmem.release_after >= shared
        assert 32 * (tmem.release_after - 1) < shared


@pytest.mark.parametrize(("m", "n", "cluster"), CASES)
def test_shared_memory_fits_and_does_not_overlap(scheduled: Lower, m: int, n: int, cluster: tuple[int, int]) -> None:
    smem = scheduled(m, n, cluster).smem
    end = 0
    for buffer in smem.buffers:
        assert buffer.offset >= end
        assert buffer.offset % buffer.align == 0
        end = buffer.offset + buffer.total
    assert end == smem.total <= smem.limit

"""The pipeline's arithmetic, checked against a direct model of who needs which bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fp4cc.codegen.emit import emit
from fp4cc.explain.gemm import pipeline_rows
from fp4cc.ir.lowered import LoweredKernel, Tcgen05
from fp4cc.ir.part import Part
from fp4num import LAYOUTS
from fp4rt.sizes import evaluate

Lower = Callable[..., LoweredKernel]

CASES = [
    (m, n, cluster)
    for m in (128, 256)
    for n in (64, 128, 192, 256)
    for cluster in ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 2), (2, 4), (4, 4), (8, 2))
    if not (m == 256 and cluster[0] == 1)
]


@pytest.fixture
def scheduled(lower_gemm: Lower) -> Lower:
    def run(m: int, n: int, cluster: tuple[int, int], fmt: str = "nvfp4") -> LoweredKernel:
        depth = 256 if "fp4" in fmt else 128
        return lower_gemm(fmt, fields=f"tile {m} x {n} x {depth}; cluster {cluster[0]} x {cluster[1]}")

    return run


def _ranks(mask: int) -> set[int]:
    return {bit for bit in range(16) if mask >> bit & 1}


@pytest.mark.parametrize("fmt", ["nvfp4", "mxfp4", "mxfp8_e4m3"])
@pytest.mark.parametrize(("m", "n", "cluster"), CASES)
def test_every_cta_gets_each_byte_once(scheduled: Lower, m: int, n: int, cluster: tuple[int, int], fmt: str) -> None:
    lowered = scheduled(m, n, cluster, fmt)
    for load in lowered.loads:
        size = lowered.smem.buffer(load.buffer).bytes
        for rank in range(lowered.cluster.size):
            arriving = sum(load.slice_bytes for mask in load.masks if rank in _ranks(mask))
            assert arriving == size, (load.buffer, rank)


@pytest.mark.parametrize(("m", "n", "cluster"), CASES)
def test_a_multicast_reaches_only_ctas_that_need_the_data(
    scheduled: Lower, m: int, n: int, cluster: tuple[int, int]
) -> None:
    lowered = scheduled(m, n, cluster)
    width, group = lowered.cluster.m, lowered.engine_as(Tcgen05).mma.cta_group
    for load in lowered.loads:
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
    group = lowered.engine_as(Tcgen05).mma.cta_group
    pipeline = lowered.rings
    for rank in range(lowered.cluster.size):
        receivers = {other for load in lowered.loads for other in _ranks(load.masks[rank])}
        readers = {other - other % group for other in receivers}
        committing = {leader for leader, mask in enumerate(pipeline.empty_masks) if rank in _ranks(mask)}
        # A CTA with no slice of its own to issue (one slice for a whole group) may wait for more than it must.
        assert readers <= committing
        assert len(committing) == pipeline.barrier("ab_empty").arrivals


@pytest.mark.parametrize(("m", "n", "cluster"), CASES)
def test_the_full_barrier_counts_what_arrives(scheduled: Lower, m: int, n: int, cluster: tuple[int, int]) -> None:
    lowered = scheduled(m, n, cluster)
    stage = sum(lowered.smem.buffer(load.buffer).bytes for load in lowered.loads)
    assert lowered.rings.barrier("ab_full").tx_bytes == stage * lowered.engine_as(Tcgen05).mma.cta_group


@pytest.mark.parametrize(("m", "n", "cluster"), CASES)
def test_an_accumulator_is_freed_when_all_its_readers_have_arrived(
    scheduled: Lower, m: int, n: int, cluster: tuple[int, int]
) -> None:
    """Four epilogue warps of each CTA that has rows of it; one commit says that it is full."""
    lowered = scheduled(m, n, cluster)
    ctas = m // 128
    assert lowered.rings.barrier("acc_empty").arrivals == 4 * ctas
    assert lowered.rings.barrier("acc_full").arrivals == 1
    assert f"mbarrier_init(acc_empty.subview(i), {4 * ctas})" in emit(lowered)


@pytest.mark.parametrize(("m", "n", "cluster"), CASES)
def test_a_ring_is_of_the_cluster_where_other_ctas_signal_it(
    scheduled: Lower, m: int, n: int, cluster: tuple[int, int]
) -> None:
    """By the masks: a load or commit of one CTA that reaches another's barrier; and a pair's warps reach the leader."""
    lowered = scheduled(m, n, cluster)
    pipeline, pair = lowered.rings, m == 256
    foreign = {
        "ab_full": pair or any(_ranks(mask) - {r} for load in lowered.loads for r, mask in enumerate(load.masks)),
        "ab_empty": any(_ranks(mask) - {rank} for rank, mask in enumerate(pipeline.empty_masks)),
        "acc_full": any(_ranks(mask) - {rank} for rank, mask in enumerate(pipeline.acc_full_masks)),
        "acc_empty": pair,
    }
    assert {ring.name: ring.scope == "cluster" for ring in pipeline.barriers} == foreign
    rows = dict(pipeline_rows(lowered))
    assert all(rows[name].endswith(", across the cluster") == across for name, across in foreign.items())


#: Two products with block scales and the same left operand: a B each.
TWO = "in a : {f}[L, M, K]; in b : {f}[{l}N, K]; in d : {f}[{l}N, K]; out c : f32[L, M, N]; c = (a @ b.T) * (a @ d.T)"


@pytest.mark.parametrize("lead", ["", "L, "])
@pytest.mark.parametrize("fmt", ["nvfp4", "mxfp4", "mxfp8_e4m3"])
def test_scale_atoms_are_loaded_from_where_the_layout_has_them(lower_text: Lower, fmt: str, lead: str) -> None:
    """For every operand: one atom on along rows, along K, and one batch on, by the layout's own arithmetic."""
    sizes = {"L": 3, "M": 392, "N": 520, "K": 1152}
    lowered = lower_text(f"kernel k(L, M, N, K) {{ {TWO.format(f=fmt, l=lead)} }}")
    for arg, rows in (("a", "M"), ("b", "N"), ("d", "N")):
        scales = lowered.kernel.arg(arg).format
        assert scales is not None
        block = scales.block[1]
        assert isinstance(block, int)
        blocks = sizes["K"] // block
        offsets = LAYOUTS["blocked_128x4"].offsets(sizes["L"], sizes[rows], blocks)
        found = next(m for m in lowered.tensor_maps if m.source == f"{arg}.scales")
        steps = [offsets[0, 128, 0], offsets[0, 0, 4]] + ([offsets[1, 0, 0]] if lead or arg == "a" else [])
        assert [evaluate(stride, sizes) for stride in found.strides] == steps
        atoms = [-(-sizes[rows] // 128), -(-blocks // 4)]
        assert [evaluate(dim, sizes) for dim in found.dims[:3]] == [256, *atoms]


@pytest.mark.parametrize("n", [64, 128, 192])
@pytest.mark.parametrize("fmt", ["nvfp4", "mxfp4", "mxfp8_e4m3"])
def test_each_b_has_tensor_memory_for_its_scales(lower_text: Lower, fmt: str, n: int) -> None:
    """The columns of accumulators, A's scales and every B's are apart, and the kernel file names the same ones."""
    depth = 256 if "fp4" in fmt else 128
    schedule = f"schedule k on sm_100a {{ tile 128 x {n} x {depth}; cluster 1 x 1 }}"
    lowered = lower_text(f"kernel k(L, M, N, K) {{ {TWO.format(f=fmt, l='')} }}\n{schedule}\n")
    tmem, mma = lowered.engine_as(Tcgen05).tmem, lowered.engine_as(Tcgen05).mma
    parts = [range(i * tmem.acc_stride, (i + 1) * tmem.acc_stride) for i in range(tmem.acc_buffers)]
    parts.append(range(tmem.sfa, tmem.sfa + 4 * mma.atoms))
    starts = [tmem.sfb, tmem.sfb + tmem.sfb_stride]
    parts += [range(start, start + 4 * mma.atoms * -(-n // 128)) for start in starts]
    columns = np.concatenate([np.array(part) for part in parts])
    assert len(set(columns.tolist())) == len(columns)
    assert columns.max() < tmem.end <= tmem.columns
    text = emit(lowered)
    for name, start in zip(("SFB_COLUMN", "SFB2_COLUMN"), starts, strict=True):
        assert f"\n{name} = {start}\n" in text


def test_unpacked_operands_count_their_packed_bytes(lower_gemm: Lower) -> None:
    lowered = lower_gemm("mxfp6_e3m2", "mxfp4", fields="tile 128 x 128 x 128; cluster 1 x 1")
    a, b = lowered.load(Part("A")), lowered.load(Part("B"))
    assert (a.slice_bytes, a.tx_bytes) == (128 * 128, 128 * 96)
    assert (b.slice_bytes, b.tx_bytes) == (128 * 128, 128 * 64)


@pytest.mark.parametrize("fmt", ["nvfp4", "mxfp4", "mxfp8_e4m3"])
@pytest.mark.parametrize(("m", "n"), [(m, n) for m in (128, 256) for n in (64, 128, 192, 256)])
def test_tensor_memory_holds_accumulators_and_scales(scheduled: Lower, m: int, n: int, fmt: str) -> None:
    lowered = scheduled(m, n, (2, 1), fmt)
    tmem = lowered.engine_as(Tcgen05).tmem
    second = range(tmem.acc_stride, tmem.acc_stride + n)
    scales = range(tmem.sfa, tmem.columns)
    assert tmem.columns in (32, 64, 128, 256, 512)
    assert second.stop <= tmem.sfa < tmem.sfb
    mma = lowered.engine_as(Tcgen05).mma
    atoms = mma.instructions_per_tile_k // mma.instructions_per_atom
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

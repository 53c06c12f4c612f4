"""Recordings of launches, and their replay in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fp4emu import Gpu
from fp4emu.recording import Recording, sectors, wavefronts
from fp4emu.timeline import Demand, Rates, Timeline, chrome, replay
from fp4rt.timing import values

VALUES = values("sm_90a")
RATES = Rates(**{name: VALUES[name] for name in Rates.__slots__ if name != "sms"}, sms=132)
ALONE = Demand(active=132, dram_fraction=1.0)
REGISTERS = ".reg .b32 %r<9>; .reg .b64 %d<9>; .reg .pred %p<4>; .reg .f32 %f<9>;\n"


def recorded(
    body: str, *, grid: int = 1, threads: int = 32, head: str = "", clusters: Sequence[int] | None = None
) -> tuple[Recording, bytes]:
    """What a kernel of one array of 4096 bytes did, and what it left there."""
    gpu = Gpu("sm_90a")
    data = gpu.alloc(4096)
    gpu.write(data, np.arange(1024, dtype=np.uint32))
    top = ".version 8.0\n.target sm_90a\n.address_size 64\n"
    text = f"{top}.visible .entry kernel(.param .u64 x)\n{{\n{head}{REGISTERS}{body}\nret;\n}}\n"
    record = Recording(clusters=clusters)
    gpu.launch(
        gpu.load(text), "kernel", (grid, 1, 1), (threads, 1, 1), params=[data.to_bytes(8, "little")], record=record
    )
    return record, gpu.read(data, 4096)


def played(body: str, rates: Rates = RATES, *, keep: bool = False, **how: Any) -> Timeline:
    """The timeline of a kernel."""
    return replay(recorded(body, **how)[0], rates, ALONE, keep=keep)


ADDRESS = "ld.param.u64 %d1, [x]; mov.u32 %r1, %tid.x; mad.wide.u32 %d1, %r1, 4, %d1;\n"


@pytest.mark.parametrize(
    ("stride", "size", "found"),
    [(4, 4, 4), (8, 4, 8), (128, 4, 32), (0, 4, 1), (16, 16, 16)],
)
def test_sectors_of_global_memory(stride: int, size: int, found: int) -> None:
    assert sectors(np.arange(32) * stride, size) == found


@pytest.mark.parametrize(
    ("stride", "size", "found"),
    [(4, 4, 1), (8, 4, 2), (128, 4, 32), (0, 4, 1), (132, 4, 1), (8, 8, 2), (16, 16, 4), (128, 16, 32), (144, 16, 4)],
)
def test_wavefronts_of_shared_memory(stride: int, size: int, found: int) -> None:
    assert wavefronts(np.arange(32) * stride, size) == found


def test_a_record_has_blocks_and_what_they_touched() -> None:
    record, left = recorded(ADDRESS + "ld.global.b32 %r2, [%d1]; add.u32 %r2, %r2, 1; st.global.b32 [%d1], %r2;")
    ((_, log),) = record.warps.items()
    assert [item for item in log if isinstance(item, int)] == [0]
    assert [item[1:] for item in log if not isinstance(item, int)] == [
        ("global", 4, False, 128),
        ("global", 4, True, 128),
    ]
    assert np.frombuffer(left, np.uint32)[:33].tolist() == [*range(1, 33), 32]


def test_what_a_cta_loads_again_is_in_its_l1() -> None:
    record, _ = recorded(ADDRESS + "ld.global.b32 %r2, [%d1]; ld.global.b32 %r3, [%d1]; ld.global.b32 %r4, [%d1+64];")
    ((_, log),) = record.warps.items()
    assert [item[2] for item in log if not isinstance(item, int)] == [4, 0, 2]


def test_a_wait_is_recorded_once_however_often_it_was_tried() -> None:
    late = "mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 32; @%p1 bra LATE; "
    body = late + "bar.sync 1, 64; bra END;\nLATE: bar.sync 1, 64;\nEND:"
    record, _ = recorded(body, threads=64)
    for log in record.warps.values():
        assert [item[1:] for item in log if not isinstance(item, int)] == [("sync", 1, 64)]


def test_only_the_clusters_that_are_asked_for_run() -> None:
    body = "ld.param.u64 %d1, [x]; mov.u32 %r1, %ctaid.x; mad.wide.u32 %d1, %r1, 4, %d1; st.global.b32 [%d1], 7;"
    record, left = recorded(body, grid=8, clusters=(2, 5))
    assert sorted(cta for cta, _ in record.warps) == [(2, 0, 0), (5, 0, 0)]
    assert np.flatnonzero(np.frombuffer(left, np.uint32)[:8] == 7).tolist() == [2, 5, 7]


@pytest.mark.parametrize("count", [8, 64])
def test_a_chain_of_dependent_instructions_takes_their_latencies(count: int) -> None:
    chain = "".join("fma.rn.f32 %f1, %f1, %f1, %f1;" for _ in range(count))
    line = played("mov.f32 %f1, 0f00000000;" + chain)
    assert line.cycles == pytest.approx(RATES.start + count * RATES.alu_latency, abs=4 * RATES.alu_latency)


def test_a_load_takes_the_latency_of_dram_and_ahead_of_it_loads_overlap() -> None:
    one = played(ADDRESS + "ld.global.b32 %r2, [%d1]; add.u32 %r3, %r2, %r2;")
    many = "".join(f"ld.global.b32 %r{i}, [%d1+{128 * i}];" for i in range(2, 8))
    several = played(ADDRESS + many + "".join(f"add.u32 %r1, %r1, %r{i};" for i in range(2, 8)))
    assert one.cycles > RATES.start + RATES.dram_latency
    assert several.cycles < one.cycles + 0.5 * RATES.dram_latency
    assert one.stalls["a load or mma.sync"] > 0.9 * RATES.dram_latency


RING = """
.shared .align 8 .b64 full;
.shared .align 128 .b8 buffer[1024];
"""
COPY = """
ld.param.u64 %d1, [x]; mov.u32 %r1, %tid.x; mov.b32 %r2, full; mov.b32 %r3, buffer;
setp.ne.u32 %p1, %r1, 0; @%p1 bra READY;
mbarrier.init.shared.b64 [%r2], 1; fence.mbarrier_init.release.cluster;
READY: bar.sync 0;
@%p1 bra WAIT;
mbarrier.arrive.expect_tx.shared.b64 _, [%r2], 1024;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r3], [%d1], 1024, [%r2];
WAIT: mbarrier.try_wait.parity.shared.b64 %p2, [%r2], 0; @!%p2 bra WAIT;
mad.lo.u32 %r4, %r1, 4, %r3; ld.shared.b32 %r5, [%r4]; add.u32 %r5, %r5, 1;
"""


def test_a_warp_waits_for_data_by_tma() -> None:
    line = played(COPY, head=RING, threads=64)
    assert line.stalls["data by TMA"] > RATES.tma_latency + RATES.dram_latency - RATES.l2_latency
    assert line.load_bytes == 1024
    slow = played(COPY, replace(RATES, tma_latency=RATES.tma_latency + 500), head=RING, threads=64)
    assert slow.cycles == pytest.approx(line.cycles + 500)


SLOWER = [name for name in Rates.__slots__ if name.endswith("latency") or name in ("issue", "start", "tma_issue")]


@pytest.mark.parametrize("name", SLOWER)
def test_nothing_gets_faster_by_a_longer_latency(name: str) -> None:
    record, _ = recorded(COPY, head=RING, threads=64)
    before = replay(record, RATES, ALONE)
    after = replay(record, replace(RATES, **{name: 2 * getattr(RATES, name)}), ALONE)
    assert after.cycles >= before.cycles


def test_what_is_seen_on_a_track_does_not_overlap() -> None:
    line = played(COPY, head=RING, threads=64, keep=True)
    tracks: dict[Any, list[tuple[float, float]]] = {}
    for process, track, _, begin, end in line.spans:
        assert 0 <= begin < end <= line.cycles
        tracks.setdefault((process, track), []).append((begin, end))
    assert {track for _, track in tracks} >= {"warp 0", "warp 1", "TMA"}
    for spans in tracks.values():
        assert all(a[1] <= b[0] + 1e-6 for a, b in pairwise(sorted(spans)))


def test_the_file_for_perfetto() -> None:
    line = played(COPY, head=RING, threads=64, keep=True)
    found = chrome(line.spans, RATES.clock_ghz)
    events = found["traceEvents"]
    names = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert names >= {"warp 0", "warp 1", "TMA"}
    timed = [e for e in events if e["ph"] == "X"]
    assert len(timed) == len(line.spans)
    assert max(e["ts"] + e["dur"] for e in timed) == pytest.approx(line.cycles / RATES.clock_ghz / 1e3, rel=0.2)
    assert {e["pid"] for e in timed} == {1}


def test_ctas_that_are_resident_together_share_an_sm() -> None:
    record, _ = recorded(ADDRESS + "ld.global.b32 %r2, [%d1]; add.u32 %r3, %r2, %r2;")
    after = replay(record, RATES, ALONE, units=4).cycles
    beside = replay(record, RATES, replace(ALONE, resident=4), units=4).cycles
    assert beside < 0.5 * after

"""A timing model for one dense GEMM kernel: roofline, waves, and what a tile's main loop is limited by.

An estimate, not a measurement: it says which resource a schedule runs into first, and by how much. Every rate is one of
the file of parameters (`fp4rt.timing`), which says where it comes from: others measured on B200.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fp4cc.targets import Rates
from fp4rt.timing import values

#: Seconds that a launch takes beside its clocks.
LAUNCH = values("sm_100a")["closed_launch_seconds"]
#: Clocks from a TMA load's issue to data that comes from DRAM, unloaded.
DRAM_LATENCY = round(values("sm_100a")["dram_latency"])
#: Clocks from the last tcgen05.mma's issue through commit to a waiting warp: this plus half the tile's columns.
MMA_DRAIN = {1: 137, 2: 173}
#: Bytes a clock that the epilogue warps of an SM read from tensor memory (tcgen05.ld).
TMEM_READ = values("sm_100a")["tmem_bytes_per_clock"]
#: Fewest clocks between two 2-CTA MMAs, however narrow.
PAIR_ISSUE = 43

Limit = Literal["tensor core", "shared memory fill", "converter warps", "epilogue", "DRAM", "latency"]


@dataclass(frozen=True, slots=True)
class Work:
    """One launch. Sizes in elements, traffic in bytes.

    `fill_bytes` is what one CTA asks of L2 for one tile along K, its multicast share counted once; `convert_cycles`
    what its converter warps take for it; `read_bytes` and `written_bytes` are the whole problem's, each tensor once.
    `parts` of K are made by CTAs of their own, and take `meeting_cycles` each to meet.
    """

    m: int
    n: int
    k: int
    batch: int
    tile_m: int
    tile_n: int
    tile_k: int
    cluster_m: int
    cluster_n: int
    cta_group: Literal[1, 2]
    mma_k: int
    flop_per_clock: int
    fill_bytes: int
    read_bytes: int
    written_bytes: int
    overlapped: bool
    convert_cycles: float = 0.0
    parts: int = 1
    meeting_cycles: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds unless said otherwise; `intensity` and `ridge` in FLOP a byte, cycles in SM clocks; `clock`, in hertz, is
    what power leaves of the target's."""

    flop: int
    bytes: int
    intensity: float
    ridge: float
    compute_time: float
    memory_time: float
    roofline_time: float
    ctas: int
    resident: int
    waves: int
    last_wave: float
    mma_cycles: float
    fill_cycles: float
    mainloop_cycles: float
    epilogue_cycles: float
    clock: float
    time: float
    limit: Limit

    @property
    def efficiency(self) -> float:
        """The roofline time as a part of the estimated time."""
        return self.roofline_time / self.time if self.time else 0.0


def estimate(work: Work, rates: Rates) -> Estimate:
    """Estimate one launch on a GPU with those rates."""
    clock = rates.clock_ghz * 1e9
    flop = 2 * work.m * work.n * work.k * work.batch
    traffic = work.read_bytes + work.written_bytes
    peak = work.flop_per_clock * rates.sms * clock
    compute_time = flop / peak
    memory_time = traffic / rates.dram_bytes_per_s
    roofline_time = max(compute_time, memory_time)

    # A cluster takes a grid of tiles, or a part of K of one; ragged edges still cost whole clusters.
    cluster_rows = work.tile_m * work.cluster_m // work.cta_group
    cluster_columns = work.tile_n * work.cluster_n
    clusters = work.batch * _ceil(work.m, cluster_rows) * _ceil(work.n, cluster_columns) * work.parts
    size = work.cluster_m * work.cluster_n
    slots = max(rates.sms // size, 1)
    waves = _ceil(clusters, slots)
    resident = min(clusters, slots) * size
    last = clusters - (waves - 1) * slots if clusters else 0

    mma = mma_cycles(work.tile_m, work.tile_n, work.cta_group) * (work.tile_k // work.mma_k)
    fill = work.fill_bytes / rates.smem_fill_bytes_per_clock
    steps = _ceil(_ceil(work.k, work.tile_k), work.parts)
    mainloop = steps * max(mma, fill, work.convert_cycles)
    # Each CTA reads its 128 lanes x tile_n columns of 32 bit.
    epilogue = 128 * work.tile_n * 4 / TMEM_READ + work.meeting_cycles
    drain = MMA_DRAIN[work.cta_group] + work.tile_n / 2
    per_tile = max(mainloop, epilogue) if work.overlapped else mainloop + drain + epilogue
    tail = drain + epilogue if work.overlapped else 0.0
    cycles = DRAM_LATENCY + waves * per_tile + tail if clusters else 0.0
    left = rates.clock(waves * steps * mma / cycles if cycles else 0.0)
    time = LAUNCH + max(cycles / left, memory_time)

    return Estimate(
        flop=flop,
        bytes=traffic,
        intensity=flop / traffic if traffic else 0.0,
        ridge=peak / rates.dram_bytes_per_s,
        compute_time=compute_time,
        memory_time=memory_time,
        roofline_time=roofline_time,
        ctas=clusters * size,
        resident=resident,
        waves=waves,
        last_wave=last / slots,
        mma_cycles=mma,
        fill_cycles=fill,
        mainloop_cycles=mainloop,
        epilogue_cycles=epilogue,
        clock=left,
        time=time,
        limit=_limit(
            {"tensor core": mma, "shared memory fill": fill, "converter warps": work.convert_cycles},
            waves * mainloop,
            waves * epilogue,
            DRAM_LATENCY + drain,
            cycles / left,
            memory_time,
        ),
    )


def mma_cycles(tile_m: int, tile_n: int, cta_group: int) -> float:
    """Clocks between two MMAs of full rate: the tensor core's own time, or reading A and B from shared memory."""
    if cta_group == 1:
        return max(tile_n / 2, (128 + tile_n) / 4)
    if tile_m == 256:
        return max(tile_n / 2, PAIR_ISSUE)
    return max(tile_n / 4, (64 + tile_n / 2) / 4 + 1)


def _limit(
    step: Mapping[Limit, float], mainloops: float, epilogues: float, fixed: float, sm_time: float, memory_time: float
) -> Limit:
    """What most of the time goes to. Cycles of one SM over all its waves; `fixed` is paid once."""
    if memory_time >= sm_time:
        return "DRAM"
    if max(mainloops, epilogues) < fixed:
        return "latency"
    if epilogues > mainloops:
        return "epilogue"
    return max(step, key=lambda name: step[name])


def _ceil(a: int, b: int) -> int:
    return -(-a // b)

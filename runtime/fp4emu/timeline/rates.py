"""The numbers that a replay needs of a GPU. Where they come from is said in the file that has them, not here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rates:
    """Latencies in clocks of an SM, bandwidths in bytes a clock of one SM unless said otherwise.

    `issue`: slots that ptxas makes of a PTX instruction, on average, for one of the four schedulers of an SM, which
    issues one a clock; `integer`, `special`, `convert`: clocks that an instruction of the integer pipe, of the special
    function unit, and a conversion take of a scheduler's pipe.
    """

    sms: int
    clock_ghz: float
    launch_seconds: float
    dram_bytes_per_s: float
    l2_bytes_per_clock: float  # of the whole GPU
    fill_bytes_per_clock: float  # L2 to an SM
    shared_bytes_per_clock: float
    issue: float
    integer: float
    special: float
    convert: float
    alu_latency: float
    special_latency: float
    shuffle_latency: float
    shared_latency: float
    l2_latency: float
    dram_latency: float
    tma_latency: float  # beyond that of the memory
    tma_issue: float  # clocks of the TMA unit for an instruction
    tma_row: float  # and for a row of a box
    barrier_latency: float  # from the last arrival at an mbarrier to a waiting warp
    sync_latency: float  # of a named barrier
    cluster_latency: float  # of a barrier of a cluster, and of a remote arrival
    fence_latency: float  # of fence.proxy.async and the like
    membar_latency: float  # of a fence of GPU scope
    start: float  # clocks from the launch to a CTA's first instruction
    tensor_flop_per_clock: float  # 16-bit operands, dense
    mma_sync_rate: float  # of mma.sync, as a part of that
    mma_sync_latency: float
    wgmma_latency: float
    umma_latency: float  # from the last tcgen05.mma through commit to a waiting warp
    umma_copy: float  # clocks that tcgen05.cp keeps the tensor core waiting
    tmem_bytes_per_clock: float
    tmem_latency: float
    power_tensor: float  # part of the clock that is lost where the tensor cores are busy all the time
    power_dram: float  # and where DRAM is
    clock_floor: float  # the least part of the clock that is left

    @property
    def dram_bytes_per_clock(self) -> float:
        """Of the whole GPU."""
        return self.dram_bytes_per_s / (self.clock_ghz * 1e9)

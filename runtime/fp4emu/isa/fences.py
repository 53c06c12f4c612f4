"""Fences (PTX ISA 9.7.13.4, 9.7.13.5, 9.7.16.6). Memory of the emulator is sequentially consistent: they have no
effect on results."""

from __future__ import annotations

from typing import Any

from fp4emu.builder import Builder
from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.lockstep import Lockstep
from fp4emu.order import tensor_maps
from fp4emu.registry import instruction
from fp4emu.shapes import LANES, row_of
from fp4emu.tensormap import MAP_BYTES

SCOPE = "[scope=cta|cluster|gpu|sys]"


def _nothing(e: Builder, ins: Instruction) -> None:
    """Has no effect on results."""


instruction(
    "membar",
    "level=cta|gl|sys",
    "proxy kind=alias|async|async.global|async.shared::cta",
    style="emit",
    operands="0",
    section="9.7.13.4",
)(_nothing)
instruction(
    "fence",
    f"[sem=sc|acq_rel|acquire|release] {SCOPE}",
    "sem=acquire|release sync_restrict=sync_restrict::shared::cta|sync_restrict::shared::cluster cluster",
    "mbarrier_init release cluster",
    style="emit",
    operands="0",
    section="9.7.13.4",
)(_nothing)


@instruction(
    "fence.proxy",
    "async [space=shared::cta|shared::cluster]",
    style="group",
    section="9.7.13.4",
    quiet=True,
)
def proxy_async(g: Lockstep, ins: Instruction, mask: Any) -> None:
    """What the generic proxy wrote to the cluster's shared memory may now be read by TMA and the tensor cores."""
    for cluster in {id(warp.cta.cluster): warp.cta.cluster for warp in g.warps}.values():
        for cta in cluster.ctas:
            cta.shared.fence_proxy()


instruction(
    "fence.proxy",
    "kind=alias|async [space=global]",
    f"tensormap::generic sem=release {SCOPE}",
    "async::generic sem=acquire|release sync_restrict=sync_restrict::shared::cta|sync_restrict::shared::cluster "
    "cluster",
    style="emit",
    operands="0",
    section="9.7.13.4",
)(_nothing)


@instruction(
    "fence.proxy",
    f"tensormap::generic sem=acquire {SCOPE}",
    style="group",
    section="9.7.13.4",
    quiet=True,
)
def acquire_map(g: Lockstep, ins: Instruction, mask: Any, address: Any, size: Any) -> None:
    """What release fences cover of the 128 bytes of a tensor map may now be read by TMA."""
    if size != MAP_BYTES:
        raise Fault(f"fence.proxy.tensormap of {size} bytes: it takes {MAP_BYTES}")
    for row, warp, word in g.executing(mask):
        places = row_of(address, row).tolist() if hasattr(address, "tolist") else [address]
        for lane in range(LANES):
            place = places[lane if len(places) > 1 else 0]
            if word >> lane & 1 and place % MAP_BYTES:
                g.row, g.lane = row, lane
                raise Fault(f"fence.proxy.tensormap at {place:#x}, which is not a multiple of {MAP_BYTES}")
            if word >> lane & 1 and g.order is not None:
                tensor_maps.acquired(g.order.warp(warp), 1 << lane, place)

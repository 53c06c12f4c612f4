"""Fences (PTX ISA 9.7.13.4, 9.7.13.5, 9.7.16.6). Memory of the emulator is sequentially consistent: they have no
effect on results."""

from __future__ import annotations

from typing import Any

from fp4emu.builder import Builder
from fp4emu.instruction import Instruction
from fp4emu.lockstep import Lockstep
from fp4emu.registry import instruction

SCOPE = "[scope=cta|cluster|gpu|sys]"


def _nothing(e: Builder, ins: Instruction) -> None:
    """Has no effect on results."""


instruction(
    "membar",
    "level=cta|gl|sys",
    "proxy kind=alias|async|async.global|async.shared::cta",
    style="emit",
    section="9.7.13.4",
)(_nothing)
instruction(
    "fence",
    f"[sem=sc|acq_rel|acquire|release] {SCOPE}",
    "sem=acquire|release sync_restrict=sync_restrict::shared::cta|sync_restrict::shared::cluster cluster",
    "mbarrier_init release cluster",
    style="emit",
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
    f"tensormap::generic sem=acquire|release {SCOPE}",
    "async::generic sem=acquire|release sync_restrict=sync_restrict::shared::cta|sync_restrict::shared::cluster "
    "cluster",
    style="emit",
    section="9.7.13.4",
)(_nothing)

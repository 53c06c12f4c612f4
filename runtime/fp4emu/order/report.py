"""What a fault of happens-before says: both accesses, the bytes, and what is missing."""

from __future__ import annotations

from fp4emu.order.agents import CP_ASYNC, Agent, Lanes
from fp4emu.order.events import WHOLE, Event


def who(agent: Agent) -> str:
    """The instruction of an agent and its thread."""
    warp = agent.warp
    if isinstance(agent, Lanes):
        lane = f" lane {agent.word.bit_length() - 1}" if agent.word & (agent.word - 1) == 0 else ""
    else:
        lane = f" lane {agent.lane}"
    return f"PTX line {agent.ins.line}, CTA {warp.cta.id} warp {warp.index}{lane}: {agent.ins.text.strip()}"


def access_text(agent: Agent, write: bool, where: str, count: int, unit: str, event: Event, lane: int, was: str) -> str:
    """Two accesses that nothing orders."""
    verb = "writes" if write else "reads"
    return (
        f"unordered accesses: this instruction {verb} {where} ({count} {unit}), which another "
        f"{was}: {event.who(lane if event.place >= 0 else WHOLE)}\n  this one: {who(agent)}"
    )


def missing(check: str, agent: Agent, event: Event) -> str:
    """The synchronisation that would order two accesses."""
    mine = agent.warp
    if check in ("proxy", "refill"):
        return "missing: fence.proxy.async after the generic access, by its thread or by one that waited for it"
    if check == "lanes":
        return "missing: bar.warp.sync between the lanes of the warp"
    if check == "mma-mma":
        return "missing: tcgen05.commit, a wait for it and tcgen05.fence::after_thread_sync before the second MMA"
    if check == "mma-cp":
        return "missing: tcgen05.commit, a wait for it and tcgen05.fence::after_thread_sync before tcgen05.cp"
    if check == "alloc":
        return "missing: tcgen05.fence::before_thread_sync, a barrier and tcgen05.fence::after_thread_sync"
    if check == "tcgen05":
        end = {
            "ld": "tcgen05.wait::ld and tcgen05.fence::before_thread_sync",
            "st": "tcgen05.wait::st and tcgen05.fence::before_thread_sync",
        }.get(event.kind, "tcgen05.commit to an mbarrier by the thread that issued it")
        return f"missing one of: {end}; an arrival and a wait; tcgen05.fence::after_thread_sync behind the wait"
    if event.kind in ("mma", "cp"):
        return "missing: tcgen05.commit by the issuing thread, and a wait for its mbarrier"
    if event.kind == "wgmma":
        return "missing: wgmma.wait_group, and then a barrier or an arrival with release semantics"
    if event.domain.index < -1:
        return "missing: griddepcontrol.wait in the launch before, which ends without"
    if event.domain.index < 0:
        return "missing: griddepcontrol.wait in front, by this thread or by one that it has waited for since"
    if event.kind == CP_ASYNC:
        return (
            "missing: cp.async.wait_group or cp.async.wait_all by the thread that copies, or its "
            "cp.async.mbarrier.arrive and a wait; then, for other threads, a barrier"
        )
    if event.asynchronous:
        return "missing: a wait for its completion (mbarrier, or cp.async.bulk.wait_group), acquired by this thread"
    if event.domain is not mine.domain:
        return "missing: a release and an acquire of .gpu scope (atom, st.release and ld.acquire, or fences)"
    if event.cta == mine.cta.id:
        return "missing: bar.sync, or an arrival with .release and a wait with .acquire, between the two"
    return "missing: barrier.cluster, or an arrival with .release.cluster and a wait with .acquire.cluster"

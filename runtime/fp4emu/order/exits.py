"""The end of a CTA: what others, and its own copies, do to its shared memory must be over before its last thread exits
(PTX ISA, "Cluster of Cooperative Thread Arrays", and 9.7.9.23, mapa). Each CTA of a dependent launch waits
for the launch before (9.7.13.13, griddepcontrol)."""

from __future__ import annotations

from dataclasses import dataclass, field

from fp4emu.machine import Cluster, Cta, WarpContext
from fp4emu.order.agents import Agent
from fp4emu.order.barriers import BarrierClock
from fp4emu.order.clocks import Clock, at
from fp4emu.order.observer import Observer, RemoteAccesses
from fp4emu.order.report import who


@dataclass(slots=True)
class _Final:
    """What the warps of a CTA that have ended knew last."""

    clock: Clock = field(default_factory=Clock)


def exited(observer: Observer, warp: WarpContext) -> None:
    """A warp has ended: what its threads knew last."""
    clock = observer.warp(warp)
    final = warp.cta.state.of(_Final)
    final.clock = final.clock.acquire(clock.publish(0xFFFF_FFFF))


def check(observer: Observer, cluster: Cluster) -> None:
    """Faults unless some thread of each ended CTA knew of every remote access to it."""
    for cta in cluster.ctas:
        _check(observer, cta)


def _check(observer: Observer, cta: Cta) -> None:
    if observer.dependent and cta.id not in cta.cluster.machine.dependency.waited:
        text = f"CTA {cta.id} exits without griddepcontrol.wait: its launch may end before the launch before it has"
        observer.fail("dependency", text, "let a thread of each CTA wait, those with nothing to do as well")
    final = cta.state.of(_Final).clock
    for place, (time, agent) in cta.state.of(RemoteAccesses).items():
        if at(final.known, place) < time:
            _fail(observer, cta, agent, "accesses its shared memory")
    for barrier in cta.shared.barriers.values():
        order: BarrierClock | None = barrier.order
        for agent, _, place, time in order.far if order is not None else ():
            if at(final.known, place) < time:
                _fail(observer, cta, agent, "arrives at its mbarrier")


def _fail(observer: Observer, cta: Cta, agent: Agent, what: str) -> None:
    text = f"nothing orders the exit of CTA {cta.id} (rank {cta.rank}) after an instruction that {what}: {who(agent)}"
    observer.fail("exit", text, "wait for it, or synchronize the cluster, before the last thread of the CTA exits")

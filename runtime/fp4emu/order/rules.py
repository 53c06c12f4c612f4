"""What each synchronising instruction does to the clocks, by section of the PTX ISA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fp4emu.instruction import Instruction
from fp4emu.lockstep import Lockstep
from fp4emu.machine import Cta, WarpContext
from fp4emu.order import launches, tensor_maps
from fp4emu.order.agents import Lanes, Operation
from fp4emu.order.barriers import BarrierClock, Carried, both
from fp4emu.order.clocks import CLUSTER, CTA, GPU, NOTHING, SCOPES, Clock, WarpClock, joined, merged
from fp4emu.order.lanes import bits
from fp4emu.order.log import strong_scope
from fp4emu.order.observer import Observer, Release
from fp4emu.order.report import who


class _Unfenced(list[BarrierClock]):
    """The mbarriers of a CTA that no `fence.mbarrier_init` has published yet."""


KEPT = 32
"""How many relaxed reads a thread may take up by one acquire fence."""

Rule = Callable[[Observer, WarpClock, int, Instruction], None]


def _fence(observer: Observer, warp: WarpClock, word: int, ins: Instruction) -> None:
    """fence and membar (9.7.13.4): relaxed waits before it acquire, relaxed arrivals after it publish.
    `fence.mbarrier_init` publishes initialisations alone."""
    if ins.has("mbarrier_init"):
        _fence_inits(observer, warp, word)
        return
    sem = ins.mod("sem") or "acq_rel"
    scope = SCOPES.index(_scope(ins))
    if sem != "release":
        warp.update(word, lambda clock: _taken_in(clock, scope))
    if sem != "acquire":
        for lane in bits(word):
            published = warp.publish(1 << lane)
            warp.update(1 << lane, lambda clock, new=published: clock.fenced(scope, new))


def _scope(ins: Instruction) -> str:
    """The scope of a fence or a membar."""
    level = {"cta": "cta", "gl": "gpu", "sys": "sys"}.get(ins.mod("level"))
    return level or ins.mod("scope") or ("cluster" if ins.has("cluster") else "gpu")


def _taken_in(clock: Clock, scope: int) -> Clock:
    """After an acquire fence: what relaxed operations before it have read, where its scope holds the other thread."""
    left: list[tuple[int, Clock]] = []
    for needed, part in clock.waiting:
        if needed <= scope:
            clock = clock.acquire(part)
        else:
            left.append((needed, part))
    return replace(clock, waiting=tuple(left))


def _fence_inits(observer: Observer, warp: WarpClock, word: int) -> None:
    mine = [b for b in warp.cta.state.of(_Unfenced) if b.owner is warp and b.lanes & word]
    if not mine:
        return
    observer.batches += 1
    batch = observer.batches
    for barrier in mine:
        barrier.batch = batch
        warp.cta.state.of(_Unfenced).remove(barrier)
    lanes = 0
    for barrier in mine:
        lanes |= barrier.lanes & word
    warp.update(lanes, lambda clock: replace(clock, inits=clock.inits | {batch}))


def _fence_proxy(observer: Observer, warp: WarpClock, word: int, ins: Instruction) -> None:
    """fence.proxy.async (9.7.13.4): all that happened before it, own accesses and acquired ones, is visible to the
    async proxy."""
    kind, space = ins.mod("kind"), ins.mod("space") or ""
    if kind == "alias":
        return
    if ins.has("tensormap::generic"):  # an acquire needs its operands: fp4emu.isa.fences
        if ins.mod("sem") == "release":
            tensor_maps.released(warp, word)
        return
    here, there = "global" not in f"{kind} {space}", "shared" not in f"{kind} {space}"
    warp.proxied(word, here=here, there=there)
    warp.update(word, lambda clock: clock.proxied(here=here, there=there))


def _tcgen_before(observer: Observer, warp: WarpClock, word: int, ins: Instruction) -> None:
    """tcgen05.fence::before_thread_sync (9.7.16.11.1): who synchronises may rely on what is over."""
    warp.thread_sync(word)
    warp.update(word, lambda clock: clock.tcgen(joined(clock.carried, clock.taken), clock.taken))


def _tcgen_after(observer: Observer, warp: WarpClock, word: int, ins: Instruction) -> None:
    """tcgen05.fence::after_thread_sync (9.7.16.11.1)."""
    warp.update(word, lambda clock: clock.tcgen(clock.carried, joined(clock.taken, clock.carried)))


def _tcgen_wait(observer: Observer, warp: WarpClock, word: int, ins: Instruction) -> None:
    """tcgen05.wait::ld and ::st (9.7.16.8.5)."""
    if ins.rule.opcode.endswith("ld"):
        warp.loaded = warp.now
    else:
        warp.stored = warp.now
    warp.now += 1


def _grid_dependency(observer: Observer, warp: WarpClock, word: int, ins: Instruction) -> None:
    """griddepcontrol (9.7.13.13): only `.wait` orders anything."""
    if ins.mod("action") == "wait":
        launches.waited(warp, word)


BEFORE: dict[str, Rule] = {
    "griddepcontrol": _grid_dependency,
    "fence": _fence,
    "membar": _fence,
    "fence.proxy": _fence_proxy,
    "membar.proxy": _fence_proxy,
    "tcgen05.fence::before_thread_sync": _tcgen_before,
    "tcgen05.fence::after_thread_sync": _tcgen_after,
    "tcgen05.wait::ld": _tcgen_wait,
    "tcgen05.wait::st": _tcgen_wait,
}
"""Rules that need nothing of what the instruction does: run in front of it."""


def before(g: Lockstep, ins: Instruction, mask: Any) -> None:
    """Called by generated code in front of an instruction of `BEFORE`."""
    observer: Observer = g.order
    rule = BEFORE[ins.rule.opcode]
    for _, warp, word in g.executing(g.live if mask is None else mask):
        rule(observer, observer.warp(warp), word, ins)


# --- warps ---


def aligned(g: Lockstep, ins: Instruction, mask: Any) -> None:
    """A `.sync` instruction, of which the ISA does not say that it orders memory: it joins lanes at `default`."""
    observer: Observer = g.order
    if not observer.strict:
        for _, warp, word in g.executing(g.live if mask is None else mask):
            warp_synced(observer, warp, word)


def warp_synced(observer: Observer, warp: WarpContext, word: int) -> None:
    """bar.warp.sync (9.7.13.2), which orders memory accesses among the lanes of its mask."""
    if word:
        observer.warp(warp).meet(word)


# --- bar and barrier.cluster ---


def arrived(observer: Observer, carried: Carried, warp: WarpContext, word: int, *, relaxed: bool = False) -> None:
    """An arrival at a barrier of the CTA (9.7.13.1) or, unless `.relaxed`, of the cluster (9.7.13.3)."""
    clock = observer.warp(warp)
    carried.arrive(observer.published(Lanes(clock, word, _ins(observer)))[0] if relaxed else clock.publish(word))


def passed(observer: Observer, carried: Carried, generation: int, warp: WarpContext, word: int) -> None:
    """The barrier's generation is over for these lanes."""
    found = carried.ended.get(generation)
    if found is not None:
        observer.warp(warp).acquire(word, found)


# --- mbarrier ---


def initialised(observer: Observer, cta: Cta, *, again: bool) -> BarrierClock:
    """mbarrier.init (9.7.13.15.9) by whoever acts; `again`, over one that lives."""
    agent = observer.acting
    assert isinstance(agent, Lanes)
    if again:
        observer.fail("phase", f"mbarrier.init of a live mbarrier: {who(agent)}", "mbarrier.inval it first")
    elif agent.word & (agent.word - 1):
        lanes = agent.word.bit_count()
        text = f"mbarrier.init of one mbarrier by {lanes} lanes, for all but the first a live one: {who(agent)}"
        observer.fail("phase", text, "let one thread initialise it: elect.sync, or a test of %tid")
    line = f"PTX line {agent.ins.line}"
    barrier = BarrierClock(observer, cta, agent.warp, agent.word, agent.warp.now, line)
    cta.state.of(_Unfenced).append(barrier)
    return barrier


def waited(observer: Observer, barrier: BarrierClock, warp: WarpContext, word: int, ins: Instruction) -> None:
    """A wait that succeeded (9.7.13.15.16)."""
    clock = observer.warp(warp)
    scope = ins.mod("scope") or "cta"
    barrier.used(Lanes(clock, word, ins))
    relaxed = ins.mod("sem") == "relaxed"
    own, remote = barrier.wait("cluster" if not observer.strict else scope, clock.waited(word))
    if not observer.strict and scope == "cta" and remote is not None:
        text = f"{who(Lanes(clock, word, ins))}: waits at CTA scope for an arrival from another CTA"
        observer.fail("scope", text, "use .acquire.cluster")
    wide = scope == "cluster" or not observer.strict
    got = both(own, remote) if wide else own
    if got is None and remote is None:
        return
    if relaxed:
        light = (both(own, remote) or Clock()).unordered_part()
        parts = [(CTA, own)] if own is not None else []
        parts += [(CLUSTER, remote)] if remote is not None and wide else []
        clock.update(word, lambda c: replace(c.acquire(light), waiting=(*c.waiting, *parts)[-KEPT:]))
        return
    clock.acquire(word, got if got is not None else Clock())
    if remote is not None and not wide:
        clock.acquire(word, remote.unordered_part())


# --- asynchronous operations ---


def completed(observer: Observer, warp: WarpContext, lane: int, operations: list[Operation]) -> None:
    """A thread has waited for operations of its own: cp.async.bulk.wait_group (9.7.9.25.6.2)."""
    if operations:
        clock = observer.warp(warp)
        over = [(op.place, op.time) for op in operations]
        clock.update(1 << lane, lambda known: clock.domain.done(known, over))


def copied(observer: Observer, warp: WarpContext, lane: int, count: int) -> None:
    """A thread has waited for its first `count` cp.async: cp.async.wait_group and wait_all (9.7.9.25.3.3)."""
    observer.warp(warp).copies_over(lane, count)


# --- atomics ---


def released(observer: Observer, warp: WarpContext, lane: int, ins: Instruction, key: tuple[int, int]) -> None:
    """A strong access writes: what it releases waits at its address for who acquires it (PTX ISA, "Release and Acquire
    Patterns")."""
    clock = observer.warp(warp)
    scope = SCOPES.index(strong_scope(ins))
    if ins.mod("sem") in ("release", "acq_rel"):
        parts = ((scope, clock.publish(1 << lane)),)
    else:
        parts = clock.of(lane).released
    old = observer.locations.get(key, ()) if ins.rule.opcode in ("atom", "red") else ()
    found = {(r.scope, id(r.cta)): r for r in old}
    for fence, part in parts:
        mine = min(fence, scope), id(warp.cta)
        before = found.get(mine)
        whole = part if before is None else before.clock.acquire(part)
        found[mine] = Release(mine[0], clock.domain, warp.cta, whole)
    if found:
        observer.locations[key] = tuple(found.values())
    else:
        observer.locations.pop(key, None)


def acquired(observer: Observer, warp: WarpContext, lane: int, ins: Instruction, key: tuple[int, int]) -> None:
    """A strong access reads what was released at its address."""
    clock = observer.warp(warp)
    scope = SCOPES.index(strong_scope(ins))
    for release in observer.locations.get(key, ()):
        near = release.domain is clock.domain
        needed = CTA if release.cta is warp.cta else CLUSTER if near else GPU
        if min(scope, release.scope) < needed:
            continue
        other = release.clock if near else _from_far(release, clock.domain.index)
        if ins.mod("sem") in ("acquire", "acq_rel"):
            clock.acquire(1 << lane, other)
        else:
            clock.update(1 << lane, lambda c, n=needed, o=other: replace(c, waiting=(*c.waiting, (n, o))[-KEPT:]))


def _from_far(release: Release, mine: int) -> Clock:
    """What a thread of another cluster acquires: of its own cluster, what the releasing thread knew."""
    clock = release.clock
    known, other = next(((k, o) for domain, k, o in clock.far if domain == mine), (NOTHING, NOTHING))
    far = tuple(entry for entry in clock.far if entry[0] != mine)
    times = (release.domain.index, clock.known, clock.other)
    return Clock(known, other=other, far=merged(far, (times,)), maps=None)


def _ins(observer: Observer) -> Instruction:
    assert observer.ins is not None
    return observer.ins

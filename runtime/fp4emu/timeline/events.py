"""What recorded events do in time: copies, mbarriers, named barriers, tcgen05."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fp4emu.timeline.servers import Meeting, Phase
from fp4emu.timeline.warps import Player, Warp

Event = tuple[Any, ...]


def load(play: Player, warp: Warp, event: Event) -> bool:
    """A bulk copy to shared memory, and its bytes' arrival at each barrier."""
    _, _, size, targets, rows = event
    done = warp.sm.load(warp.time, size, rows)
    cluster = warp.cta.cluster

    def arrived(time: float) -> None:
        for rank, barrier in targets:
            play.sms[rank].arrive(time, size)
            phase = cluster.barriers[barrier]
            phase.tx -= size
            settle(play, phase, "a copy", time)

    play.at(done, arrived)
    return True


def settle(play: Player, phase: Phase, by: str, time: float) -> None:
    """Ends a phase if nothing is missing; who waits goes on a little later."""
    reason = {"a copy": "data by TMA", "tcgen05": "the tensor core"}.get(by, "other warps")
    phase.settle(by, lambda waiting: play.wake(waiting, time + play.rates.barrier_latency, reason))


def store(play: Player, warp: Warp, event: Event) -> bool:
    """A bulk copy from shared memory."""
    sm, size = warp.sm, event[2]
    begin, issued = sm.tma.take(warp.time, play.rates.tma_issue)
    sm.span("TMA", f"store {size} bytes", begin, issued)
    _, read = sm.shared.take(issued, size / play.rates.shared_bytes_per_clock)
    read += play.rates.tma_latency / 2
    done = sm.put(read, size, size) + play.rates.l2_latency
    warp.open = (max(warp.open[0], read), max(warp.open[1], done))
    return True


def bulk_commit(play: Player, warp: Warp, event: Event) -> bool:
    warp.bulk.append(warp.open)
    warp.open = (0.0, 0.0)
    return True


def bulk_wait(play: Player, warp: Warp, event: Event) -> bool:
    _, _, read, allowed = event
    older = warp.bulk[: max(len(warp.bulk) - allowed, 0)]
    time = max((group[0 if read else 1] for group in older), default=0.0)
    if not read:
        del warp.bulk[: len(older)]
    return play.until(warp, time, "bulk stores")


def copy(play: Player, warp: Warp, event: Event) -> bool:
    """One lane's cp.async."""
    warp.copying = max(warp.copying, warp.sm.fetch(warp.time, event[2]) + play.rates.shared_latency)
    warp.sm.arrive(warp.time, event[2])
    return True


def copy_commit(play: Player, warp: Warp, event: Event) -> bool:
    if not warp.copies or warp.copies[-1] != warp.copying:
        warp.copies.append(warp.copying)
    return True


def copy_wait(play: Player, warp: Warp, event: Event) -> bool:
    older = warp.copies[: max(len(warp.copies) - event[2], 0)]
    return play.until(warp, max(older, default=0.0), "cp.async")


def copy_arrive(play: Player, warp: Warp, event: Event) -> bool:
    _, _, barrier, counted = event
    phase = warp.cta.cluster.barriers[barrier]
    phase.pending += 1 if counted else 0

    def arrived(time: float) -> None:
        phase.pending -= 1
        settle(play, phase, "a copy", time)

    play.at(max(warp.copying, warp.time), arrived)
    return True


def init(play: Player, warp: Warp, event: Event) -> bool:
    _, _, barrier, count = event
    warp.cta.cluster.barriers[barrier] = Phase(count, count)
    return True


def expect(play: Player, warp: Warp, event: Event) -> bool:
    _, _, barrier, size = event
    warp.cta.cluster.barriers[barrier].tx += size
    return True


def arrive(play: Player, warp: Warp, event: Event) -> bool:
    """An arrival takes a while to another CTA."""
    _, _, barrier, count = event
    phase = warp.cta.cluster.barriers[barrier]

    def arrived(time: float) -> None:
        phase.pending -= count
        settle(play, phase, "warps", time)

    far = barrier[0] != warp.cta.rank
    play.at(warp.time + (play.rates.cluster_latency if far else 0.0), arrived)
    return True


def wait(play: Player, warp: Warp, event: Event) -> bool:
    """A test costs the way to shared memory and back."""
    _, _, barrier, parity = event
    phase = warp.cta.cluster.barriers[barrier]
    warp.time += play.rates.shared_latency
    if phase.passed(parity):
        return True
    phase.waiting.append((warp, parity))
    return play.park(warp, "an mbarrier")


def sync(play: Player, warp: Warp, event: Event) -> bool:
    """bar.sync: the warps that it counts."""
    _, _, number, threads = event
    meeting, needed = _named(warp, number, threads)
    if meeting.arrived + 1 >= needed:
        meeting.arrived += 1
        play.opens(meeting, needed, warp.time + play.rates.sync_latency)
        return play.until(warp, warp.time + play.rates.sync_latency, "a named barrier")
    meeting.arrived += 1
    meeting.waiting.append(warp)
    return play.park(warp, "a named barrier")


def sync_arrive(play: Player, warp: Warp, event: Event) -> bool:
    _, _, number, threads = event
    meeting, needed = _named(warp, number, threads)
    meeting.arrived += 1
    play.opens(meeting, needed, warp.time + play.rates.sync_latency)
    return True


def _named(warp: Warp, number: int, threads: int) -> tuple[Meeting, int]:
    cta = warp.cta
    return cta.named.setdefault(number, Meeting()), threads // 32 if threads else cta.live


def atomic(play: Player, warp: Warp, event: Event) -> bool:
    """An atomic, by the memory that it touched; what it returns is needed at once."""
    _, space, count, _, moved = event
    if space == "shared":
        _, end = warp.sm.shared.take(warp.time, 2.0 * count)
        return play.until(warp, end + play.rates.shared_latency, "an atomic")
    warp.sm.put(warp.time, 32.0 * count, moved)
    return play.until(warp, warp.time + play.rates.l2_latency, "an atomic")


def mma(play: Player, warp: Warp, event: Event) -> bool:
    """tcgen05.mma: the tensor core's time, or that of reading A and B from shared memory (measured intervals)."""
    _, _, m, n, _, ctas = event
    if ctas == 1:
        clocks = max(n / 2, (128 + n) / 4)
    else:
        clocks = max(n / 2, 43.0) if m == 256 else max(n / 4, (64 + n / 2) / 4 + 1)
    begin, end = warp.sm.umma.take(warp.time, clocks)
    warp.sm.span("tensor core", "tcgen05.mma", begin, end)
    play.flop += 2 * m * n * event[4]
    return True


def tensor_copy(play: Player, warp: Warp, event: Event) -> bool:
    warp.sm.umma.take(warp.time, play.rates.umma_copy)
    return True


def commit(play: Player, warp: Warp, event: Event) -> bool:
    """Arrivals when the MMAs so far are over."""
    cluster, barriers = warp.cta.cluster, event[2]

    def arrived(time: float) -> None:
        for barrier in barriers:
            phase = cluster.barriers[barrier]
            phase.pending -= 1
            settle(play, phase, "tcgen05", time)

    play.at(max(warp.sm.umma.free, warp.time) + play.rates.umma_latency, arrived)
    return True


EVENTS: dict[str, Callable[[Player, Warp, Event], bool]] = {
    "load": load, "store": store, "bulk commit": bulk_commit, "bulk wait": bulk_wait, "copy": copy,
    "copy commit": copy_commit, "copy wait": copy_wait, "copy arrive": copy_arrive, "init": init, "expect": expect,
    "arrive": arrive, "wait": wait, "sync": sync, "sync arrive": sync_arrive, "mma": mma, "tmem copy": tensor_copy,
    "commit": commit, "shared": atomic, "global": atomic,
}  # fmt: skip

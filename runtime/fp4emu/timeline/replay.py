"""The replay: warps take the steps of their blocks one after the other, in the order of time.

It stands for a GPU by one cluster's SMs, which get their share of L2 and DRAM as if all others did the same. Barriers
are played anew, so that who waits for whom follows from the times and not from the order of the emulator's run; which
way a branch went, and which tile a CTA took, is as recorded.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

from fp4emu.recording import Recording
from fp4emu.timeline.events import EVENTS
from fp4emu.timeline.rates import Rates
from fp4emu.timeline.result import Span, Timeline
from fp4emu.timeline.servers import Demand, Meeting, Sm
from fp4emu.timeline.steps import Step, steps_of
from fp4emu.timeline.warps import Cluster, Cta, Warp

#: Slots of arithmetic after which other warps of a scheduler get their turn.
_TURN = 64.0


class Replay:
    """One replay; see `replay`."""

    def __init__(self, recording: Recording, rates: Rates, demand: Demand, *, keep: bool) -> None:
        self.recording, self.rates, self.demand = recording, rates, demand
        self.flow = recording.flow
        self.spans: list[Span] | None = [] if keep else None
        size = recording.cluster[0] * recording.cluster[1] * recording.cluster[2]
        self.sms = [Sm(f"SM {i}", rates, demand, self.spans) for i in range(size)]
        self.heap: list[tuple[float, int, Any]] = []
        self.number = 0
        self.stalls: dict[str, float] = {}
        self.flop = 0.0
        self.end = 0.0
        self.parked: dict[int, Warp] = {}
        self._compiled: dict[int, list[Step]] = {}
        self.clusters = _clusters(recording)
        self.left = 0
        self._next = 0

    # --- time ---

    def at(self, time: float, what: Any) -> None:
        """A warp goes on, or a function is called, at a time."""
        self.number += 1
        heapq.heappush(self.heap, (time, self.number, what))

    def run(self, units: int) -> None:
        """Plays `units` clusters, as many at once as are resident."""
        self.left = units
        for _ in range(min(units, self.demand.resident)):
            self.begin(self.rates.start)
        heap = self.heap
        while heap or self.parked:
            if not heap:  # waits that the recorded order satisfied and this one does not
                warp = next(iter(self.parked.values()))
                self.wake(warp, warp.time)
                continue
            time, _, what = heapq.heappop(heap)
            if isinstance(what, Warp):
                what.time = max(what.time, time)
                self.play(what)
            else:
                what(time)
            self.end = max(self.end, time)
        for sm in self.sms:
            self.end = max(self.end, sm.drain.free, sm.dram.free)

    def begin(self, time: float) -> None:
        """The next cluster's warps start."""
        if not self.left:
            return
        self.left -= 1
        warps = self.clusters[self._next % len(self.clusters)]
        self._next += 1
        cluster = Cluster()
        for rank, logs in enumerate(warps):
            cta = Cta(cluster, rank, len(logs), len(logs))
            cluster.ctas.append(cta)
            for index, log in enumerate(logs):
                self.at(time, Warp(log, self.sms[rank], cta, index, time, running=time))

    def play(self, warp: Warp) -> None:
        """Steps of a warp until it waits or another one is behind it."""
        heap = self.heap
        while True:
            while warp.step < len(warp.steps):
                step = warp.steps[warp.step]
                warp.step += 1
                if not self.take(warp, step):
                    return
                if heap and warp.time > heap[0][0]:
                    self.at(warp.time, warp)
                    return
            if warp.at >= len(warp.log):
                self.exit(warp)
                return
            item = warp.log[warp.at]
            warp.at += 1
            if isinstance(item, int):
                steps = self._compiled.get(item)
                if steps is None:
                    steps = self._compiled[item] = _turns(steps_of(self.flow, self.flow.blocks[item], self.rates))
                warp.steps, warp.step = steps, 0

    def exit(self, warp: Warp) -> None:
        """A warp has ended."""
        self._ran(warp)
        self.end = max(self.end, warp.time)
        cta = warp.cta
        cta.live -= 1
        cluster = cta.cluster
        self.opens(cluster.meeting, cluster.live, warp.time + self.rates.cluster_latency)
        if not cluster.live:
            self.begin(warp.time + self.rates.start / 4)

    # --- waiting ---

    def until(self, warp: Warp, time: float, reason: str) -> bool:
        """The warp goes on at a time; False if it has to wait for that."""
        if time <= warp.time:
            return True
        self._ran(warp)
        self.stall(warp, reason, warp.time, time)
        warp.time = warp.running = time
        self.at(time, warp)
        return False

    def park(self, warp: Warp, reason: str) -> bool:
        """The warp waits until somebody wakes it."""
        self._ran(warp)
        warp.reason = reason
        self.parked[id(warp)] = warp
        return False

    def wake(self, warp: Warp, time: float, reason: str = "") -> None:
        """It goes on."""
        if self.parked.pop(id(warp), None) is None:
            return
        time = max(time, warp.time)
        self.stall(warp, reason or warp.reason, warp.time, time)
        warp.time = warp.running = time
        self.at(time, warp)

    def stall(self, warp: Warp, reason: str, begin: float, end: float) -> None:
        """Clocks that a warp waited."""
        self.stalls[reason] = self.stalls.get(reason, 0.0) + end - begin
        if self.spans is not None:
            warp.sm.span(f"warp {warp.index}", f"waits: {reason}", begin, end)

    def _ran(self, warp: Warp) -> None:
        self.stalls["runs"] = self.stalls.get("runs", 0.0) + warp.time - warp.running
        if self.spans is not None:
            warp.sm.span(f"warp {warp.index}", "runs", warp.running, warp.time)
        warp.running = warp.time

    def opens(self, meeting: Meeting, needed: int, time: float) -> None:
        """Who waits goes on if all have come."""
        if meeting.arrived and meeting.arrived >= needed:
            meeting.arrived = 0
            meeting.generation += 1
            waiting, meeting.waiting = meeting.waiting, []
            for warp in waiting:
                self.wake(warp, time)

    # --- steps ---

    def take(self, warp: Warp, step: Step) -> bool:
        """One step; False if the warp waits, and will be back."""
        what = step[0]
        if what == "run":
            _, end = warp.sm.issue[warp.index & 3].take(warp.time, step[1])
            warp.time = max(end, warp.time + step[2])
            return True
        if what == "need":
            time = max((warp.ready.get(slot, 0.0) for slot in step[1]), default=0.0)
            return self.until(warp, time, "a load or mma.sync")
        return _TAKES[what](self, warp, step)

    def access(self, warp: Warp, step: Step) -> bool:
        """ld and st."""
        sm, time, done = warp.sm, warp.time, 0.0
        for _, space, count, written, moved in self.events(warp, step[1]):
            if space == "shared":
                _, end = sm.shared.take(time, count)
                done = max(done, end + self.rates.shared_latency)
                if written:
                    time = max(time, end - 64.0)
            elif written:
                time = max(time, sm.held(sm.put(time, 32.0 * count, moved)))
            else:
                done = max(done, sm.fetch(time, 32.0 * count) if count else time + self.rates.shared_latency)
        for slot in step[2]:
            warp.ready[slot] = done
        return self.until(warp, time, "stores")

    def matrix(self, warp: Warp, step: Step) -> bool:
        """ldmatrix and stmatrix."""
        _, end = warp.sm.shared.take(warp.time, step[1])
        for slot in step[2]:
            warp.ready[slot] = end + self.rates.shared_latency
        return True

    def mma_sync(self, warp: Warp, step: Step) -> bool:
        """mma.sync on the scheduler's tensor core."""
        begin, end = warp.sm.tensor[warp.index & 3].take(warp.time, step[1])
        warp.sm.span(f"tensor core {warp.index & 3}", "mma.sync", begin, end)
        self.flop += step[1] * self.rates.tensor_flop_per_clock / 4 * self.rates.mma_sync_rate
        for slot in step[2]:
            warp.ready[slot] = end + self.rates.mma_sync_latency
        return self.until(warp, begin, "the tensor core")

    def wgmma(self, warp: Warp, step: Step) -> bool:
        """A warp's quarter of a wgmma: limited by its tensor core, or by reading shared memory."""
        read = step[2] / self.rates.shared_bytes_per_clock  # by a warp; four of them read at once
        begin, end = warp.sm.tensor[warp.index & 3].take(warp.time, max(step[1], 4 * read))
        warp.sm.shared.busy += read
        warp.sm.span(f"tensor core {warp.index & 3}", "wgmma", begin, end)
        self.flop += step[3]
        warp.last = end + self.rates.wgmma_latency
        warp.time += 4.0
        return True

    def wgmma_commit(self, warp: Warp, step: Step) -> bool:
        warp.groups.append(warp.last)
        return True

    def wgmma_wait(self, warp: Warp, step: Step) -> bool:
        older = warp.groups[: len(warp.groups) - step[1]] if step[1] else warp.groups
        time = max(older, default=0.0)
        del warp.groups[: len(older)]
        return self.until(warp, time, "wgmma")

    def tensor_memory(self, warp: Warp, step: Step) -> bool:
        _, end = warp.sm.tmem.take(warp.time, step[1] / self.rates.tmem_bytes_per_clock)
        warp.tmem = end + self.rates.tmem_latency
        return True

    def tensor_memory_wait(self, warp: Warp, step: Step) -> bool:
        return self.until(warp, warp.tmem, "tensor memory")

    def fence(self, warp: Warp, step: Step) -> bool:
        return self.until(warp, warp.time + step[1], "a fence")

    def cluster_arrive(self, warp: Warp, step: Step) -> bool:
        cluster = warp.cta.cluster
        cluster.meeting.arrived += 1
        warp.generation = cluster.meeting.generation
        self.opens(cluster.meeting, cluster.live, warp.time + self.rates.cluster_latency)
        return True

    def cluster_wait(self, warp: Warp, step: Step) -> bool:
        meeting = warp.cta.cluster.meeting
        if meeting.generation > warp.generation:
            return True
        meeting.waiting.append(warp)
        return self.park(warp, "the cluster")

    def event(self, warp: Warp, step: Step) -> bool:
        """What an instruction did at run time."""
        going = True
        for found in self.events(warp, step[1]):
            going = EVENTS[found[1]](self, warp, found) and going
        for slot in step[2]:
            warp.ready.setdefault(slot, 0.0)
        return going

    def events(self, warp: Warp, at: int) -> list[Any]:
        """The record's next items that are of this instruction."""
        log, place = warp.log, warp.at
        while place < len(log) and not isinstance(log[place], int) and log[place][0] == at:
            place += 1
        found = log[warp.at : place]
        warp.at = place
        return found


def _clusters(recording: Recording) -> list[list[list[list[Any]]]]:
    """The records of warps, by cluster, CTA of it and warp."""
    shape = recording.cluster
    found: dict[Any, dict[int, dict[int, list[Any]]]] = {}
    for (cta, warp), log in recording.warps.items():
        place = tuple(c // s for c, s in zip(cta, shape, strict=True))
        x, y, z = (c % s for c, s in zip(cta, shape, strict=True))
        rank = x + shape[0] * (y + shape[1] * z)
        found.setdefault(place, {}).setdefault(rank, {})[warp] = log
    return [
        [[ctas[rank][warp] for warp in sorted(ctas[rank])] for rank in sorted(ctas)]
        for ctas in (found[place] for place in sorted(found))
    ]


def _turns(steps: Sequence[Step]) -> list[Step]:
    """Long stretches in parts."""
    found: list[Step] = []
    for step in steps:
        if step[0] == "run" and step[1] > _TURN:
            parts = int(step[1] // _TURN) + 1
            found += [("run", step[1] / parts, step[2] / parts)] * parts
        else:
            found.append(step)
    return found


def replay(
    recording: Recording, rates: Rates, demand: Demand, *, units: int | None = None, keep: bool = False
) -> Timeline:
    """Plays a recording. `units`: how many of its clusters run, one after the other on the same SMs but for those that
    are resident together (None: each recorded one once); with `keep` the timeline has spans for each track."""
    play = Replay(recording, rates, demand, keep=keep)
    play.run(len(play.clusters) if units is None else units)
    return _result(play)


def _result(play: Replay) -> Timeline:
    end = max(play.end, 1.0)
    sms = play.sms
    busy = {
        "issue": max(unit.busy for sm in sms for unit in sm.issue),
        "tensor core": max(max(max(u.busy for u in sm.tensor), sm.umma.busy) for sm in sms),
        "shared memory": max(sm.shared.busy for sm in sms),
        "TMA": max(sm.tma.busy for sm in sms),
        "L2": max(max(sm.fill.busy, sm.drain.busy) for sm in sms),
        "DRAM": max(sm.dram.busy for sm in sms),
        "tensor memory": max(sm.tmem.busy for sm in sms),
    }
    return Timeline(
        end, {name: clocks / end for name, clocks in busy.items()}, play.stalls, len(sms), play.flop,
        sum(sm.loaded for sm in sms), sum(sm.stored for sm in sms), play.spans or [],
    )  # fmt: skip


_TAKES: dict[str, Callable[[Replay, Warp, Step], bool]] = {
    "access": Replay.access,
    "matrix": Replay.matrix,
    "mma.sync": Replay.mma_sync,
    "wgmma": Replay.wgmma,
    "wgmma commit": Replay.wgmma_commit,
    "wgmma wait": Replay.wgmma_wait,
    "tensor memory": Replay.tensor_memory,
    "tensor memory wait": Replay.tensor_memory_wait,
    "fence": Replay.fence,
    "cluster arrive": Replay.cluster_arrive,
    "cluster wait": Replay.cluster_wait,
    "event": Replay.event,
}

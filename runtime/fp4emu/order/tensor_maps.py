"""The tensor-map proxy (PTX ISA 9.7.13.4, "fence.proxy.tensormap"; 8.6, "Proxies").

A copy reads its tensor map through a proxy of its own. What the generic proxy wrote to a map in global memory is seen
there if a `fence.proxy.tensormap::generic.release` (or `tensormap.cp_fenceproxy`, 9.7.13.17) comes after the write, and
a `fence.proxy.tensormap::generic.acquire` of the map's address after that and before the copy. What the host wrote to
one needs the acquire fence alone (CUDA C++ programming guide, "Tensor maps in global memory"); a parameter needs none.
"""

from __future__ import annotations

from dataclasses import replace

from fp4emu.memory import GLOBAL_BASE
from fp4emu.order.agents import Lanes
from fp4emu.order.clocks import NOTHING, Clock, Maps, Times, WarpClock, at, joined
from fp4emu.order.events import WHOLE, Event, distinct
from fp4emu.order.lanes import bits
from fp4emu.order.observer import Observer
from fp4emu.order.report import access_text, who
from fp4emu.tensormap import USED_BYTES

HINT = (
    "missing: fence.proxy.tensormap::generic.release (or tensormap.cp_fenceproxy) after the write, a barrier where the "
    "threads differ, and fence.proxy.tensormap::generic.acquire [map], 128 before the copy"
)


HOST_HINT = "missing: fence.proxy.tensormap::generic.acquire.sys [map], 128 before the copy, or the map as a parameter"


def released(warp: WarpClock, word: int, *, together: bool = False) -> None:
    """A release fence: it covers what its threads know to have happened; `together`, what any of them knows."""
    for part in [word] if together else [1 << lane for lane in bits(word)]:
        known = warp.publish(part).known
        warp.update(part, lambda clock, times=known: _released(clock, times))


def _released(clock: Clock, known: Times) -> Clock:
    maps = clock.maps or Maps()
    return replace(clock, maps=replace(maps, released=joined(maps.released, known)))


def acquired(warp: WarpClock, word: int, address: int) -> None:
    """An acquire fence of the 128 bytes at an address."""

    def change(clock: Clock) -> Clock:
        maps = clock.maps or Maps()
        return replace(clock, maps=maps.seen(address, maps.released))

    warp.update(word, change)


def read(observer: Observer, address: int, *, fixed: bool = False) -> None:
    """Whoever acts issues a copy by the tensor map at an address; `fixed`: that of a parameter, or constant."""
    agent, shadow = observer.acting, observer.global_shadow
    assert isinstance(agent, Lanes)
    assert shadow is not None
    start = address - GLOBAL_BASE
    where = shadow.at(slice(start, start + USED_BYTES))
    clock = agent.warp.of(agent.word.bit_length() - 1)
    numbers = shadow.writes(where)
    if not fixed and not numbers.any() and (clock.maps is None or address not in dict(clock.maps.acquired)):
        text = f"no acquire fence of the tensor map at {address:#x}, which the host wrote to global memory"
        observer.fail("host-map", f"{text}: {who(agent)}", HOST_HINT)
    for number in distinct(numbers):
        if not number:
            continue
        event, lane = observer.events.of(number)
        if event.domain.index >= 0 and not _visible(event, lane, agent, clock, address):
            element, count = shadow.first(where, numbers == number)
            text = access_text(agent, False, shadow.name(element), count, "bytes of a tensor map", event, lane, "wrote")
            observer.fail("tensormap", text, HINT)


def _visible(event: Event, lane: int, agent: Lanes, clock: Clock, address: int) -> bool:
    """Whether an acquire fence has made a write visible at the address of the map. Of writes of another cluster, whose
    release fence is not looked for, whether they happened before and there was an acquire fence at all."""
    acquired = dict(clock.maps.acquired) if clock.maps is not None else {}
    times = acquired.get(address)
    if times is None:
        return False
    if event.domain is not agent.warp.domain:
        times = next((known for domain, known, _ in clock.far if domain == event.domain.index), NOTHING)
    members = bits(event.mask) if lane == WHOLE else [lane]
    return all(at(times, event.place + member) >= event.time for member in members)

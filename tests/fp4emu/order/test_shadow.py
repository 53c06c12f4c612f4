"""The shadow says the same of words as of bytes, and of many warps together as of one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fp4emu import Fault
from fp4emu.order import together
from fp4emu.order.clocks import Clock, Domain, WarpClock
from fp4emu.order.lanes import FULL
from fp4emu.order.shadow import GRAIN, Shadow, Table
from fp4emu.selection import Selection, Strided, Units

SIZE = 1024


def _selection(rng: np.random.Generator, fine: bool) -> Selection:
    """Bytes of a memory of `SIZE`: whole words unless `fine`."""
    unit = int(rng.choice([1, 2, 4, 8, 16] if fine else [4, 8, 16]))
    kind = rng.integers(3)
    if kind == 0:
        start = int(rng.integers(SIZE // 2 // unit)) * unit
        return slice(start, start + unit * int(rng.integers(1, 20)))
    if kind == 1:
        rows, columns = int(rng.integers(1, 5)), unit * int(rng.integers(1, 5))
        return Strided(unit * int(rng.integers(8)), (rows, columns), (columns + unit * int(rng.integers(4)),))
    numbers = rng.permutation(SIZE // unit)[: int(rng.integers(1, 40))]
    used = unit if unit < 16 else int(rng.choice([8, 12, 16]))
    return Units(numbers, unit, used)


def _shadow(table: Table) -> Shadow:
    return Shadow("shared", table, 512, 512 + SIZE, str)


def _bytes(numbers: Any, grain: int) -> Any:
    return np.repeat(numbers, grain)


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_words_say_the_same_as_bytes(seed: int, fine: bool) -> None:
    rng = np.random.default_rng(seed)
    words, single = Table.of(2048), Table.of(2048)
    single.refine()
    for number in range(1, 40):
        where, write = _selection(rng, fine and number > 15), bool(rng.integers(2))
        found: list[Any] = []
        for table in (words, single):
            shadow = _shadow(table)
            place = shadow.at(where)
            old = shadow.reads(place).copy()
            found.append((set(old.reshape(-1).tolist()), *shadow.first(place, np.ones(old.shape, np.bool_))))
            shadow.written(place, number) if write else shadow.read(place, number)
        assert found[0] == found[1], where
        for a, b in ((words.writes, single.writes), (words.reads, single.reads)):
            np.testing.assert_array_equal(_bytes(a, words.grain), b)
    assert fine or words.grain == GRAIN


def test_elements_of_two_bytes_that_fill_words_leave_words() -> None:
    rng = np.random.default_rng(0)
    words = Units(rng.permutation(np.arange(64, 96)), 2, 2).grains(4)
    assert words is not None
    assert sorted(words.reshape(-1).tolist()) == list(range(32, 48))
    for numbers in ([1, 2], [0, 1, 1, 2], [0, 1, 2], [0, 0]):
        assert Units(np.array(numbers), 2, 2).grains(4) is None


BODY = """
mov.b32 %r1, buffer; mad.lo.u32 %r2, %T, {size}, %r1; xor.b32 %r3, %T, {flip}; mad.lo.u32 %r4, %r3, {size}, %r1;
mov.b64 %rd1, 1; cvt.u16.u32 %h1, %T;
setp.lt.u32 %p1, %T, {active};
@%p1 st.shared.{type} [%r2], {data};
{first}
@%p1 ld.shared.{type} {other}, [%r4];
{second}
@%p1 st.shared.{type} [%r2], {data};
@%p1 st.shared.{type} [{last}], {data};
"""
TYPES = {"b16": (2, "%h1", "%h2"), "b32": (4, "%T", "%r9"), "b64": (8, "%rd1", "%rd2")}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    "flip, active, first, second, last",
    [
        (37, 128, "bar.sync 0;", "bar.sync 0;", "%r2"),
        (37, 128, "", "bar.sync 0;", "%r2"),
        (37, 128, "bar.sync 0;", "", "%r2"),
        (5, 100, "bar.warp.sync 0xffffffff;", "bar.warp.sync 0xffffffff;", "%r2"),
        (5, 100, "bar.warp.sync 0xffffffff;", "", "%r2"),
        (0, 77, "", "", "%r2"),
        (0, 128, "", "", "%r1"),
        (64, 128, "bar.sync 0;", "bar.sync 0;", "%r4"),
    ],
)
def test_together_as_one_by_one(
    kind: str, flip: int, active: int, first: str, second: str, last: str, kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is found, in the same words: also between lanes of one warp, warps, and lanes of one instruction."""
    size, data, other = TYPES[kind]
    body = ".reg .b16 %h<4>;" + BODY.format(
        size=size, flip=flip, type=kind, active=active, data=data, other=other, first=first, second=second, last=last
    )
    judged: list[bool] = []
    rule = together.access

    def counted(*arguments: Any, **options: Any) -> bool:
        judged.append(rule(*arguments, **options))
        return judged[-1]

    found: list[str] = []
    for each in (counted, lambda *_, **__: False):
        monkeypatch.setattr(together, "access", each)
        try:
            kernel(body, head=".shared .align 128 .b8 buffer[2048];", block=128, order="strict")
            found.append("")
        except Fault as fault:
            found.append(str(fault))
    assert found[0] == found[1]
    assert any(judged), "nothing was judged together"


def test_lanes_that_met_share_a_clock() -> None:
    """Lanes that differ by what they acquired know the same, in one clock, once they have met."""
    domain = Domain(0, None, 64, size=192)  # type: ignore[arg-type]
    warp = WarpClock(domain, None, 0, 0)  # type: ignore[arg-type]
    place, time = domain.operation(0, Clock())
    warp.update(1 << 5, lambda clock: domain.done(clock, [(place, time)]))
    assert [mask for mask, _ in warp.groups] == [FULL & ~(1 << 5), 1 << 5]
    warp.meet(FULL)
    (mask, clock), *others = warp.groups
    assert mask == FULL and not others
    assert clock.known[place] == time
    assert (clock.known[:32] == 1).all()

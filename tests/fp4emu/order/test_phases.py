"""Phases of an mbarrier: each ends after a wait for the one before, by what synchronises and not by luck; a live
barrier is not initialised again."""

from __future__ import annotations

from typing import Any

import pytest

from fp4emu import Fault, Gpu
from fp4emu.order.checks import CHECKS, levels

HEAD = ".shared .align 8 .b64 full; .shared .align 8 .b64 empty;"
START = (
    "mov.b32 %r1, full; mov.b32 %r2, empty; setp.ne.u32 %p0, %T, 0; @%p0 bra NOINIT;\n"
    "mbarrier.init.shared.b64 [%r1], {count}; mbarrier.init.shared.b64 [%r2], 1;\nNOINIT: bar.sync 0;\n"
)
# Warp 0 produces and warp 1 consumes, three rounds; lane 0 of each.
RING = START + (
    "setp.ne.u32 %p1, %L, 0; @%p1 bra END; mov.u32 %r3, 0; setp.ne.u32 %p2, %W, 0; @%p2 bra CONSUME;\n"
    "PRODUCE: and.b32 %r4, %r3, 1; xor.b32 %r5, %r4, 1; {wait_empty}\n"
    "mbarrier.arrive.{a}.cta.shared::cta.b64 _, [%r1]; add.u32 %r3, %r3, 1; setp.lt.u32 %p4, %r3, 3; "
    "@%p4 bra PRODUCE; bra END;\n"
    "CONSUME: and.b32 %r4, %r3, 1;\n"
    "F: mbarrier.try_wait.parity.{b}.cta.shared::cta.b64 %p3, [%r1], %r4; @!%p3 bra F;\n"
    "mbarrier.arrive.{a}.cta.shared::cta.b64 _, [%r2]; add.u32 %r3, %r3, 1; setp.lt.u32 %p4, %r3, 3; "
    "@%p4 bra CONSUME;\nEND:"
)
WAIT = "E: mbarrier.try_wait.parity.{b}.cta.shared::cta.b64 %p3, [%r2], %r5; @!%p3 bra E;"


@pytest.mark.parametrize(("a", "b"), [("release", "acquire"), ("relaxed", "relaxed")])
def test_a_ring_of_phases(a: str, b: str, kernel: Any) -> None:
    """The phases of both barriers follow each other, whatever else their waits and arrivals order."""
    body = RING.format(count=1, a=a, b=b, wait_empty=WAIT.format(b=b))
    for options in ({}, {"mode": "delayed", "seed": 3}, {"lockstep": "warp"}):
        kernel(body, head=HEAD, block=64, order="strict", out=4, **options)


def test_a_producer_that_does_not_wait(kernel: Any) -> None:
    """Found in every order in which its warps may run, also where each wait still comes in time."""
    body = RING.format(count=1, a="release", b="acquire", wait_empty="bar.warp.sync 1;")
    pause = "mov.u32 %r9, 0;\nSLOW: add.u32 %r9, %r9, 1; setp.lt.u32 %p5, %r9, 400; @%p5 bra SLOW;"
    late = RING.format(count=1, a="release", b="acquire", wait_empty=pause)
    for text, options in ((body, {}), (late, {}), (late, {"lockstep": "warp"}), (late, {"mode": "delayed", "seed": 1})):
        with pytest.raises(Fault, match=r"\[phase\]"):
            kernel(text, head=HEAD, block=64, order="strict", out=4, **options)


ARRIVE = "mbarrier.arrive.shared.b64 _, [%r1];"
WAITS = "W{0}: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r1], {1}; @!%p3 bra W{0};"


def _twice(second_waits: str) -> str:
    """Two threads arrive in two phases; the second may not wait for the first phase."""
    return START.format(count=2) + (
        f"setp.ne.u32 %p1, %L, 0; @%p1 bra END; setp.ne.u32 %p2, %W, 0; @%p2 bra OTHER;\n{ARRIVE}\n"
        + WAITS.format(0, 0) + f"\n{ARRIVE}\n" + WAITS.format(1, 1) + f"\nbra END;\nOTHER: {ARRIVE}\n{second_waits}\n"
        f"{ARRIVE}\n" + WAITS.format(3, 1) + "\nEND:"
    )  # fmt: skip


def test_an_arrival_that_may_come_a_phase_early(kernel: Any) -> None:
    kernel(_twice(WAITS.format(2, 0)), head=HEAD, block=64, order="strict", out=4)
    with pytest.raises(Fault, match=r"(\[phase\]|exceeds the pending count)"):
        kernel(_twice(""), head=HEAD, block=64, order="strict", out=4)
    late = "mov.u32 %r9, 0;\nSLOW: add.u32 %r9, %r9, 1; setp.lt.u32 %p5, %r9, 400; @%p5 bra SLOW;"
    with pytest.raises(Fault, match=r"\[phase\].*not ordered after the end of the phase before"):
        kernel(_twice(late), head=HEAD, block=64, order="strict", out=4)


def test_a_live_barrier_is_not_initialised_again(kernel: Any) -> None:
    again = START.format(count=1) + "bar.sync 0; @%p0 bra END; {}mbarrier.init.shared.b64 [%r1], 1;\nEND:"
    kernel(again.format("mbarrier.inval.shared.b64 [%r1]; "), head=HEAD, order="strict")
    with pytest.raises(Fault, match=r"\[phase\] mbarrier.init of a live mbarrier"):
        kernel(again.format(""), head=HEAD, order="strict")


def test_one_lane_initialises_a_barrier(kernel: Any) -> None:
    """A warp that does so together initialises a live one."""
    one = "mov.b32 %r1, full; elect.sync _|%p0, -1; {} mbarrier.init.shared.b64 [%r1], 1;"
    kernel(one.format("@%p0"), head=HEAD, order="strict")
    with pytest.raises(Fault, match=r"\[phase\] mbarrier.init of one mbarrier by 32 lanes"):
        kernel(one.format(""), head=HEAD, order="strict")
    kernel(one.format(""), head=HEAD, order="default")


@pytest.mark.parametrize("fence", ["", "fence.mbarrier_init.release.cluster;"])
def test_other_lanes_use_a_barrier_after_its_initialisation(fence: str, kernel: Any) -> None:
    """The fence is for other CTAs and the async proxy: lanes of the warp need bar.warp.sync."""
    body = "mov.b32 %r1, full; @%p0 mbarrier.init.shared.b64 [%r1], 32; {} {}\n" + ARRIVE + WAITS.format(0, 0)
    body = "setp.eq.u32 %p0, %T, 0;" + body
    kernel(body.format(fence, "bar.warp.sync -1;"), head=HEAD, order="strict")
    with pytest.raises(Fault, match=r"\[lanes\].*nothing orders it after the mbarrier.init"):
        kernel(body.format(fence, ""), head=HEAD, order="strict")
    kernel(body.format(fence, ""), head=HEAD, order="default")


def test_levels_by_name() -> None:
    assert levels("strict")["phase"] == "fault"
    assert levels("default")["phase"] == "warn"
    for order in ("strict", "default"):
        for name in CHECKS:
            assert levels(order, {name: "off"}) == {**levels(order), name: "off"}
    with pytest.raises(Fault, match="unknown check 'phases'"):
        levels("strict", {"phases": "off"})
    with pytest.raises(Fault, match="unknown level 'error'"):
        levels("strict", {"phase": "error"})  # type: ignore[dict-item]


def test_a_launch_takes_levels() -> None:
    text = (
        ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 x) {\n.reg .b64 %d; "
        ".reg .b32 %r;\nld.param.u64 %d, [x]; mov.u32 %r, %ctaid.x; st.global.b32 [%d], %r;\nret;\n}"
    )
    gpu = Gpu("sm_90a")
    module, place = gpu.load(text), gpu.alloc(4)
    params = [place.to_bytes(8, "little")]
    with pytest.raises(Fault, match=r"\[race\]"):
        gpu.launch(module, "k", (2,), (1,), params=params, order="default")
    gpu.launch(module, "k", (2,), (1,), params=params, order="strict", checks={"race": "warn"})
    assert len(gpu.warnings) == 1
    gpu.launch(module, "k", (2,), (1,), params=params, order="strict", checks={"race": "off"})
    assert not gpu.warnings

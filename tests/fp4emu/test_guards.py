"""Guards and operands that are uniform within a warp while the warps of a grid run in lockstep (`fp4emu.shapes`)."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("lockstep", ["grid", "cta", "warp"])
@pytest.mark.parametrize(
    ("guard", "count"),
    [("setp.lt.u32 %p1, %C, 9;", 128), ("setp.eq.u32 %p1, %W, 2;", 32), ("elect.sync _|%p1, -1;", 4)],
)
def test_a_guard_that_is_uniform_in_a_warp_stands_for_its_lanes(
    guard: str, count: int, lockstep: str, kernel: Any
) -> None:
    body = (
        "setp.eq.u32 %p0, %T, 0; @%p0 st.shared.b32 [slot], 0; bar.sync 0; "
        f"{guard} @%p1 red.shared.add.u32 [slot], 1; bar.sync 0; ld.shared.b32 %r0, [slot]; "
        "mad.wide.u32 %rd0, %C, 4, %out; st.global.b32 [%rd0], %r0;"
    )
    got = kernel(body, out=8, grid=(2,), block=128, head=".shared .align 4 .b8 slot[4];", lockstep=lockstep)
    assert list(memoryview(got).cast("I")) == [count, count]


@pytest.mark.parametrize("lockstep", ["grid", "cta", "warp"])
def test_an_elected_lane_stores_what_its_cta_holds(lockstep: str, kernel: Any) -> None:
    body = (
        "elect.sync _|%p0, -1; @%p0 st.shared.u32 [slot], %C; bar.sync 0; @%p0 ld.shared.b32 %r0, [slot]; "
        "mad.wide.u32 %rd0, %C, 4, %out; @%p0 st.global.b32 [%rd0], %r0;"
    )
    got = kernel(body, out=16, grid=(4,), head=".shared .align 4 .b8 slot[4];", lockstep=lockstep)
    assert list(memoryview(got).cast("I")) == [0, 1, 2, 3]


def test_a_lane_of_a_ballot_is_read_by_a_shuffle(kernel: Any) -> None:
    """The ballot is the same in all lanes: any of them may be asked for it."""
    body = "setp.gt.u32 %p0, %L, 15; vote.sync.ballot.b32 %r1, %p0, -1; shfl.sync.idx.b32 %r0, %r1, 5, 31, -1;"
    assert kernel(body + "st.global.b32 [%out], %r0;") == (0xFFFF0000).to_bytes(4, "little")


@pytest.mark.parametrize("code", ["@%p0 add.f32 %f1, %f0, %f0;", "selp.f32 %f1, %f2, %f1, %p0;"])
def test_lanes_that_do_not_execute_keep_the_bits_of_a_nan(code: str, kernel: Any) -> None:
    """Arithmetic gives the canonical NaN; what it does not touch keeps its payload."""
    body = (
        "mov.b32 %r1, 0x7FA00001; add.u32 %r1, %r1, %L; mov.b32 %f1, %r1; mov.f32 %f0, 0f3F800000; "
        "add.f32 %f3, %f1, %f0; "
        f"add.f32 %f2, %f0, %f0; setp.lt.u32 %p0, %L, 2; {code} "
        "mad.wide.u32 %rd0, %L, 4, %out; st.global.f32 [%rd0], %f1;"
    )
    want = [0x40000000] * 2 + [0x7FA00001 + lane for lane in range(2, 32)]
    assert list(memoryview(kernel(body, out=128)).cast("I")) == want


def test_numbers_as_immediates(kernel: Any) -> None:
    """A float literal of an f32 instruction is an f32, a negative one of an unsigned instruction wraps."""
    body = "red.global.add.f32 [%out], 1.0; redux.sync.add.s32 %r0, -5, -1; st.global.b32 [%out+4], %r0;"
    assert kernel(body, out=8) == bytes.fromhex("00000042") + (-160 & 0xFFFF_FFFF).to_bytes(4, "little")

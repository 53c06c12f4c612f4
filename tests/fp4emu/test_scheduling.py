"""Lanes, warps and CTAs that wait for each other by polling memory: all get their turn, and those that spin for nothing
are reported with the address."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fp4emu import Deadlock, Fault

WAYS = [{}, {"lockstep": "warp"}, {"mode": "delayed", "seed": 5}]
ACQUIRE = "LOOP: atom.global.cas.b32 %r1, [%out], 0, 1; setp.ne.u32 %p1, %r1, 0; @%p1 bra LOOP;\n"
COUNT = "ld.volatile.global.u32 %r2, [%out+4]; add.u32 %r2, %r2, 1; st.volatile.global.u32 [%out+4], %r2;"
RELEASE = "atom.global.exch.b32 %r3, [%out], 0;"


def words(data: bytes) -> list[int]:
    return np.frombuffer(data, np.uint32).tolist()


@pytest.mark.parametrize("way", WAYS)
def test_a_lock_that_each_lane_takes(way: dict[str, Any], kernel: Any) -> None:
    """The lane that has the lock is ahead of those that spin."""
    assert words(kernel(ACQUIRE + COUNT + RELEASE, out=8, grid=(2,), **way)) == [0, 64]


@pytest.mark.parametrize("way", WAYS)
def test_a_decoupled_look_back(way: dict[str, Any], kernel: Any) -> None:
    """Each CTA adds to the sum that the CTA before it has published; one lane of it polls."""
    body = (
        "setp.ne.u32 %p0, %T, 0; @%p0 bra DONE; mov.u32 %r5, 0; setp.eq.u32 %p2, %C, 0; @%p2 bra PUBLISH; "
        "add.u32 %r6, %C, -1; mad.wide.u32 %rd1, %r6, 8, %out;\nPOLL: ld.acquire.gpu.global.u32 %r7, [%rd1]; "
        "setp.eq.u32 %p3, %r7, 0; @%p3 bra POLL; ld.global.u32 %r5, [%rd1+4];\nPUBLISH: add.u32 %r5, %r5, %C; "
        "mad.wide.u32 %rd2, %C, 8, %out; st.global.u32 [%rd2+4], %r5; st.release.gpu.global.u32 [%rd2], 1;\n"
        "DONE: bar.sync 0;"
    )
    got = words(kernel(body, out=8 * 24, grid=(24,), block=64, **way))
    assert got[1::2] == np.cumsum(range(24)).tolist()


@pytest.mark.parametrize("way", WAYS)
def test_a_barrier_of_all_ctas_in_global_memory(way: dict[str, Any], kernel: Any) -> None:
    body = (
        "setp.ne.u32 %p0, %T, 0; @%p0 bra MEET; atom.global.add.u32 %r1, [%out], 1;\n"
        "POLL: ld.volatile.global.u32 %r2, [%out]; setp.lt.u32 %p1, %r2, 12; @%p1 bra POLL;\nMEET: bar.sync 0; "
        "ld.volatile.global.u32 %r3, [%out]; mad.wide.u32 %rd1, %C, 4, %out; st.global.u32 [%rd1+4], %r3;"
    )
    assert words(kernel(body, out=4 * 13, grid=(12,), block=64, **way)) == [12] * 13


@pytest.mark.parametrize("way", WAYS)
def test_lanes_that_leave_a_lock_meet_before_a_vote(way: dict[str, Any], kernel: Any) -> None:
    """A lane that is ahead waits before an instruction that names the others in its membermask."""
    body = ACQUIRE + COUNT + RELEASE + "vote.sync.ballot.b32 %r4, 1, -1; st.global.u32 [%out+8], %r4;"
    assert words(kernel(body, out=12, **way)) == [0, 32, 0xFFFF_FFFF]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("body", "address"),
    [
        (ACQUIRE + COUNT, r"global 0x[0-9a-f]+, byte 0 of the allocation of 8 bytes"),
        (
            "st.shared.b32 [flag], 0; bar.sync 0;\nPOLL: ld.volatile.shared.b32 %r1, [flag]; setp.eq.u32 %p1, %r1, 0; "
            "@%p1 bra POLL;",
            r"shared 0x[0-9a-f]+ \(flag\+0, CTA rank 0\)",
        ),
        ("FOR: bra EVER;\nEVER: bra FOR;", "without reading memory"),
    ],
)
def test_a_report_names_what_is_polled(body: str, address: str, way: dict[str, Any], kernel: Any) -> None:
    with pytest.raises(Deadlock, match=f"spins (on )?{address}"):
        kernel(body, out=8, grid=(3,), block=64, head=".shared .align 4 .b8 flag[4];", **way)


def test_a_loop_that_counts_is_no_deadlock(kernel: Any) -> None:
    """Its registers change, however often it reads the same."""
    body = (
        "mov.u32 %r1, 0;\nLOOP: ld.volatile.global.u32 %r2, [%out]; add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, 6000; "
        "@%p1 bra LOOP; st.global.u32 [%out], %r1;"
    )
    assert words(kernel(body, grid=(2,), block=64)) == [6000]


def test_lanes_that_never_meet(kernel: Any) -> None:
    """Both arms of a branch wait for all lanes, at different instructions."""
    body = "setp.lt.u32 %p0, %T, 7; @%p0 bra LOW; vote.sync.any.pred %p1, 1, -1; bra.uni END;\nLOW: "
    with pytest.raises(Fault, match="membermask names lanes that do not execute"):
        kernel(body + "vote.sync.all.pred %p1, 1, -1;\nEND:")

"""Barriers of CTAs, clusters and warps, mbarriers, and what a deadlock report says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fp4emu import Deadlock, Fault

STORE = "mad.wide.u32 %rd31, %T, 4, %out; st.global.b32 [%rd31], %r0;"
BAR = ".shared .align 8 .b8 bar[16]; .shared .align 16 .b8 buffer[1024];"
INIT = (
    "mov.b32 %r1, bar; setp.ne.u32 %p0, %T, 0; @%p0 bra READY; mbarrier.init.shared.b64 [%r1], {};\n"
    "READY: fence.mbarrier_init.release.cluster; bar.sync 0;\n"
)
RUNS = [("immediate", 0, "grid"), ("immediate", 0, "warp"), ("delayed", 1, "warp"), ("delayed", 2, "cta")]


def words(data: bytes) -> list[int]:
    return np.frombuffer(data, np.uint32).tolist()


@pytest.mark.parametrize(("mode", "seed", "lockstep"), RUNS)
def test_named_barriers_order_two_pairs_of_warps(mode: str, seed: int, lockstep: str, kernel: Any) -> None:
    """Warps 0 and 1 produce for warps 2 and 3 through barriers 1 and 2 with arrive and sync, for several rounds."""
    body = (
        "mov.b32 %r1, buffer; and.b32 %r2, %W, 1; add.u32 %r3, %r2, 1; mad.lo.u32 %r4, %r2, 128, %r1; "
        "mad.lo.u32 %r4, %L, 4, %r4; add.u32 %r5, %r3, 4; "
        "mov.b32 %r6, 0; mov.b32 %r0, 0; setp.ge.u32 %p0, %W, 2; @%p0 bra CONSUMER;\n"
        "PRODUCER: setp.eq.u32 %p1, %r6, 0; @%p1 bra FIRST; "
        "bar.sync %r5, 64;\nFIRST: mad.lo.u32 %r7, %r6, 1000, %T; st.shared.b32 [%r4], %r7; "
        "bar.arrive %r3, 64; add.u32 %r6, %r6, 1; setp.lt.u32 %p2, %r6, 4; @%p2 bra PRODUCER; bra DONE;\n"
        "CONSUMER: bar.sync %r3, 64; ld.shared.b32 %r8, [%r4]; add.u32 %r0, %r0, %r8; add.u32 %r6, %r6, 1; "
        "setp.ge.u32 %p3, %r6, 4; @%p3 bra DONE; "
        "bar.arrive %r5, 64; bra CONSUMER;\nDONE:" + STORE
    )
    got = words(kernel(body, out=512, block=128, head=BAR, mode=mode, seed=seed, lockstep=lockstep))
    assert got == [0] * 64 + [6000 + 4 * t for t in range(64)]


@pytest.mark.parametrize("lockstep", ["grid", "warp"])
def test_barrier_reductions(lockstep: str, kernel: Any) -> None:
    body = (
        "setp.lt.u32 %p0, %T, 70; bar.red.popc.u32 %r1, 0, %p0; bar.red.and.pred %p1, 0, %p0; "
        "bar.red.or.pred %p2, 0, 96, %p0; selp.b32 %r2, 1000, 0, %p1; "
        "selp.b32 %r3, 2000, 0, %p2; add.u32 %r0, %r1, %r2; add.u32 %r0, %r0, %r3;" + STORE
    )
    assert words(kernel(body, out=384, block=96, lockstep=lockstep)) == [2070] * 96


def test_a_barrier_opens_for_warps_that_stay(kernel: Any) -> None:
    body = "setp.ge.u32 %p0, %T, 64; @%p0 bra OUT; bar.sync 0; mov.b32 %r0, 5;" + STORE + "OUT:"
    assert words(kernel(body, out=384, block=96)) == [5] * 64 + [0] * 32


@pytest.mark.parametrize(("mode", "seed", "lockstep"), RUNS)
def test_cluster_barrier(mode: str, seed: int, lockstep: str, kernel: Any) -> None:
    """Each CTA writes into its neighbor, for three rounds."""
    body = (
        "mov.b32 %r1, buffer; mov.u32 %r2, %cluster_ctarank; add.u32 %r3, %r2, 1; and.b32 %r3, %r3, 3; "
        "mapa.shared::cluster.u32 %r4, %r1, %r3; mov.b32 %r5, 0; "
        "mov.b32 %r0, 0;\nLOOP: mad.lo.u32 %r6, %r5, 10, %r2; setp.ne.u32 %p0, %T, 0; @%p0 bra SKIP; "
        "st.shared::cluster.b32 [%r4], %r6;\n"
        "SKIP: barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned; "
        "ld.shared.b32 %r7, [%r1]; add.u32 %r0, %r0, %r7; "
        "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned; add.u32 %r5, %r5, 1; "
        "setp.lt.u32 %p1, %r5, 3; @%p1 bra LOOP; "
        "mad.lo.u32 %r8, %C, 64, %T; mad.wide.u32 %rd0, %r8, 4, %out; st.global.b32 [%rd0], %r0;"
    )
    got = kernel(
        body, out=8 * 64 * 4, grid=(8,), cluster=(4,), block=64, head=BAR, mode=mode, seed=seed, lockstep=lockstep
    )
    assert words(got) == [3 * ((c - 1) % 4) + 30 for c in range(8) for _ in range(64)]


@pytest.mark.parametrize(("mode", "seed", "lockstep"), RUNS)
def test_mbarrier_ring(mode: str, seed: int, lockstep: str, kernel: Any) -> None:
    """One warp fills, another drains, with a full and an empty barrier and phases that flip."""
    head = ".shared .align 8 .b8 full[8]; .shared .align 8 .b8 empty[8]; .shared .align 4 .b8 slot[128];"
    body = (
        "mov.b32 %r1, full; mov.b32 %r2, empty; mov.b32 %r3, slot; mad.lo.u32 %r3, %L, 4, %r3; "
        "setp.ne.u32 %p0, %T, 0; @%p0 bra READY; "
        "mbarrier.init.shared.b64 [%r1], 32; mbarrier.init.shared.b64 [%r2], 1;\nREADY: bar.sync 0; "
        "mov.b32 %r4, 0; mov.b32 %r0, 0; "
        "setp.eq.u32 %p1, %W, 1; @%p1 bra DRAIN;\n"
        "FILL: and.b32 %r5, %r4, 1; "
        "xor.b32 %r5, %r5, 1;\nW1: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2], %r5; @!%p2 bra W1; "
        "mad.lo.u32 %r6, %r4, 100, %L; st.shared.b32 [%r3], %r6; mbarrier.arrive.shared.b64 _, [%r1]; "
        "add.u32 %r4, %r4, 1; setp.lt.u32 %p3, %r4, 5; "
        "@%p3 bra FILL; bra DONE;\n"
        "DRAIN: and.b32 %r5, %r4, 1;\nW2: mbarrier.test_wait.parity.shared::cta.b64 %p2, [%r1], %r5; @!%p2 bra W2; "
        "ld.shared.b32 %r7, [%r3]; "
        "add.u32 %r0, %r0, %r7; elect.sync _|%p4, -1; @!%p4 bra N; "
        "mbarrier.arrive.shared.b64 _, [%r2];\nN: add.u32 %r4, %r4, 1; "
        "setp.lt.u32 %p3, %r4, 5; @%p3 bra DRAIN;\nDONE:" + STORE
    )
    got = words(kernel(body, out=256, block=64, head=head, mode=mode, seed=seed, lockstep=lockstep))
    assert got == [0] * 32 + [1000 + 5 * lane for lane in range(32)]


def test_states_counts_and_drops(kernel: Any) -> None:
    body = INIT.format(3) + (
        "@%p0 bra OUT; mbarrier.arrive.shared.b64 %rd0, [%r1]; mbarrier.test_wait.shared.b64 %p1, [%r1], %rd0; "
        "mbarrier.arrive.shared.b64 %rd1, [%r1], 2; "
        "mbarrier.test_wait.shared.b64 %p2, [%r1], %rd0; mbarrier.arrive_drop.shared.b64 %rd2, [%r1]; "
        "mbarrier.arrive.shared.b64 %rd3, [%r1], 2; "
        "mbarrier.test_wait.shared.b64 %p3, [%r1], %rd2; mbarrier.arrive.shared.b64 %rd4, [%r1], 2; "
        "mbarrier.test_wait.shared.b64 %p4, [%r1], %rd4; "
        "selp.b32 %r2, 1, 0, %p1; selp.b32 %r3, 2, 0, %p2; selp.b32 %r4, 4, 0, %p3; selp.b32 %r5, 8, 0, %p4; "
        "or.b32 %r0, %r2, %r3; or.b32 %r0, %r0, %r4; "
        "or.b32 %r0, %r0, %r5; mbarrier.inval.shared.b64 [%r1]; st.shared.b64 [%r1], %rd0;" + STORE + "OUT:"
    )
    assert words(kernel(body, block=1, head=BAR)) == [14]


@pytest.mark.parametrize("lockstep", ["grid", "warp"])
def test_the_pending_count_of_a_state(lockstep: str, kernel: Any) -> None:
    """It is the count before the arrival; the lanes of a warp arrive one after the other (PTX ISA 9.7.13.15.18)."""
    body = INIT.format(100) + (
        "setp.lt.u32 %p1, %T, 5; mov.b64 %rd0, 0; @%p1 mbarrier.arrive.noComplete.shared.b64 %rd0, [%r1], 3; "
        "mbarrier.pending_count.b64 %r0, %rd0; mad.lo.u32 %r8, %C, 32, %T; mad.wide.u32 %rd1, %r8, 4, %out; "
        "st.global.b32 [%rd1], %r0;"
    )
    got = words(kernel(body, out=256, grid=(2,), head=BAR, lockstep=lockstep))
    assert got == ([100, 97, 94, 91, 88] + [0] * 27) * 2


def test_an_arrival_that_must_not_complete_the_phase(kernel: Any) -> None:
    with pytest.raises(Fault, match="with .noComplete completes the phase: 2 were pending"):
        kernel(INIT.format(2) + "@!%p0 mbarrier.arrive_drop.noComplete.shared.b64 %rd0, [%r1], 2;", head=BAR)


@pytest.mark.parametrize("mode", ["immediate", "delayed"])
def test_transactions(mode: str, kernel: Any) -> None:
    """expect_tx and a remote arrival: each CTA of a pair sends its peer a value with st.async."""
    body = INIT.format(1) + (
        "@%p0 bra WAIT; mbarrier.arrive.expect_tx.shared.b64 _, [%r1], 16;\nWAIT: barrier.cluster.arrive; "
        "barrier.cluster.wait; @%p0 bra SPIN; mov.u32 %r2, %cluster_ctarank; "
        "xor.b32 %r3, %r2, 1; mov.b32 %r4, buffer; mapa.shared::cluster.u32 %r5, %r4, %r3; "
        "mapa.shared::cluster.u32 %r6, %r1, %r3; add.u32 %r7, %r2, 40; "
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%r5], {%r7, %r7, %r7, %r7}, [%r6];\n"
        "SPIN: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p1, [%r1], 0; @!%p1 bra SPIN; "
        "mov.b32 %r4, buffer; ld.shared.b32 %r0, [%r4+12]; "
        "mad.lo.u32 %r8, %C, 64, %T; mad.wide.u32 %rd0, %r8, 4, %out; st.global.b32 [%rd0], %r0;"
    )
    got = kernel(body, out=512, grid=(2,), cluster=(2,), block=64, head=BAR, mode=mode, seed=4)
    assert words(got) == [41] * 64 + [40] * 64


@pytest.mark.parametrize("mode", ["immediate", "delayed"])
def test_peeking_at_a_barrier_that_is_not_ready(mode: str, kernel: Any) -> None:
    """A failed try_wait may also be acted on: the warp does the work that lets the phase complete."""
    body = INIT.format(64) + (
        "mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 0; selp.b32 %r0, 1, 2, %p1; "
        "mbarrier.arrive.shared.b64 _, [%r1];\n"
        "SPIN: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 0; @!%p1 bra SPIN;" + STORE
    )
    assert words(kernel(body, out=256, block=64, head=BAR, mode=mode)) == [2] * 64


@pytest.mark.parametrize("mode", ["immediate", "delayed"])
def test_cp_async(mode: str, kernel: Any) -> None:
    data = np.arange(128, dtype=np.uint32)
    body = (
        "mov.b32 %r1, buffer; mad.lo.u32 %r2, %T, 16, %r1; mad.wide.u32 %rd0, %T, 16, %in0; "
        "cp.async.cg.shared.global [%r2], [%rd0], 16; cp.async.commit_group; "
        "cp.async.ca.shared.global [%r2+512], [%rd0], 8, 4; cp.async.commit_group; cp.async.wait_group 1; "
        "bar.warp.sync -1; ld.shared.b32 %r3, [%r2+4]; "
        "cp.async.wait_all; ld.shared.v2.b32 {%r4, %r5}, [%r2+512]; mad.lo.u32 %r0, %r4, 1000, %r3; "
        "add.u32 %r0, %r0, %r5;" + STORE
    )
    got = words(kernel(body, out=128, head=BAR, inputs=(data.tobytes(),), mode=mode, seed=3))
    assert got == [4 * t * 1000 + 4 * t + 1 for t in range(32)]


def test_delayed_mode_finds_a_missing_wait(kernel: Any) -> None:
    """Immediate completion hides it; some seeds of the delayed mode do not."""
    body = (
        "mov.b32 %r1, buffer; mad.lo.u32 %r2, %T, 16, %r1; mad.wide.u32 %rd0, %T, 16, %in0; "
        "st.shared.b32 [%r2], 5; cp.async.cg.shared.global [%r2], [%rd0], 16; "
        "cp.async.commit_group; ld.shared.b32 %r0, [%r2];" + STORE
    )
    data = np.full(128, 9, np.uint32).tobytes()
    assert words(kernel(body, out=128, head=BAR, inputs=(data,))) == [9] * 32
    assert words(kernel(body, out=128, head=BAR, inputs=(data,), mode="delayed")) != [9] * 32


def test_cluster_launch_control(kernel: Any) -> None:
    """Persistent CTAs take over the clusters that were not launched: every CTA's place is written once."""
    body = (
        INIT.format(1) + "mov.u32 %r10, %ctaid.x; mov.b32 %r11, 0; mov.b32 %r12, buffer;\n"
        "LOOP: @%p0 bra WAIT; mul.wide.u32 %rd0, %r10, 4; add.u64 %rd0, %rd0, %out; add.u32 %r2, %r10, 1; "
        "st.global.b32 [%rd0], %r2; "
        "mbarrier.arrive.expect_tx.shared.b64 _, [%r1], 16; "
        "clusterlaunchcontrol.try_cancel.async.shared::cta.mbarrier::complete_tx::bytes.b128 [%r12], [%r1];\n"
        "WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], %r11; @!%p1 bra WAIT; xor.b32 %r11, %r11, 1; "
        ".reg .b128 %q; ld.shared.b128 %q, [%r12]; "
        "clusterlaunchcontrol.query_cancel.is_canceled.pred.b128 %p2, %q; "
        "clusterlaunchcontrol.query_cancel.get_first_ctaid.v4.b32.b128 {%r10, _, _, _}, %q; "
        "bar.sync 0; @%p2 bra LOOP;"
    )
    got = kernel(body, out=4 * 500, grid=(500,), block=64, head=BAR)
    assert words(got) == list(range(1, 501))


# --- what is wrong ---


def test_deadlock_names_each_wait(kernel: Any) -> None:
    body = INIT.format(3) + (
        "setp.eq.u32 %p1, %W, 1; @%p1 bra OTHER; @%p0 bra SPIN; mbarrier.arrive.shared.b64 _, [%r1];\n"
        "SPIN: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r1], 0; @!%p2 bra SPIN; "
        "bra DONE;\nOTHER: bar.sync 3, 64;\nDONE:"
    )
    with pytest.raises(Deadlock) as caught:
        kernel(body, block=64, head=BAR)
    report = str(caught.value)
    assert (
        "warp 0: mbarrier 0x400 (bar+0, CTA rank 0): waits for parity 0; "
        "it is in phase 0 (parity 0), pending 2 of 3, tx 0" in report
    )
    assert "warp 1: named barrier 3: 32 of 64 threads have arrived" in report
    assert len(caught.value.waits) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("mov.b32 %r1, bar; mbarrier.arrive.shared.b64 _, [%r1];", "no mbarrier was initialised"),
        ("mov.b32 %r1, bar; mbarrier.init.shared.b64 [%r1+4], 1;", "multiple of 8"),
        ("mov.b32 %r1, bar; mbarrier.init.shared.b64 [%r1], 0;", "outside of"),
        (
            "mov.b32 %r1, bar; mbarrier.init.shared.b64 [%r1], 2; mbarrier.arrive.shared.b64 _, [%r1], 3;",
            "exceeds the pending",
        ),
        ("mov.b32 %r1, 16; bar.sync %r1;", "barrier 16 is outside"),
        ("mov.b32 %r1, 33; bar.sync 1, %r1;", "not a positive multiple"),
        ("barrier.cluster.wait;", "without barrier.cluster.arrive"),
    ],
)
def test_misuse(body: str, message: str, kernel: Any) -> None:
    with pytest.raises(Fault, match=message):
        kernel(body, head=BAR, block=1)

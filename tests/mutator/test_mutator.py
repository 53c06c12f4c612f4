"""Broken kernels are found: a sample with the quick tests, all of them by `python -m tests.mutator`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fp4emu import Deadlock, Fault, Gpu
from fp4emu.isa import load_families
from fp4emu.ptx import parse

from .kernels import SUBJECTS
from .mutations import Mutation, mutations
from .run import every, judged, sampled
from .survivors import EQUIVALENT, reason

# A ring of two stages: lane 0 of warp 0 copies, warp 1 adds up, both an mbarrier for each way.
RING = """.version 8.6
.target sm_90a
.address_size 64
.visible .entry ring(.param .u64 x, .param .u64 y) {
.shared .align 128 .b8 stage[256]; .shared .align 8 .b64 full[2]; .shared .align 8 .b64 empty[2];
.reg .pred %p<8>; .reg .b32 %r<24>; .reg .b64 %d<8>;
mov.u32 %r1, %tid.x; mov.b32 %r2, stage; mov.b32 %r3, full; mov.b32 %r4, empty;
ld.param.u64 %d1, [x]; ld.param.u64 %d2, [y]; setp.ne.u32 %p1, %r1, 0; setp.ge.u32 %p2, %r1, 32;
@%p1 bra READY;
mbarrier.init.shared.b64 [%r3], 1; mbarrier.init.shared.b64 [%r3+8], 1;
mbarrier.init.shared.b64 [%r4], 32; mbarrier.init.shared.b64 [%r4+8], 32;
fence.mbarrier_init.release.cluster;
READY: bar.sync 0;
mov.u32 %r5, 0; mov.u32 %r6, 0; @%p2 bra ADD; @%p1 bra END;
COPY: and.b32 %r7, %r5, 1; shr.u32 %r8, %r5, 1; and.b32 %r8, %r8, 1; xor.b32 %r9, %r8, 1;
mad.lo.u32 %r10, %r7, 8, %r3; mad.lo.u32 %r11, %r7, 8, %r4; mad.lo.u32 %r12, %r7, 128, %r2;
E: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r11], %r9;
@!%p3 bra E;
mbarrier.arrive.expect_tx.shared.b64 _, [%r10], 128;
mad.wide.u32 %d3, %r5, 128, %d1;
cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%r12], [%d3], 128, [%r10];
add.u32 %r5, %r5, 1; setp.lt.u32 %p4, %r5, 5; @%p4 bra COPY;
bra END;
ADD: sub.u32 %r13, %r1, 32;
NEXT: and.b32 %r7, %r5, 1; shr.u32 %r8, %r5, 1; and.b32 %r8, %r8, 1;
mad.lo.u32 %r10, %r7, 8, %r3; mad.lo.u32 %r11, %r7, 8, %r4; mad.lo.u32 %r12, %r7, 128, %r2;
mad.lo.u32 %r12, %r13, 4, %r12;
F: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r10], %r8;
@!%p3 bra F;
ld.shared.b32 %r14, [%r12];
add.u32 %r6, %r6, %r14;
fence.proxy.async.shared::cta;
mbarrier.arrive.shared.b64 _, [%r11];
add.u32 %r5, %r5, 1; setp.lt.u32 %p4, %r5, 5; @%p4 bra NEXT;
mad.wide.u32 %d4, %r13, 4, %d2;
st.global.b32 [%d4], %r6;
END: ret;
}
"""
# What nothing can find in it, because nothing is wrong.
HARMLESS = {
    "another barrier: READY: bar.sync 0;": "there is no other use of either barrier",
    "relaxed: mbarrier.arrive.expect_tx.shared.b64 _, [%r10], 128;": "the copy carries what its thread has done",
}


def _sums(module: Any, gpu: Gpu) -> list[int]:
    out, data = gpu.alloc(128), gpu.alloc(640)
    gpu.write(data, b"".join(i.to_bytes(4, "little") for i in range(160)))
    params = [data.to_bytes(8, "little"), out.to_bytes(8, "little")]
    gpu.launch(module, "ring", (1,), (64,), params=params, order="strict", seconds=20)
    content = gpu.read(out, 128)
    return [int.from_bytes(content[4 * i : 4 * i + 4], "little") for i in range(32)]


EXPECTED = [sum(32 * step + lane for step in range(5)) for lane in range(32)]


def _found(mutation: Mutation | None) -> str:
    """What finds a fault of the ring."""
    for mode, seed in (("immediate", 0), ("delayed", 1)):
        gpu = Gpu("sm_90a", mode=mode, seed=seed)  # type: ignore[arg-type]
        module = gpu.load(RING)
        if mutation is not None:
            module.tree.functions["ring"] = mutation.applied(module.tree.functions["ring"])
        try:
            if _sums(module, gpu) != EXPECTED:
                return "wrong result"
        except Deadlock:
            return "deadlock"
        except Fault as fault:
            return str(fault)
    return ""


load_families()
FUNCTION = parse(RING, "sm_90a").functions["ring"]
MADE = mutations(FUNCTION, "sm_90a")


def _survivors(chosen: list[Mutation]) -> list[str]:
    titles = [
        mutation.title(FUNCTION).partition(" ")[2].partition(" ")[2] for mutation in chosen if not _found(mutation)
    ]
    return [title for title in titles if title not in HARMLESS]


def test_a_sample_of_the_faults_of_a_ring() -> None:
    """One of each kind at each opcode would be the whole: every fifth, and the right program."""
    assert not _found(None)
    assert _survivors(MADE[::5]) == []


@pytest.mark.slow
def test_every_fault_of_a_ring_is_found() -> None:
    kinds = {mutation.kind for mutation in MADE}
    assert {"dropped", "not waited", "other parity", "relaxed", "count + 1", "count - 1", "bytes +1", "bytes -1",
            "16 bytes on", "another mbarrier", "another barrier"} <= kinds  # fmt: skip
    assert _survivors(MADE) == []


def test_labels_go_on_naming_their_instructions() -> None:
    longer = next(m for m in MADE if len(m.instead) == 2)
    changed = longer.applied(FUNCTION)
    assert len(changed.body) == len(FUNCTION.body) + 1
    for name, at in FUNCTION.labels.items():
        here = changed.labels[name]
        assert here == at + (at > longer.index)
        if at != longer.index and at < len(FUNCTION.body):
            assert changed.body[here] is FUNCTION.body[at]


def test_a_survivor_needs_a_reason_that_is_used() -> None:
    assert len({each.why for each in EQUIVALENT}) == len(EQUIVALENT)


def test_what_is_broken_of_a_kernel() -> None:
    """That of the shortest one: what its calls reach can be broken, and one fault of each of three kinds is found."""
    from .__main__ import broken

    kernel = broken(next(subject for subject in SUBJECTS if subject.name == "amax"))
    made = every(kernel)
    assert len(made) > 60 and {module for module, _, _ in made} == set(kernel.modules())
    for kind in ("not waited", "count + 1", "dropped"):
        (verdict,) = judged(kernel, [next(mutant for mutant in made if mutant[2].kind == kind)])
        assert verdict.found, verdict


@pytest.mark.slow
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name.replace(" ", "-"))
def test_a_sample_of_each_kernel(subject: Any, tmp_path: Path) -> None:
    from .__main__ import broken

    kernel = broken(subject)
    for verdict in judged(kernel, sampled(kernel, 6, seed=1)):
        assert verdict.found or reason(subject.name, verdict), verdict

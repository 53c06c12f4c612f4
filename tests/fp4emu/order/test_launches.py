"""Programmatic dependent launch: what comes before `griddepcontrol.wait` is unordered with the launch before."""

from __future__ import annotations

import pytest

from fp4emu import Fault, Gpu

TOP = ".version 8.8\n.target sm_90a\n.address_size 64\n"
DECLARED = (
    "(.param .u64 p, .param .u64 q) { .reg .pred %p; .reg .b32 %r<8>; .reg .b64 %d<4>; mov.u32 %r1, %tid.x;\n"
    "ld.param.u64 %d1, [p]; mad.wide.u32 %d1, %r1, 4, %d1; ld.param.u64 %d2, [q]; mad.wide.u32 %d2, %r1, 4, %d2;\n"
)
# Reads q, writes p.
FIRST = (
    f".visible .entry first{DECLARED}ld.global.b32 %r2, [%d2]; griddepcontrol.launch_dependents;\n"
    "st.global.b32 [%d1], %r2; ret; }\n"
)
WAIT = "griddepcontrol.wait;"
TAKES, WRITES, READS = "ld.global.b32 %r2, [%d1];", "st.global.b32 [%d1], 1;", "ld.global.b32 %r2, [%d2];"
OVERWRITES, OWN = "st.global.b32 [%d2], 1;", "st.global.b32 [%d2+512], 1;"
ONE_WAITS = "setp.ne.u32 %p, %r1, 0; @%p bra MEET; griddepcontrol.wait; MEET: bar.sync 0;"
BULK = (
    "setp.ne.u32 %p, %r1, 0; @%p bra END; .shared .align 128 .b8 s[128]; .shared .align 8 .b64 b; mov.b32 %r3, s;\n"
    "mov.b32 %r4, b; mbarrier.init.shared.b64 [%r4], 1; fence.mbarrier_init.release.cluster;\n"
    "mbarrier.arrive.expect_tx.shared.b64 _, [%r4], 128; {}\n"
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r3], [%d1], 128, [%r4];\n"
    "W: mbarrier.try_wait.parity.shared.b64 %p, [%r4], 0; @!%p bra W;\nEND:"
)


def _run(second: str, *, between: str = "", order: str = "strict") -> None:
    gpu = Gpu("sm_90a")
    p, q = gpu.alloc(1024), gpu.alloc(1024)
    gpu.write(p, bytes(1024))
    gpu.write(q, bytes(1024))
    params = [a.to_bytes(8, "little") for a in (p, q)]
    module = gpu.load(f"{TOP}{FIRST}.visible .entry second{DECLARED}{second}\nret; }}\n")
    gpu.launch(module, "first", (1,), (64,), params=params, order=order)  # type: ignore[arg-type]
    if between == "read":
        gpu.read(p, 4)
    gpu.launch(module, "second", (1,), (64,), params=params, order=order)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "second",
    [f"{WAIT} {TAKES}", f"{WAIT} {WRITES}", f"{WAIT} {OVERWRITES}", f"{READS} {OWN} {WAIT}", f"{ONE_WAITS} {TAKES}",
     BULK.replace("{}", WAIT), TAKES],
    ids=["take", "write", "overwrite", "others-before", "one-waits-for-all", "bulk-copy", "no-dependency"],
)  # fmt: skip
def test_what_is_right(second: str) -> None:
    """An entry without a wait is launched after the end of the one before."""
    _run(second)


@pytest.mark.parametrize(
    "second",
    [f"{TAKES} {WAIT}", f"{WRITES} {WAIT}", f"{OVERWRITES} {WAIT}", f"griddepcontrol.launch_dependents; {TAKES} {WAIT}",
     ONE_WAITS.replace("bar.sync 0;", TAKES), BULK.replace("{}", "") + WAIT],
    ids=["take", "write", "overwrite", "launch-dependents", "no-barrier", "bulk-copy"],
)  # fmt: skip
@pytest.mark.parametrize("order", ["strict", "default"])
def test_what_comes_before_the_wait_is_found(second: str, order: str) -> None:
    with pytest.raises(Fault, match=r"\[race\].*of the launch before") as caught:
        _run(second, order=order)
    assert "missing: griddepcontrol.wait" in str(caught.value)


def test_the_host_may_have_waited() -> None:
    _run(f"{TAKES} {WAIT}", between="read")


def _chain(*kernels: tuple[str, bool | None], order: str = "strict", mode: str = "immediate") -> None:
    """Launches of two CTAs one after the other: each text, and whether it is launched as a dependent one."""
    gpu = Gpu("sm_90a", mode=mode)  # type: ignore[arg-type]
    p, q = gpu.alloc(1024), gpu.alloc(1024)
    for place in (p, q):
        gpu.write(place, bytes(1024))
    params = [a.to_bytes(8, "little") for a in (p, q)]
    entries = "".join(f".visible .entry e{i}{DECLARED}{text}\nret; }}\n" for i, (text, _) in enumerate(kernels))
    module = gpu.load(TOP + entries)
    for i, (_, dependent) in enumerate(kernels):
        gpu.launch(module, f"e{i}", (1,), (64,), params=params, order=order, dependent=dependent)  # type: ignore[arg-type]


LETS = "griddepcontrol.launch_dependents;"
NO_WAIT = "setp.ne.u32 %p, %r1, 77; @%p bra END; griddepcontrol.wait; END:"


@pytest.mark.parametrize("text", ["mov.b32 %r2, 0;", NO_WAIT], ids=["none", "not-taken"])
def test_a_dependent_launch_must_not_end_without_waiting(text: str) -> None:
    """Else the launch after it, which waits for it alone, could begin to use what the launch before it still writes."""
    with pytest.raises(Fault, match=r"\[dependency\] CTA \(0, 0, 0\) exits without griddepcontrol.wait"):
        _chain((OVERWRITES, None), (text, True))
    _chain((OVERWRITES, None), (text, False))
    _chain((OVERWRITES, None), (text, True), order="default")


def test_a_launch_that_is_not_dependent_comes_after_the_one_before() -> None:
    _chain((OVERWRITES, None), (f"{READS} {WAIT}", False))


def test_one_launch_back_is_too_few_where_the_one_between_lets_others_begin_before_it_waits() -> None:
    """It has written nothing itself, and yet what comes next may meet the launch before it."""
    early, late = f"{LETS} {WAIT}", f"{WAIT} {LETS}"
    _chain((OVERWRITES, None), (late, True), (f"{READS} {WAIT}", True))
    _chain((OVERWRITES, None), (early, True), (f"{WAIT} {READS}", True))
    with pytest.raises(Fault, match=r"\[race\].*of the launch before"):
        _chain((OVERWRITES, None), (early, True), (f"{READS} {WAIT}", True))


def test_waiting_for_a_launch_that_has_not_waited_is_no_waiting_for_the_one_before_it() -> None:
    with pytest.raises(Fault, match=r"griddepcontrol.wait in the launch before, which ends without"):
        _chain((OVERWRITES, None), ("mov.b32 %r2, 0;", True), (f"{WAIT} {READS}", True), order="default")

"""Scopes: release and acquire order what two threads do only where both scopes hold both threads (PTX ISA 8.7, "Scope";
9.7.13.4), and what one cluster writes for the async proxy of another needs its fence too.

Thread 0 of CTA 0 writes a number and then a flag, thread 0 of CTA 1 reads them.
"""

from __future__ import annotations

from typing import Any

import pytest

from fp4emu import Fault

HEAD = ".shared .align 128 .b8 buffer[256]; .shared .align 8 .b64 ready;"
WRITE = "st.global.b32 [%out+32], 7; {before} {store} bra END;"
READ = "READ: {load} setp.eq.u32 %p2, %r1, 0; @%p2 bra READ; {after} ld.global.b32 %r2, [%out+32]; {last}"
MESSAGE = f"setp.ne.u32 %p0, %T, 0; @%p0 bra END; setp.ne.u32 %p1, %C, 0; @%p1 bra READ;\n{WRITE}\n{READ}\nEND:"
RELEASE, ACQUIRE = "st.release.{}.global.b32 [%out+8], 1;", "ld.acquire.{}.global.b32 %r1, [%out+8];"
RELAXED_STORE, RELAXED_LOAD = "st.relaxed.{}.global.b32 [%out+8], 1;", "ld.relaxed.{}.global.b32 %r1, [%out+8];"
ADD, LOOK = "atom.add.{}.global.u32 %r3, [%out+8], 1;", "atom.or.{}.global.b32 %r1, [%out+8], 0;"


def _run(kernel: Any, parts: dict[str, str], cluster: int, order: str = "strict", **options: Any) -> None:
    text = MESSAGE.format(**{"before": "", "after": "", "last": "", **parts})
    kernel(text, out=1024, grid=(2,), cluster=(cluster, 1, 1), head=HEAD, order=order, **options)


def _parts(how: str, a: str, b: str) -> dict[str, str]:
    """A message whose writer has the scope `a` and whose reader `b`."""
    if how == "release and acquire":
        return {"store": RELEASE.format(a), "load": ACQUIRE.format(b)}
    if how == "fences":
        return {"before": f"fence.acq_rel.{a};", "store": RELAXED_STORE.format("sys"),
                "load": RELAXED_LOAD.format("sys"), "after": f"fence.acq_rel.{b};"}  # fmt: skip
    if how == "membar":
        level = {"cta": "cta", "gpu": "gl", "sys": "sys"}
        return {"before": f"membar.{level[a]};", "store": "st.volatile.global.b32 [%out+8], 1;",
                "load": "ld.volatile.global.b32 %r1, [%out+8];", "after": f"membar.{level[b]};"}  # fmt: skip
    if how == "operations of fences":
        return {"before": "fence.acq_rel.sys;", "store": RELAXED_STORE.format(a),
                "load": RELAXED_LOAD.format(b), "after": "fence.acq_rel.sys;"}  # fmt: skip
    return {"store": ADD.format(f"release.{a}"), "load": LOOK.format(f"acquire.{b}")}


HOWS = ["release and acquire", "fences", "membar", "operations of fences", "atomics"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("cluster", [1, 2])
def test_wide_enough_scopes_order(how: str, cluster: int, kernel: Any) -> None:
    narrow = "cluster" if cluster == 2 and how != "membar" else "gpu"
    _run(kernel, _parts(how, narrow, "gpu"), cluster)
    _run(kernel, _parts(how, "sys", narrow), cluster, mode="delayed", seed=4)


@pytest.mark.parametrize("order", ["strict", "default"])
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    ("a", "b", "cluster"), [("cta", "gpu", 1), ("gpu", "cta", 1), ("cta", "sys", 2), ("cluster", "gpu", 1)]
)
def test_a_scope_that_does_not_hold_both_threads(
    how: str, a: str, b: str, cluster: int, order: str, kernel: Any
) -> None:
    if how == "membar" and "cluster" in (a, b):
        a = "cta"
    with pytest.raises(Fault, match=r"\[race\]"):
        _run(kernel, _parts(how, a, b), cluster, order)


def test_a_narrow_fence_keeps_what_a_wide_one_has_published(kernel: Any) -> None:
    parts = {"before": "fence.acq_rel.gpu; st.global.b32 [%out+4], 1; fence.acq_rel.cta;",
             "store": RELAXED_STORE.format("gpu"), "load": ACQUIRE.format("gpu")}  # fmt: skip
    _run(kernel, parts, 1)
    with pytest.raises(Fault, match=r"\[race\].*"):
        _run(kernel, {**parts, "last": "ld.global.b32 %r4, [%out+4];"}, 1)


COPY = (
    "mov.b32 %r5, buffer; mov.b32 %r6, ready; mbarrier.init.shared.b64 [%r6], 1; fence.mbarrier_init.release.cluster; "
    "{} mbarrier.arrive.expect_tx.shared.b64 _, [%r6], 16; "
    "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%r5], [%out+32], 16, [%r6];\n"
    "W: mbarrier.try_wait.parity.shared::cta.b64 %p4, [%r6], 0; @!%p4 bra W;"
)


@pytest.mark.parametrize("cluster", [1, 2])
@pytest.mark.parametrize("fence", ["fence.proxy.async;", "fence.proxy.async.global;"])
def test_the_async_proxy_of_another_cta(cluster: int, fence: str, kernel: Any) -> None:
    """A generic write of one CTA, read by a copy of another: the fence stands at either side."""
    parts = _parts("release and acquire", "gpu", "gpu")
    _run(kernel, {**parts, "last": COPY.format(fence)}, cluster)
    _run(kernel, {**parts, "before": fence, "last": COPY.format("")}, cluster)
    for wrong in ("", "fence.proxy.async.shared::cta;"):
        with pytest.raises(Fault, match=r"\[proxy\]"):
            _run(kernel, {**parts, "last": COPY.format(wrong)}, cluster)
    with pytest.raises(Fault, match=r"\[race\]"):
        _run(kernel, {**_parts("release and acquire", "cta", "gpu"), "last": COPY.format(fence)}, cluster)


REMOTE = (
    "mov.b32 %r1, buffer; mov.b32 %r2, ready; setp.ne.u32 %p0, %T, 0; @%p0 bra NOINIT; "
    "mbarrier.init.shared.b64 [%r2], 32; fence.mbarrier_init.release.cluster;\nNOINIT: "
    "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned; mad.lo.u32 %r3, %T, 4, %r1;\n"
    "setp.ne.u32 %p2, %C, 0; @%p2 bra OTHER; mapa.shared::cluster.u32 %r5, %r3, 1; mapa.shared::cluster.u32 %r6, %r2, "
    "1; st.shared::cluster.b32 [%r5], %T; {fence} mbarrier.arrive{sem}.shared::cluster.b64 _, [%r6]; bra DONE;\n"
    "OTHER: W: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p1, [%r2], 0; @!%p1 bra W;\n"
    "ld.shared.b32 %r9, [%r3]; mad.wide.u32 %rd0, %T, 4, %out; st.global.b32 [%rd0], %r9;\n"
    "DONE: barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;"
)


@pytest.mark.parametrize(
    ("fence", "sem", "fine"),
    [
        ("", ".release.cluster", True),
        ("", "", True),
        ("", ".release.cta", False),
        ("fence.acq_rel.cluster;", ".relaxed.cluster", True),
        ("fence.acq_rel.cta;", ".relaxed.cluster", False),
        ("fence.acq_rel.gpu;", ".relaxed.cta", False),
    ],
)
def test_an_arrival_at_another_cta(fence: str, sem: str, fine: bool, kernel: Any) -> None:
    def run() -> None:
        kernel(REMOTE.format(fence=fence, sem=sem), out=128, grid=(2,), cluster=(2, 1, 1), head=HEAD, order="strict")

    if fine:
        run()
        return
    with pytest.raises(Fault, match=r"\[race\]"):
        run()

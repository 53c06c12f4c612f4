"""Happens-before: each synchronisation left out is a fault that names what is missing, and with it there is none.

`{...}` in a body is what a case leaves out, or puts in the place of what stands there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from fp4emu import Fault

HEAD = ".shared .align 128 .b8 buffer[2048]; .shared .align 8 .b64 ready; .shared .align 8 .b64 again;"
START = "mov.b32 %r1, buffer; mov.b32 %r2, ready; mov.b32 %r4, again; mad.lo.u32 %r3, %T, 4, %r1;\n"
INIT = (
    "setp.ne.u32 %p0, %T, 0; @%p0 bra NOINIT; mbarrier.init.shared.b64 [%r2], {count};\n"
    "fence.mbarrier_init.release.cluster;\nNOINIT: bar.sync 0;\n"
)
TAKE = "ld.shared.b32 %r9, [%r8]; mad.wide.u32 %rd0, %T, 4, %out; st.global.b32 [%rd0], %r9;"
FLIP = "xor.b32 %r7, %T, {flip}; mad.lo.u32 %r8, %r7, 4, %r1;\n"


@dataclass(frozen=True)
class Case:
    """A right program, and one wrong piece for a right one; the check that finds it."""

    name: str
    body: str
    right: str
    wrong: str
    check: str
    block: int = 64
    cluster: int = 1
    target: str = "sm_100a"
    shared: str = HEAD


WAIT = "W: mbarrier.try_wait.parity{order}.shared::cta.b64 %p1, [%r2], 0; @!%p1 bra W;\n"
PAIR = START + INIT.replace("{count}", "64") + "st.shared.b32 [%r3], %T;\n"
COPY = (
    "@%p0 bra SENT; mbarrier.arrive.expect_tx.shared.b64 _, [%r2], 256;\n"
    "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%r1], [%out], 256, [%r2];\nSENT:\n"
)
REMOTE = (
    START
    + "setp.ne.u32 %p0, %T, 0; @%p0 bra NOINIT; mbarrier.init.shared.b64 [%r2], 32;\n"
    + "{init}\nNOINIT: barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;\n"
    + "setp.ne.u32 %p2, %C, 0; @%p2 bra OTHER; mapa.shared::cluster.u32 %r5, %r3, 1; mapa.shared::cluster.u32 %r6, "
    + "%r2, 1; st.shared::cluster.b32 [%r5], %T; mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r6];\n"
    + "bra DONE;\nOTHER: W: mbarrier.try_wait.parity.acquire.{scope}.shared::cta.b64 %p1, [%r2], 0; @!%p1 bra W;\n"
    + "mov.b32 %r8, %r3;\n" + TAKE + "\nDONE:\n{end}"
)  # fmt: skip
CLUSTER_END = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;"
FENCED = "fence.mbarrier_init.release.cluster;"


def _remote(**parts: str) -> str:
    text = REMOTE
    for name, part in {"init": FENCED, "scope": "cluster", "end": CLUSTER_END, **parts}.items():
        text = text.replace("{" + name + "}", part)
    return text


TENSOR = (
    ".shared .align 8 .b32 place;",
    "mov.b32 %r2, place; setp.ne.u32 %p0, %W, 0; setp.ne.u32 %p3, %W, 4; @%p3 bra NOALLOC; "
    "tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r2], 32;\nNOALLOC: {a}\nbar.sync 0;\n{b}\n"
    "ld.shared.b32 %r1, [%r2]; @%p0 bra STORED; tcgen05.st.sync.aligned.32x32b.x1.b32 [%r1], {{%T}};\n{c}\n{d}\n"
    "STORED: bar.sync 0; setp.ne.u32 %p1, %W, 4; @%p1 bra LOADED;\n{e}\n"
    "tcgen05.ld.sync.aligned.32x32b.x1.b32 {{%r9}}, [%r1];\n{f}\nmad.wide.u32 %rd0, %L, 4, %out; "
    "st.global.b32 [%rd0], %r9;\n{g}\nLOADED: bar.sync 0; @%p0 bra END;\n{h}\n"
    "tcgen05.dealloc.cta_group::1.sync.aligned.b32 %r1, 32;\nEND:",
)
BEFORE, AFTER = "tcgen05.fence::before_thread_sync;", "tcgen05.fence::after_thread_sync;"
RIGHT = {
    "a": BEFORE, "b": AFTER, "c": "tcgen05.wait::st.sync.aligned;", "d": BEFORE, "e": AFTER,
    "f": "tcgen05.wait::ld.sync.aligned;", "g": BEFORE, "h": AFTER,
}  # fmt: skip


def _tensor(left_out: str, check: str = "tcgen05") -> Case:
    body = TENSOR[1].format(**{k: v if k != left_out else "{}" for k, v in RIGHT.items()})
    body = body.replace("{%T}", "<%T>").replace("{%r9}", "<%r9>")
    name = f"{RIGHT[left_out].split()[0]} at {left_out}"
    return Case(name, body, RIGHT[left_out], "", check, block=160, shared=TENSOR[0])


GROUP, GROUP_0 = "cp.async.commit_group;", "cp.async.wait_group 0;"
COPIED = (
    START + "mov.b32 %r2, ready;\n" + INIT.replace("{count}", "64")
    + "mad.wide.u32 %rd1, %T, 4, %out; cp.async.ca.shared.global [%r3], [%rd1], 4;\n"
)  # fmt: skip
ACROSS = "bar.sync 0;\n" + FLIP.replace("{flip}", "32") + "ld.shared.b32 %r9, [%r8];\n"
OWN = "ld.shared.b32 %r9, [%r3];\n"
NOINC = "cp.async.mbarrier.arrive.noinc.shared.b64 [%r2];"
STORE = (
    "bar.sync 0; @%p0 bra END; cp.async.bulk.global.shared::cta.bulk_group [%out], [%r1], 256;\n"
    "cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;\nEND:"
)
COPIES = [
    ("wait_group", (GROUP_0, "", "race"), OWN),
    ("wait_group, another thread", (GROUP_0, "", "race"), ACROSS),
    ("wait_group of an older group", (GROUP_0, "cp.async.wait_group 1;", "race"), OWN),
    ("commit_group", (GROUP, "", "race"), GROUP_0 + OWN),
    ("wait_all", ("cp.async.wait_all;", "", "race"), OWN),
    ("barrier", ("bar.sync 0;", "", "race"), FLIP.replace("{flip}", "32") + "ld.shared.b32 %r9, [%r8];\n"),
    ("mbarrier arrive", (NOINC, "mbarrier.arrive.shared.b64 _, [%r2];", "race"), WAIT.replace("{order}", "") + ACROSS),
    ("over a store", (GROUP_0, "", "race"), "st.shared.b32 [%r3], %T;"),
    ("source", (GROUP_0, "", "race"), "st.global.b32 [%rd1], %T;"),
    ("proxy fence", ("fence.proxy.async;", "", "proxy"), STORE),
]


def _copied(name: str, after: str) -> str:
    """A cp.async, the piece, and what relies on it; waits that the piece does not stand for come in front of it."""
    if name in ("barrier", "proxy fence"):
        return f"{COPIED}{GROUP}{GROUP_0}{{}}\n{after}"
    group = "" if name in ("commit_group", "wait_all", "mbarrier arrive") else GROUP
    return f"{COPIED}{group}{{}}\n{after}"


CASES = [
    Case("bar.sync", START + "st.shared.b32 [%r3], %T;\n{}\n" + FLIP.replace("{flip}", "32") + TAKE, "bar.sync 0;", "",
         "race"),
    Case("bar.warp.sync", START + "st.shared.b32 [%r3], %T;\n{}\n" + FLIP.replace("{flip}", "1") + TAKE,
         "bar.warp.sync -1;", "", "lanes"),
    Case("release", PAIR + "mbarrier.arrive{}.shared.b64 _, [%r2];\n" + WAIT.replace("{order}", ".acquire.cta")
         + FLIP.replace("{flip}", "32") + TAKE, ".release.cta", ".relaxed.cta", "race"),
    Case("acquire", PAIR + "mbarrier.arrive.release.cta.shared.b64 _, [%r2];\n" + WAIT.replace("{order}", "{}")
         + FLIP.replace("{flip}", "32") + TAKE, ".acquire.cta", ".relaxed.cta", "race"),
    Case("acquire fence", PAIR + "mbarrier.arrive.release.cta.shared.b64 _, [%r2];\n"
         + WAIT.replace("{order}", ".relaxed.cta") + "{}\n" + FLIP.replace("{flip}", "32") + TAKE,
         "fence.acquire.cta;", "", "race"),
    Case("release fence", PAIR + "{}\nmbarrier.arrive.relaxed.cta.shared.b64 _, [%r2];\n"
         + WAIT.replace("{order}", ".acquire.cta") + FLIP.replace("{flip}", "32") + TAKE,
         "fence.release.cta;", "", "race"),
    Case("wait for a copy", START + INIT.replace("{count}", "1") + COPY + "{}\nmov.b32 %r8, %r3;\n" + TAKE,
         WAIT.replace("{order}", ""), "bar.sync 0;", "race"),
    Case("proxy fence", START + INIT.replace("{count}", "1") + "st.shared.b32 [%r3], %T;\n{}\n"
         "bar.sync 0;\n" + COPY + WAIT.replace("{order}", "") + "mov.b32 %r8, %r3;\n" + TAKE,
         "fence.proxy.async.shared::cta;", "", "proxy"),
    Case("bulk store is awaited", START + "st.shared.b32 [%r3], %T; fence.proxy.async; bar.sync 0; setp.ne.u32 %p0, %T,"
         " 0; @%p0 bra END; cp.async.bulk.global.shared::cta.bulk_group [%out], [%r1], 256; "
         "cp.async.bulk.commit_group;\n{}\nEND:", "cp.async.bulk.wait_group.read 0;", "", "exit"),
    Case("one lane copies", START + "st.shared.b32 [%r3], %T; fence.proxy.async; bar.sync 0;\n"
         "setp.ge.u32 %p0, %T, {}; @%p0 bra END; cp.async.bulk.global.shared::cta.bulk_group [%out], [%r1], 256; "
         "cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;\nEND:", "1", "32", "race"),
    Case("phase", START + "setp.ne.u32 %p0, %T, 0; @%p0 bra NOINIT; mbarrier.init.shared.b64 [%r2], 1;\n"
         "mbarrier.arrive.shared.b64 _, [%r2];\n{}\nmbarrier.arrive.shared.b64 _, [%r2];\nNOINIT:",
         WAIT.replace("{order}", ""), "", "phase"),
    Case("scope", _remote(scope="{}"), "cluster", "cta", "race", block=32, cluster=2),
    Case("init fence", _remote(init="{}"), FENCED, "", "init-fence", block=32, cluster=2),
    Case("exit", "mapa.shared::cluster.u32 %r6, %r3, 1; setp.ne.u32 %p0, %C, 0; @%p0 bra END; "
         "st.shared::cluster.b32 [%r6], 1;\nEND: {}".join([START, ""]), CLUSTER_END, "", "exit", block=32, cluster=2),
    Case("flag in global memory", "setp.ne.u32 %p0, %T, 0; @%p0 bra END; setp.ne.u32 %p1, %C, 0; @%p1 bra READ;\n"
         "st.global.b32 [%out], 7; st.{}.gpu.global.b32 [%out+8], 1; bra END;\n"
         "READ: ld.acquire.gpu.global.b32 %r1, [%out+8]; setp.eq.u32 %p2, %r1, 0; @%p2 bra READ;\n"
         "ld.global.b32 %r2, [%out];\nEND:", "release", "relaxed", "race", block=32),
    *(Case(f"cp.async {name}", _copied(name, after), *pieces) for name, pieces, after in COPIES),
    *(_tensor(piece) for piece in "cdefgh"),
    *(_tensor(piece, "alloc") for piece in "ab"),
]  # fmt: skip


def _run(kernel: Any, case: Case, piece: str, order: str, **options: Any) -> None:
    body = case.body.replace("{}", piece).replace("<", "{").replace(">", "}")
    grid = 2 if case.cluster == 2 or case.name.startswith("flag") else 1
    kernel(body, out=1024, head=case.shared, block=case.block, grid=(grid,), cluster=(case.cluster, 1, 1),
           target=case.target, order=order, **options)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name.replace(" ", "-") for case in CASES])
def test_what_is_missing_is_found(case: Case, kernel: Any) -> None:
    _run(kernel, case, case.right, "strict")
    _run(kernel, case, case.right, "strict", mode="delayed", seed=3)
    with pytest.raises(Fault, match=rf"\[{case.check}\]") as caught:
        _run(kernel, case, case.wrong, "strict")
    assert "PTX line" in str(caught.value)


LENIENT = {"lanes", "refill", "alloc", "init-fence", "phase"}


@pytest.mark.parametrize("case", [c for c in CASES if c.check in LENIENT or c.name in ("scope", "one lane copies")],
                         ids=lambda c: c.name)  # fmt: skip
def test_the_default_lets_pass_what_others_ship(case: Case, kernel: Any) -> None:
    _run(kernel, case, case.wrong, "default")


@pytest.mark.parametrize("case", [c for c in CASES if c.check in ("race", "tcgen05") and c.name != "scope"][:6],
                         ids=lambda c: c.name)  # fmt: skip
def test_the_default_finds_races_too(case: Case, kernel: Any) -> None:
    with pytest.raises(Fault, match=rf"\[{case.check}\]"):
        _run(kernel, case, case.wrong, "default")


def test_an_unknown_order(kernel: Any) -> None:
    with pytest.raises(Fault, match="unknown order"):
        kernel("", order="loose")


@pytest.mark.parametrize("fence", ["fence.proxy.async.shared::cta;", ""])
def test_a_read_before_a_refill(fence: str, kernel: Any) -> None:
    """A copy may write over what lanes have read only after a proxy fence: at default it is a warning."""
    body = (
        START + INIT.replace("{count}", "1") + "fence.proxy.async; bar.sync 0;\n" + COPY + WAIT.replace("{order}", "")
        + "ld.shared.b32 %r9, [%r3];\n" + fence + "bar.sync 0; mov.b32 %r2, %r4; @%p0 bra NOAGAIN; "
        "mbarrier.init.shared.b64 [%r2], 1; fence.mbarrier_init.release.cluster;\nNOAGAIN: bar.sync 0;\n"
        + COPY.replace("SENT", "SENT2") + WAIT.replace("{order}", "").replace("W:", "W2:").replace("bra W;", "bra W2;")
    )  # fmt: skip
    kernel(body, out=256, head=HEAD, block=64, order="default")
    if fence:
        kernel(body, out=256, head=HEAD, block=64, order="strict")
        return
    with pytest.raises(Fault, match=r"\[refill\]"):
        kernel(body, out=256, head=HEAD, block=64, order="strict")

"""setmaxnreg: registers go through the pool of the CTA, and a CTA that asks for more than it has never ends."""

from __future__ import annotations

from typing import Any

import pytest

from fp4emu import Deadlock, Fault

SPLIT = """
setp.lt.u32 %p0, %W, 4; @%p0 bra FIRST;
setmaxnreg.inc.sync.aligned.u32 {inc}; bra DONE;
FIRST: {wait}
setmaxnreg.dec.sync.aligned.u32 {dec};
DONE: mad.wide.u32 %rd0, %T, 4, %out; st.global.b32 [%rd0], %T;
"""
LATE = "mov.u32 %r0, 0; LOOP: add.u32 %r0, %r0, 1; setp.lt.u32 %p1, %r0, 300; @%p1 bra LOOP;"
THREE = ".reqntid 384 .minnctapersm 1"


def _run(kernel: Any, dec: int, inc: int, tuning: str = THREE, wait: str = "", **options: Any) -> None:
    body = SPLIT.format(dec=dec, inc=inc, wait=wait)
    out = kernel(body, out=4 * 384, block=384, tuning=tuning, target="sm_90a", **options)
    assert out == b"".join(i.to_bytes(4, "little") for i in range(384))


@pytest.mark.parametrize("order", [None, "strict"], ids=["unwatched", "strict"])
@pytest.mark.parametrize("wait", ["", LATE])
@pytest.mark.parametrize(
    ("dec", "inc", "tuning"),
    [(40, 232, THREE), (24, 240, THREE), (56, 128, ".maxnreg 104"), (104, 104, ".maxnreg 104")],
)
def test_what_one_warpgroup_gives_others_take(
    dec: int, inc: int, tuning: str, wait: str, order: str | None, kernel: Any
) -> None:
    _run(kernel, dec, inc, tuning, wait, order=order)
    _run(kernel, dec, inc, tuning, wait, order=order, mode="delayed", seed=1)


@pytest.mark.parametrize(
    ("dec", "inc", "tuning"),
    [(48, 232, THREE), (40, 240, THREE), (40, 128, ".maxnreg 80"), (40, 232, ".reqntid 384 .minnctapersm 2")],
)
def test_more_registers_than_there_are(dec: int, inc: int, tuning: str, kernel: Any) -> None:
    with pytest.raises(Deadlock, match=f"setmaxnreg.inc to {inc}.*asks for more registers than it has"):
        _run(kernel, dec, inc, tuning)


def test_without_a_number_at_the_launch_it_is_ignored(kernel: Any) -> None:
    """ptxas: "setmaxnreg ignored; unable to determine register count at entry"."""
    _run(kernel, 200, 232, "")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("setmaxnreg.dec.sync.aligned.u32 20;", "the count is an immediate of 24, 32, ... 256"),
        ("setmaxnreg.dec.sync.aligned.u32 28;", "the count is an immediate"),
        ("mov.u32 %r0, 40; setmaxnreg.dec.sync.aligned.u32 %r0;", "the count is an immediate"),
        ("setmaxnreg.dec.sync.aligned.u32 200;", "setmaxnreg.dec to 200: a thread of the warp has 128 registers"),
        (
            "setmaxnreg.dec.sync.aligned.u32 40; setmaxnreg.inc.sync.aligned.u32 32; "
            "setmaxnreg.inc.sync.aligned.u32 120;",
            "inc to 32: a thread .* has 40",
        ),
        ("setp.eq.u32 %p0, %W, 1; @%p0 bra E; setmaxnreg.dec.sync.aligned.u32 40;\nE:", "warp 1: none; warp 2: 40"),
    ],
)
def test_what_is_not_defined(body: str, why: str, kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FP4EMU_PTXAS", raising=False)  # ptxas refuses some of them
    limit = ".reqntid 128 .maxnreg 128"
    with pytest.raises(Fault, match=why):
        kernel(body, block=128, tuning=limit,
               target="sm_90a")  # fmt: skip

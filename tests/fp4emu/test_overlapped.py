"""Launches that overlap: what the second one finds before and after it waits, and when it begins."""

from __future__ import annotations

import pytest

from fp4emu import Deadlock, Fault, Gpu
from fp4emu.gpu import Planned

TOP = ".version 8.8\n.target sm_90a\n.address_size 64\n"
DECLARED = (
    "(.param .u64 p) { .reg .pred %p; .reg .b32 %r<8>; .reg .b64 %d<4>; mov.u32 %r1, %ctaid.x;\n"
    "ld.param.u64 %d1, [p];\n"
)
WAIT, LETS = "griddepcontrol.wait;", "griddepcontrol.launch_dependents;"
# Waits until somebody has written 7 to the second word.
UNTIL_7 = "W: ld.relaxed.gpu.global.b32 %r2, [%d1+4]; setp.ne.u32 %p, %r2, 7; @%p bra W;"
SAYS_7, WRITES_5 = "st.relaxed.gpu.global.b32 [%d1+4], 7;", "st.global.b32 [%d1], 5;"
TAKES = "ld.global.b32 %r3, [%d1]; st.global.b32 [%d1+8], %r3;"


def _run(*texts: str, mode: str = "immediate", seed: int = 0, grid: int = 1) -> list[int]:
    """The first three words after launches that overlap."""
    gpu = Gpu("sm_90a", mode=mode, seed=seed)  # type: ignore[arg-type]
    p = gpu.alloc(64)
    gpu.write(p, bytes(64))
    entries = "".join(f".visible .entry e{i}{DECLARED}{text}\nret; }}\n" for i, text in enumerate(texts))
    module = gpu.load(TOP + entries)
    params = [p.to_bytes(8, "little")]
    planned = [Planned(module, f"e{i}", (grid,), (32,), params=params) for i in range(len(texts))]
    gpu.launch_overlapped(planned, seconds=60)
    data = gpu.read(p, 12)
    return [int.from_bytes(data[i : i + 4], "little") for i in range(0, 12, 4)]


@pytest.mark.parametrize("mode", ["immediate", "delayed"])
def test_the_second_one_runs_while_the_first_one_does(mode: str) -> None:
    """The first one ends only because the second one has told it to."""
    first = f"{LETS} {UNTIL_7} {WRITES_5}"
    assert _run(first, f"{SAYS_7} {WAIT} {TAKES}", mode=mode) == [5, 7, 5]


def test_it_begins_once_every_cta_lets_it() -> None:
    """One CTA does not: the second launch waits for its end, which does not come."""
    first = f"setp.eq.u32 %p, %r1, 1; @%p bra N; {LETS} N: {UNTIL_7}"
    with pytest.raises(Deadlock):
        _run(first, f"{SAYS_7} {WAIT}", grid=2)
    assert _run(f"{LETS} {UNTIL_7}", f"{SAYS_7} {WAIT}", grid=2)[1] == 7


def test_what_it_takes_before_it_waits_is_old() -> None:
    first = f"{LETS} {UNTIL_7} {WRITES_5}"
    assert _run(first, f"{TAKES} {SAYS_7} {WAIT}")[2] == 0
    assert _run(WRITES_5, f"{TAKES} {WAIT}")[2] == 5  # without the signal it begins after the end


def test_three_in_a_row() -> None:
    adds = "ld.global.b32 %r3, [%d1]; add.u32 %r3, %r3, 1; st.global.b32 [%d1], %r3;"
    for mode, seed in (("immediate", 0), ("delayed", 1), ("delayed", 2)):
        assert _run(*[f"{WAIT} {LETS} {adds}"] * 3, mode=mode, seed=seed)[0] == 3
    assert _run(*[f"{LETS} {adds} {WAIT}"] * 3)[0] < 4


def test_a_fault_of_either_is_reported() -> None:
    with pytest.raises(Fault, match="entry e1"):
        _run(f"{LETS} {WRITES_5}", f"{WAIT} ld.global.b32 %r3, [%d1+2];")

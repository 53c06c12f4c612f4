"""Branches, divergence and reconvergence, calls, predication, and what the loader refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fp4emu import Deadlock, Fault, Gpu, PtxError

STORE = "mad.wide.u32 %rd31, %T, 4, %out; st.global.b32 [%rd31], %r0;"
LOCKSTEP = ["grid", "cta", "warp"]


def words(data: bytes) -> list[int]:
    return np.frombuffer(data, np.uint32).tolist()


def collatz(n: int) -> int:
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


@pytest.mark.parametrize("lockstep", LOCKSTEP)
def test_divergent_loop(lockstep: str, kernel: Any) -> None:
    """Each thread runs its own number of iterations with a branch inside."""
    body = (
        "add.u32 %r1, %T, 1; mov.b32 %r0, 0;\nLOOP: setp.eq.u32 %p0, %r1, 1; @%p0 bra DONE; and.b32 %r2, %r1, 1; "
        "setp.eq.u32 %p1, %r2, 0; @%p1 bra EVEN; "
        "mad.lo.u32 %r1, %r1, 3, 1; bra NEXT;\nEVEN: shr.u32 %r1, %r1, 1;\nNEXT: add.u32 %r0, %r0, 1; bra LOOP;\nDONE:"
        + STORE
    )
    assert words(kernel(body, out=4 * 96, block=96, lockstep=lockstep)) == [collatz(n + 1) for n in range(96)]


@pytest.mark.parametrize("lockstep", LOCKSTEP)
def test_warps_take_different_ways_and_meet(lockstep: str, kernel: Any) -> None:
    """Registers of both arms, uniform in one and per lane in the other, come together behind the join."""
    body = (
        "shfl.sync.idx.b32 %r1, %W, 0, 31, -1; setp.ne.u32 %p0, %r1, 1; @%p0 bra OTHER; mov.b32 %r2, 7; "
        "mov.b32 %r3, 1; bra JOIN;\n"
        "OTHER: mov.b32 %r2, %L; setp.eq.u32 %p1, %r1, 2; selp.b32 %r3, 5, 6, %p1;\n"
        "JOIN: bar.sync 0; mad.lo.u32 %r0, %r3, 100, %r2;" + STORE
    )
    want = [
        100 * (1 if w == 1 else 5 if w == 2 else 6) + (7 if w == 1 else lane) for w in range(4) for lane in range(32)
    ]
    assert words(kernel(body, out=512, block=128, lockstep=lockstep)) == want


def test_lanes_meet_before_a_warp_wide_instruction(kernel: Any) -> None:
    """Lowest block first: both arms of a divergent branch finish before the vote behind them."""
    body = (
        "and.b32 %r1, %T, 1; setp.eq.u32 %p0, %r1, 0; @%p0 bra EVEN; mov.b32 %r2, 1; "
        "bra JOIN;\nEVEN: mov.b32 %r2, 0;\nJOIN: setp.ne.u32 %p1, %r2, 0; "
        "vote.sync.ballot.b32 %r0, %p1, -1;" + STORE
    )
    assert words(kernel(body, out=128)) == [0xAAAA_AAAA] * 32


def test_early_exit_and_partial_warps(kernel: Any) -> None:
    """Threads beyond a bound leave; a block of 50 threads has a warp of 18 lanes; barriers still open for the rest."""
    body = "mov.b32 %r0, 1; setp.ge.u32 %p0, %T, 40; @%p0 exit; bar.sync 0; activemask.b32 %r0;" + STORE
    assert words(kernel(body, out=200, block=50)) == [0xFFFF_FFFF] * 32 + [0xFF] * 8 + [0] * 10


def test_predicated_instructions(kernel: Any) -> None:
    body = (
        "mov.b32 %r0, 5; setp.lt.u32 %p0, %T, 10; @%p0 mov.b32 %r0, %T; @!%p0 add.u32 %r0, %r0, 1; "
        "setp.eq.u32 %p1, %C, 0; @%p1 add.u32 %r0, %r0, 100; "
        "@!%p1 mov.b32 %r0, 0; mad.wide.u32 %rd0, %T, 4, %out; @%p0 st.global.b32 [%rd0], %r0;"
    )
    assert words(kernel(body, out=128)) == [100 + t for t in range(10)] + [0] * 22


def test_predicated_load_leaves_idle_lanes_alone(kernel: Any) -> None:
    """The addresses of lanes whose predicate is false are not touched."""
    body = (
        "mov.b32 %r0, 9; setp.lt.u32 %p0, %T, 4; mad.wide.u32 %rd0, %T, 4, %in0; @%p0 ld.global.b32 %r0, [%rd0];"
        + STORE
    )
    data = np.arange(50, 54, dtype=np.uint32).tobytes()
    assert words(kernel(body, out=128, inputs=(data,))) == [50, 51, 52, 53] + [9] * 28


def test_indirect_branch(kernel: Any) -> None:
    body = (
        "rem.u32 %r1, %T, 3;\nTABLE: .branchtargets A, B, C;\nbrx.idx %r1, TABLE;\nA: mov.b32 %r0, 10; "
        "bra JOIN;\nB: mov.b32 %r0, 11; bra JOIN;\n"
        "C: mov.b32 %r0, 12;\nJOIN:" + STORE
    )
    assert words(kernel(body, out=128)) == [10 + t % 3 for t in range(32)]


def test_calls_are_expanded(kernel: Any) -> None:
    functions = (
        ".func (.param .b32 result) scale(.param .b32 x, .param .b32 y)\n{ .reg .b32 %r<4>; .reg .pred %p; "
        "ld.param.b32 %r1, [x]; ld.param.b32 %r2, [y]; "
        "setp.lt.u32 %p, %r1, 16; @%p bra SMALL; mad.lo.u32 %r3, %r1, %r2, 1000; st.param.b32 [result], %r3; ret;\n"
        "SMALL: mul.lo.u32 %r3, %r1, %r2; st.param.b32 [result], %r3; ret; }\n"
        ".func (.param .b32 twice) both(.param .b32 x)\n{ .reg .b32 %r<4>; ld.param.b32 %r1, [x]; { .param .b32 a; "
        ".param .b32 b; .param .b32 c; "
        "st.param.b32 [a], %r1; st.param.b32 [b], 3; call.uni (c), scale, (a, b); ld.param.b32 %r2, [c]; "
        "} add.u32 %r2, %r2, 1; st.param.b32 [twice], %r2; ret; }\n"
    )
    body = (
        "{ .param .b32 p; .param .b32 q; st.param.b32 [p], %T; call.uni (q), both, (p); ld.param.b32 %r0, [q]; } "
        "{ .param .b32 p; .param .b32 q; st.param.b32 [p], %r0; call.uni (q), both, (p); ld.param.b32 %r0, [q]; }"
        + STORE
    )

    def both(x: int) -> int:
        return (x * 3 if x < 16 else x * 3 + 1000) + 1

    assert words(kernel(body, out=128, functions=functions)) == [both(both(t)) for t in range(32)]


def test_scopes_hide_names(kernel: Any) -> None:
    body = (
        "mov.b32 %r1, 1; { .reg .b32 %r<4>; .reg .pred P; mov.b32 %r1, 50; setp.eq.u32 P, %T, 3; @P bra L; "
        "mov.b32 %r1, 60;\nL: add.u32 %r2, %r1, 0; mov.b32 %r0, %r2; } "
        "{ .reg .pred P; setp.eq.u32 P, %T, 4; @P bra L; add.u32 %r1, %r1, 1;\nL: } add.u32 %r0, %r1, 10;" + STORE
    )
    assert words(kernel(body, out=128)) == [11 if t == 4 else 12 for t in range(32)]


def test_many_blocks_run_in_waves(kernel: Any) -> None:
    body = (
        "mov.u32 %r1, %ntid.x; mad.lo.u32 %r2, %C, %r1, %T; mad.wide.u32 %rd0, %r2, 4, %out; st.global.b32 [%rd0], %r2;"
    )
    got = kernel(body, out=4 * 1024 * 300, grid=(300,), block=1024)
    assert words(got) == list(range(1024 * 300))


@pytest.mark.parametrize("mode", ["immediate", "delayed"])
def test_spinning_on_a_flag_of_another_warp(mode: str, kernel: Any) -> None:
    """A warp that spins on memory does not starve the one that writes the flag."""
    body = (
        "mov.b32 %r1, flag; setp.ne.u32 %p0, %T, 0; @%p0 bra SKIP; st.shared.b32 [%r1], 0;\nSKIP: bar.sync 0; "
        "setp.gt.u32 %p1, %W, 0; @%p1 bra WRITER;\n"
        "SPIN: ld.volatile.shared.b32 %r2, [%r1]; setp.eq.u32 %p2, %r2, 0; @%p2 bra SPIN; "
        "bra DONE;\nWRITER: mov.b32 %r2, 77; st.volatile.shared.b32 [%r1], %r2;\n"
        "DONE: mov.b32 %r0, %r2;" + STORE
    )
    assert words(kernel(body, out=256, block=64, head=".shared .align 4 .b8 flag[4];", mode=mode)) == [77] * 64


# --- faults ---


def test_trap(kernel: Any) -> None:
    with pytest.raises(Fault, match="trap") as caught:
        kernel("setp.eq.u32 %p0, %T, 37; @%p0 trap;", block=64)
    assert (caught.value.warp, caught.value.place.lane) == (1, 5)


def test_endless_loop_is_a_deadlock(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fp4emu.launch.LIVELOCK_TURNS", 3)
    with pytest.raises(Deadlock, match="spin"):
        kernel("LOOP: ld.volatile.global.b32 %r1, [%out]; setp.eq.u32 %p0, %r1, 0; @%p0 bra LOOP;")


def load(text: str) -> None:
    Gpu().load(".version 8.8\n.target sm_100a\n.address_size 64\n" + text)


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        (".entry k() {\n.reg .v4 .b32 %v;\nret; }", "vector registers", 5),
        (".entry k() { .wobble 3; ret; }", "directive .wobble", 4),
        (".banana x;", "not understood", 4),
        (".entry k() { .reg .b32 %r<2>; mov.b32 %r0, ]; ret; }", "not understood", 4),
    ],
)
def test_loading_names_the_line(text: str, message: str, line: int) -> None:
    with pytest.raises(PtxError, match=message) as caught:
        load(text)
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("frobnicate.b32 %r0, %r1;", "unknown instruction frobnicate"),
        ("add.weird.s32 %r0, %r1, %r1;", "add.weird.s32: these modifiers"),
        ("ld.global.L1::wrong.b32 %r0, [%r1];", "modifiers are not emulated"),
        ("wgmma.fence.sync.aligned;", "does not exist on sm_100a"),
    ],
)
def test_an_instruction_that_is_not_emulated_refuses_who_needs_it(instruction: str, message: str) -> None:
    """The entry itself, and one that calls a function with it; the others of the module run. Every launch says so."""
    text = (
        f".func f() {{ .reg .b32 %r<2>;\n{instruction}\nret; }}\n"
        f".entry own() {{ .reg .b32 %r<2>;\n{instruction}\nret; }}\n"
        ".entry calls() { call.uni f; ret; }\n.entry other() { ret; }\n"
    )
    gpu = Gpu()
    module = gpu.load(".version 8.8\n.target sm_100a\n.address_size 64\n" + text)
    gpu.launch(module, "other", (1,), (32,))
    for entry, line in (("own", 8), ("calls", 5), ("own", 8)):
        with pytest.raises(PtxError, match=message) as caught:
            gpu.launch(module, entry, (1,), (32,))
        assert caught.value.line == line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (".entry k() { bra NOWHERE; }", "no label of this function"),
        (".entry k() { .reg .b32 %r; mov.b32 %r, 1; }", "runs off its end"),
        (".entry k() { .reg .b32 %r; mov.b32 %r, missing; ret; }", "missing is not declared"),
        (".entry k() { .reg .b32 %r; mov.u32 %r, %weird.x; ret; }", "not declared|not emulated"),
        (
            ".entry k() { .reg .b32 %r; .reg .b64 %d; add.s64 %d, %d, %r; ret; }",
            "operand of 32 bits where 64 are needed",
        ),
        (".entry k() { .reg .b32 %r; .reg .b64 %d; add.s32 %d, %r, %r; ret; }", "has 64 bits, the result 32"),
        (".extern .func f();\n.entry k() { call.uni f; ret; }", "which the module does not define"),
        (".func f() { call.uni f; ret; }\n.entry k() { call.uni f; ret; }", "recursive call"),
    ],
)
def test_refused_when_run(text: str, message: str) -> None:
    gpu = Gpu()
    with pytest.raises(Fault, match=message) as caught:
        gpu.launch(gpu.load(".version 8.8\n.target sm_100a\n.address_size 64\n" + text), "k", (1,), (32,))
    assert caught.value.line is not None


@pytest.mark.parametrize(
    ("target", "gpu", "runs"),
    [
        ("sm_90", "sm_90a", True),
        ("sm_80", "sm_100a", True),
        ("sm_100", "sm_100a", True),
        ("sm_100f", "sm_103a", True),
        ("sm_90a", "sm_100a", False),
        ("sm_100a", "sm_103a", False),
        ("sm_103f", "sm_100a", False),
        ("sm_100", "sm_90a", False),
    ],
)
def test_where_a_target_runs(target: str, gpu: str, runs: bool) -> None:
    text = f".version 8.8\n.target {target}\n.address_size 64\n.entry k() {{ ret; }}"
    if runs:
        assert Gpu(gpu).load(text).entries == ("k",)
    else:
        with pytest.raises(PtxError, match=f"is for {target}, the GPU is {gpu}"):
            Gpu(gpu).load(text)


def test_an_assertion_that_fails(kernel: Any) -> None:
    """A call of a function without a body is a fault only for the lanes that make it."""
    types = ["b64", "b64", "b32", "b64", "b64"]
    functions = (
        f".extern .func __assertfail({', '.join(f'.param .{t} p{i}' for i, t in enumerate(types))}) .noreturn;\n"
    )
    given = " ".join(f".param .{t} a{i}; st.param.{t} [a{i}], {i};" for i, t in enumerate(types))
    body = (
        f"setp.ne.u32 %p0, %T, {{}}; @%p0 bra FINE; {{{{ {given} call.uni __assertfail, (a0, a1, a2, a3, a4); }}}}\n"
        "FINE: mov.b32 %r0, 3;" + STORE
    )
    assert words(kernel(body.format(40), out=128, functions=functions)) == [3] * 32
    with pytest.raises(Fault, match="a call of __assertfail") as caught:
        kernel(body.format(9), out=128, functions=functions)
    assert caught.value.place.lane == 9


def test_targets_are_checked() -> None:
    """A Blackwell instruction on Hopper, and the other way round."""
    module = Gpu("sm_90a").load(
        ".version 8.8\n.target sm_90a\n.address_size 64\n.entry k() { .reg .b64 %d; add.rn.f32x2 %d, %d, %d; ret; }"
    )
    with pytest.raises(PtxError, match="does not exist on sm_90a"):
        module.program("k")

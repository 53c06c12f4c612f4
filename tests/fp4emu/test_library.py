"""`printf` and `assert` of CUDA C++, and the grid that cooperative groups synchronise, as nvcc compiles them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fp4emu import Fault, Gpu

HEAD = """.version 8.0
.target sm_90
.address_size 64
.extern .func (.param .b32 r) vprintf (.param .b64 f, .param .b64 a);
.extern .func __assertfail (.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);
"""


def _string(name: str, text: str) -> str:
    data = [*text.encode(), 0]
    return f".global .align 1 .b8 {name}[{len(data)}] = {{{', '.join(map(str, data))}}};\n"


def _print(text: str, *stores: str, size: int = 64) -> str:
    """A kernel that prints each thread's arguments."""
    return (
        HEAD + _string("$str", text) + _string("$name", "abc")
        + f".visible .entry k(.param .u64 out) {{\n.local .align 8 .b8 args[{size}];\n"
        ".reg .b64 %rd<16>; .reg .b32 %r<16>; .reg .f64 %f<4>; .reg .pred %p<4>;\n"
        "mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u64 %rd1, args; cvta.local.u64 %rd2, %rd1;\n"
        "mov.u64 %rd3, $name; cvta.global.u64 %rd4, %rd3;\n" + "\n".join(stores) +
        "\nmov.u64 %rd5, $str; cvta.global.u64 %rd6, %rd5;\n"
        "{ .param .b64 param0; st.param.b64 [param0], %rd6; .param .b64 param1; st.param.b64 [param1], %rd2;\n"
        ".param .b32 retval0; call.uni (retval0), vprintf, (param0, param1); ld.param.b32 %r9, [retval0]; }\n"
        "mad.lo.u32 %r10, %r2, 40, %r1; ld.param.u64 %rd7, [out]; mad.wide.u32 %rd7, %r10, 4, %rd7;\n"
        "st.global.b32 [%rd7], %r9; ret; }\n"
    )  # fmt: skip


def _run(
    text: str, *, grid: int = 1, block: int = 1, order: str | None = None, seed: int | None = None
) -> tuple[str, Sequence[int]]:
    gpu = Gpu("sm_90a", mode="immediate" if seed is None else "delayed", seed=seed or 0)
    out = gpu.alloc(4 * 40 * grid)
    gpu.write(out, bytes(4 * 40 * grid))
    gpu.launch(gpu.load(text), "k", (grid,), (block,), params=[out.to_bytes(8, "little")], order=order)  # type: ignore[arg-type]
    return gpu.printed, np.frombuffer(gpu.read(out, 4 * 40 * grid), np.int32).tolist()


@pytest.mark.parametrize(
    ("text", "stores", "expected", "count"),
    [
        ("hello 100%%\n", [], "hello 100%\n", 0),
        ("%d %u|", ["st.local.b32 [%rd1], -5;", "st.local.b32 [%rd1+4], -5;"], "-5 4294967291|", 2),
        ("%5d|%-5d|%05d|%+d", [f"st.local.b32 [%rd1+{4 * i}], 42;" for i in range(4)], "   42|42   |00042|+42", 4),
        ("%x %X %#o", [f"st.local.b32 [%rd1+{4 * i}], 255;" for i in range(3)], "ff FF 0377", 3),
        ("%d %lld %hd",
         ["st.local.b32 [%rd1], 1;", "st.local.b64 [%rd1+8], -9000000000;", "st.local.b32 [%rd1+16], 3;"],
         "1 -9000000000 3", 3),
        ("%c%s %llu", ["st.local.b32 [%rd1], 122;", "st.local.b64 [%rd1+8], %rd4;", "st.local.b64 [%rd1+16], -1;"],
         "zabc 18446744073709551615", 3),
        ("%.3f %8.2e %g", [f"st.local.f64 [%rd1+{8 * i}], 0d400921FB54442D18;" for i in range(3)],
         "3.142 3.14e+00 3.14159", 3),
        ("%*d|%.*f|%p", ["st.local.b32 [%rd1], 6;", "st.local.b32 [%rd1+4], 7;", "st.local.b32 [%rd1+8], 1;",
                      "st.local.f64 [%rd1+16], 0d3FF8000000000000;", "st.local.b64 [%rd1+24], 4096;"],
         "     7|1.5|0x1000", 5),
    ],
)  # fmt: skip
def test_conversions(text: str, stores: list[str], expected: str, count: int) -> None:
    printed, returned = _run(_print(text, *stores))
    assert printed == expected
    assert returned[0] == count


@pytest.mark.parametrize("order", [None, "strict"])
@pytest.mark.parametrize("seed", [None, 5])
def test_threads_print_in_their_order(order: str | None, seed: int | None) -> None:
    text = _print("%d.%d\n", "st.local.b32 [%rd1], %r2;", "st.local.b32 [%rd1+4], %r1;")
    printed, _ = _run(text, grid=3, block=40, order=order, seed=seed)
    assert printed == "".join(f"{cta}.{thread}\n" for cta in range(3) for thread in range(40))


def test_a_conversion_that_there_is_not() -> None:
    with pytest.raises(Fault, match=r"the conversion '%n' is not emulated"):
        _run(_print("%n", "st.local.b64 [%rd1], %rd2;"))


def test_an_argument_that_was_not_written() -> None:
    with pytest.raises(Fault, match="never written"):
        _run(_print("%d"))


def test_an_assertion_says_where_it_failed() -> None:
    body = (
        HEAD + _string("$a", "i < n") + _string("$b", "k.cu") + _string("$c", "void k()")
        + ".visible .entry k(.param .u64 out) { .reg .b64 %rd<4>; .reg .b32 %r; .reg .pred %p;\n"
        "mov.u32 %r, %tid.x; setp.lt.u32 %p, %r, 7; @%p bra OK;\n"
        "mov.u64 %rd1, $a; cvta.global.u64 %rd1, %rd1; mov.u64 %rd2, $b; cvta.global.u64 %rd2, %rd2; "
        "mov.u64 %rd3, $c; cvta.global.u64 %rd3, %rd3;\n"
        "{ .param .b64 a; .param .b64 b; .param .b32 c; .param .b64 d; .param .b64 e;\nst.param.b64 [a], %rd1; "
        "st.param.b64 [b], %rd2; st.param.b32 [c], 12; st.param.b64 [d], %rd3; st.param.b64 [e], 1;\n"
        "call.uni __assertfail, (a, b, c, d, e); }\nOK: ret; }\n"
    )  # fmt: skip
    _run(body, block=7)
    with pytest.raises(Fault, match=r"lane 7.*assertion failed: k.cu:12: void k\(\): i < n"):
        _run(body, block=32)


GRID = """.version 8.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 out) {{
.reg .b64 %d<8>; .reg .b32 %r<16>; .reg .pred %p<8>;
ld.param.u64 %d1, [out]; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %nctaid.x; mov.u32 %r3, %tid.x;
mov.b64 %d2, {{%envreg2, %envreg1}}; setp.eq.u64 %p1, %d2, 0; @%p1 trap;
mad.wide.u32 %d3, %r1, 4, %d1; setp.ne.u32 %p2, %r3, 0; @%p2 bra STORED; st.global.b32 [%d3], %r1;
STORED: bar.sync 0; @%p2 bra JOINED;
{before} setp.eq.u32 %p3, %r1, 0; sub.u32 %r4, 0x80000001, %r2; selp.b32 %r4, %r4, 1, %p3;
atom.global.add.u32 %r5, [%d2+4], %r4;
SPIN: ld.volatile.global.u32 %r6, [%d2+4]; xor.b32 %r7, %r5, %r6; setp.gt.s32 %p4, %r7, -1; @%p4 bra SPIN;
{after}
JOINED: bar.sync 0; @%p2 bra END;
add.u32 %r8, %r1, 1; rem.u32 %r8, %r8, %r2; mad.wide.u32 %d4, %r8, 4, %d1; ld.global.b32 %r9, [%d4];
bar.sync 1, 32; st.global.b32 [%d3+{shift}], %r9;
END: ret;
}}
"""


def _grid(ctas: int, before: str = "membar.gl;", after: str = "membar.gl;", order: str | None = "strict") -> list[int]:
    gpu = Gpu("sm_90a")
    out = gpu.alloc(8 * ctas)
    text = GRID.format(before=before, after=after, shift=4 * ctas).replace("bar.sync 1, 32;", "")
    gpu.launch(gpu.load(text), "k", (ctas,), (64,), params=[out.to_bytes(8, "little")], order=order)  # type: ignore[arg-type]
    return np.frombuffer(gpu.read(out + 4 * ctas, 4 * ctas), np.int32).tolist()


@pytest.mark.parametrize("ctas", [1, 2, 20])
def test_a_grid_that_synchronises(ctas: int) -> None:
    assert _grid(ctas) == [(i + 1) % ctas for i in range(ctas)]


@pytest.mark.parametrize(("before", "after"), [("", "membar.gl;"), ("membar.gl;", ""), ("membar.cta;", "membar.gl;")])
def test_a_fence_of_the_grid_left_out(before: str, after: str) -> None:
    with pytest.raises(Fault, match=r"\[race\]"):
        _grid(4, before, after)


def test_a_grid_that_is_not_resident_at_once() -> None:
    with pytest.raises(Fault, match="cooperative launch: the grid has 149 CTAs, of which 148 are resident at once"):
        _grid(149, order=None)

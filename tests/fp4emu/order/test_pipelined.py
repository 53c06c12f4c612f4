"""Pipelined tcgen05 instructions (PTX ISA 9.7.16.6.2): two MMAs of one thread follow each other where accumulator and
shape are the same; elsewhere the first must have been waited for."""

from __future__ import annotations

from typing import Any

import pytest

from fp4emu import Fault

HEAD = ".shared .align 128 .b8 operand[8192]; .shared .align 8 .b64 done; .shared .align 8 .b32 place;"
REGS = ".reg .b64 %a, %b; .reg .pred %q;"
BODY = (
    "mov.b32 %r1, operand; mov.b32 %r2, done; mov.b32 %r3, place;\n"
    "tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r3], 64;\n"
    "shl.b32 %r4, %L, 8; add.u32 %r4, %r4, %r1; mov.u32 %r5, 0; mov.u32 %r9, 0;\n"
    "FILL: add.u32 %r6, %r4, %r5; st.shared.v4.b32 [%r6], {{%r9, %r9, %r9, %r9}}; add.u32 %r5, %r5, 16; "
    "setp.lt.u32 %p0, %r5, 256; @%p0 bra FILL;\n"
    "setp.ne.u32 %p1, %L, 0; @%p1 bra READY; mbarrier.init.shared.b64 [%r2], 1; fence.mbarrier_init.release.cluster;\n"
    "READY: fence.proxy.async.shared::cta; bar.warp.sync -1; ld.shared.b32 %r7, [%r3]; @%p1 bra END;\n"
    "shr.u32 %r8, %r1, 4; cvt.u64.u32 %a, %r8; or.b64 %a, %a, {descriptor}; mov.pred %q, 0;\n"
    "tcgen05.mma.cta_group::1.kind::f16 [%r7], %a, %a, {first}, %q;\n{between}\n"
    "add.u32 %r10, %r7, {column};\n"
    "tcgen05.mma.cta_group::1.kind::f16 [%r10], %a, %a, {second}, %q;\n"
    "tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%r2];\n"
    "W: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2], {phase}; @!%p2 bra W; tcgen05.fence::after_thread_sync;\n"
    "tcgen05.fence::before_thread_sync;\nEND: bar.warp.sync -1; tcgen05.fence::after_thread_sync;\n"
    "tcgen05.dealloc.cta_group::1.sync.aligned.b32 %r7, 64;"
)
DESCRIPTOR = 128 >> 4 << 16 | 256 >> 4 << 32 | 1 << 46
COMPLETE = (
    "tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%r2];\n"
    "V: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2], 0; @!%p2 bra V; tcgen05.fence::after_thread_sync;"
)


def _shape(n: int, m: int = 128) -> int:
    """The instruction descriptor of f16 operands with sums in f32."""
    return 1 << 4 | n >> 3 << 17 | m >> 4 << 24


def _run(kernel: Any, column: int, n: int, m: int = 128, between: str = "", order: str = "strict") -> None:
    body = BODY.format(
        descriptor=DESCRIPTOR, first=_shape(16), second=_shape(n, m), column=column, between=between,
        phase=1 if between else 0,
    )  # fmt: skip
    for options in ({}, {"mode": "delayed", "seed": 2}):
        kernel(body, head=HEAD, regs=REGS, order=order, **options)


def test_mmas_that_follow_each_other(kernel: Any) -> None:
    _run(kernel, 0, 16)


@pytest.mark.parametrize(("column", "n", "m"), [(8, 16, 128), (0, 32, 128), (0, 16, 64)])
def test_another_accumulator_or_shape(column: int, n: int, m: int, kernel: Any) -> None:
    _run(kernel, column, n, m, between=COMPLETE)
    with pytest.raises(Fault, match=r"(?s)\[mma-mma\].*missing: tcgen05.commit"):
        _run(kernel, column, n, m)
    _run(kernel, column, n, m, order="default")

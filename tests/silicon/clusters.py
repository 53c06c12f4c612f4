"""What CTAs of a cluster do with each other's shared memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from .program import Program, address
from .values import Random

BLOCK = 64
MEET = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;\n"
START = """
.shared .align 128 .b8 window[2048]; .shared .align 8 .b64 bar; .reg .b32 %size, %rank, %peer, %near, %far, %mine, %its;
mov.u32 %rank, %cluster_ctarank; mov.u32 %size, %cluster_nctarank; mov.b32 %near, window; mov.b32 %mine, bar;
mad.lo.u32 %r1, %T, 16, %near; mad.lo.u32 %r2, %rank, 977, %T; mad.lo.u32 %r2, %r2, 40503, 7;
st.shared.v4.b32 [%r1], {%r2, %T, %rank, 5}; st.shared.v4.b32 [%r1+1024], {%T, %r2, 9, %rank};
setp.ne.u32 %p1, %T, 0; @%p1 bra MADE; mbarrier.init.shared.b64 [%mine], 1; fence.mbarrier_init.release.cluster;
MADE: fence.proxy.async.shared::cta;
"""


def _end() -> str:
    """Each CTA's window to the output."""
    return f"""
mad.lo.u32 %r3, %C, {2048 // 16}, %T; {address("%out", "%r3", 16)}
ld.shared.v4.b32 {{%r4, %r5, %r6, %r7}}, [%r1]; st.global.v4.b32 [%at], {{%r4, %r5, %r6, %r7}};
ld.shared.v4.b32 {{%r4, %r5, %r6, %r7}}, [%r1+1024]; st.global.v4.b32 [%at+1024], {{%r4, %r5, %r6, %r7}};
"""


def _peer(step: int) -> str:
    """The CTA `step` on in the cluster: its window and its mbarrier."""
    return f"""add.u32 %peer, %rank, {step}; rem.u32 %peer, %peer, %size;
mapa.shared::cluster.u32 %far, %near, %peer; mapa.shared::cluster.u32 %its, %mine, %peer;
"""


def _waited(size: int) -> str:
    """Who expects bytes, and waits for them."""
    return f"""@%p1 bra EXPECTED; mbarrier.arrive.expect_tx.shared.b64 _, [%mine], {size};
EXPECTED: {MEET}"""


POLL = "\nPOLL: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p2, [%mine], 0; @!%p2 bra POLL;\n"
ASYNC = (*itertools.product(("add", "min", "max"), ("u32", "s32")), ("add", "u64"), ("inc", "u32"), ("dec", "u32"),
         *((op, "b32") for op in ("and", "or", "xor")))  # fmt: skip


def clusters() -> Iterator[Program]:
    """Loads, stores, atomics, st.async, red.async, bulk copies and multicasts in clusters of 2 and 4 CTAs."""
    for count, step in itertools.product((2, 4), (1, 3)):
        random = Random(f"cluster {count} {step}")
        lane = f"xor.b32 %r8, %T, {random.one(BLOCK)}; mad.lo.u32 %r9, %r8, 16, %far;"
        near = f"{START}{MEET}{_peer(step)}{lane}"
        load = "ld.shared::cluster.v2.b32 {%r10, %r11}, [%r9+8]; getctarank.shared::cluster.u32 %r12, %r9;"
        kept = "st.shared.v4.b32 [%r1], {%r10, %r11, %r12, %r8};"
        yield _program(f"ld {count} {step}", f"{near}{load}{MEET}{kept}", count)
        store = "st.shared::cluster.v2.b32 [%r9+8], {%r2, %rank}; st.shared::cluster.u8 [%r9+1024], %r2;"
        yield _program(f"st {count} {step}", f"{near}{store}{MEET}", count)
        adds = "and.b32 %r8, %T, 3; mad.lo.u32 %r9, %r8, 4, %far; atom.shared::cluster.add.u32 %r10, [%r9], %r2; "
        more = "red.shared::cluster.max.s32 [%r9+1040], %r2;"
        yield _program(f"atom {count} {step}", f"{near}{adds}{more}{MEET}", count)
        send = "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%r9+1024], {%r2, %T}, [%its];"
        waited = f"{START}{_waited(8 * BLOCK)}{_peer(step)}"
        yield _program(f"st.async {count} {step}", f"{waited}{lane}{send}{POLL}{MEET}", count)
        first = random.one(40) * 16
        copy = f"""@%p1 bra SENT; add.u32 %r9, %far, {1024 + first % 512}; add.u32 %r10, %near, {first};
cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r9], [%r10], 256, [%its];
SENT:{POLL}{MEET}"""
        yield _program(f"copy {count} {step}", f"{START}{_waited(256)}{_peer(step)}{copy}", count)
        yield _program(f"multicast {count} {step}", f"{START}{_waited(512)}{_multicast(random, count)}", count)
    for (op, t), count in itertools.product(ASYNC, (2, 4)):
        bits = int(t[1:])
        value = "%r2" if bits == 32 else "%x1"
        lane = "mov.b64 %x1, {%r2, %T}; xor.b32 %r8, %T, 5; mad.lo.u32 %r9, %r8, 16, %far;"
        kind = f"red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.{op}.{t}"
        send = f"{kind} [%r9], {value}, [%its];"
        body = f"{START}{_waited(bits // 8 * BLOCK)}{_peer(1)}{lane}{send}{POLL}{MEET}"
        yield _program(f"red.async.{op}.{t} {count}", body, count)


def _multicast(random: Random, count: int) -> str:
    """CTA 0 copies the same bytes to all."""
    target, source = 16 * random.one(60), 16 * random.one(60)
    return f"""
or.b32 %r8, %rank, %T; setp.ne.u32 %p1, %r8, 0; @%p1 bra SENT; mov.b16 %h1, {(1 << count) - 1};
add.u32 %r9, %near, {target}; add.u64 %x1, %in0, {source};
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r9], [%x1], 512, [%mine], %h1;
SENT:{POLL}{MEET}"""


def _program(name: str, body: str, count: int) -> Program:
    data = Random(f"cluster {name}").bits(2048, "u1")
    grid = 2 * count
    return Program(f"cluster {name}", body + _end(), (data,), 2048 * grid, BLOCK, grid, count)


FAMILIES = {"clusters": clusters}

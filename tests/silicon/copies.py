"""mbarriers, cp.async, bulk copies and TMA."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from math import prod

import numpy as np

from .program import Array, Map, Program, copied, stores
from .values import Random

WINDOW, TENSOR = 16 << 10, 64 << 10
BLOCK = 128
READY = """
.shared .align 8 .b64 bar;
mov.b32 %r1, bar; setp.ne.u32 %p1, %T, 0; @%p1 bra MADE;
mbarrier.init.shared.b64 [%r1], 1; fence.mbarrier_init.release.cluster;
MADE: bar.sync 0;
"""
WAIT = "\nPOLL: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r1], 0; @!%p2 bra POLL;\n"


def phases() -> Iterator[Program]:
    """One thread's random use of an mbarrier: what each wait says, and what is pending after each arrival."""
    for number in range(48):
        random = Random(f"mbarrier {number}")
        expected = random.between(1, 9)
        pending, bytes_, count = expected, 0, 0
        lines = [f".shared .align 8 .b64 bar; mov.b32 %r1, bar; mbarrier.init.shared.b64 [%r1], {expected};"]

        def note(code: str, lines: list[str] = lines) -> None:
            lines.append(f"{code} st.global.b32 [%out+{4 * len(lines)}], %r2;")

        for _ in range(40):
            kind = random.pick(["arrive", "count", "expect", "complete", "test", "parity", "drop", "both", "no"])
            n = random.between(1, pending)
            if kind in ("arrive", "drop", "both", "count", "no"):
                n = 1 if kind in ("arrive", "drop", "both") else n
                if kind == "no" and n == pending:
                    continue  # .noComplete must not end the phase
                if kind == "drop" and expected == 1:
                    continue
                tx = random.between(1, 500) if kind == "both" else 0
                name = {"drop": "arrive_drop", "no": "arrive.noComplete", "both": "arrive.expect_tx"}.get(
                    kind, "arrive"
                )
                last = {"count": f", {n}", "no": f", {n}", "both": f", {tx}"}.get(kind, "")
                note(f"mbarrier.{name}.shared.b64 %x1, [%r1]{last}; mbarrier.pending_count.b64 %r2, %x1;")
                expected -= kind == "drop"
                pending, bytes_ = pending - n, bytes_ + tx
                note("mbarrier.test_wait.shared.b64 %p1, [%r1], %x1; selp.b32 %r2, 1, 0, %p1;")
            elif kind == "expect":
                tx = random.between(1, 1000)
                lines.append(f"mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r1], {tx};")
                bytes_ += tx
            elif kind == "complete" and bytes_:
                tx = random.between(1, bytes_)
                lines.append(f"mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r1], {tx};")
                bytes_ -= tx
            else:
                parity = random.one(2)
                note(f"mbarrier.test_wait.parity.shared.b64 %p1, [%r1], {parity}; selp.b32 %r2, 1, 0, %p1;")
            if not pending and not bytes_:
                pending = expected
            if not pending:  # only bytes are missing: complete them, for another arrival would be one too many
                lines.append(f"mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r1], {bytes_};")
                pending, bytes_ = expected, 0
        count = len(lines)
        yield Program(f"mbarrier {number}", "\n".join(lines), (), 4 * count, 1, whole=True)


def small_copies() -> Iterator[Program]:
    """cp.async with each size and any number of source bytes; ld and st of each width."""
    for (size, cache), number in itertools.product(((4, "ca"), (8, "ca"), (16, "ca"), (16, "cg")), range(4)):
        random = Random(f"cp.async {size} {cache} {number}")
        data = random.bits(BLOCK * 64, "u1")
        places = random.below(4 * BLOCK * 16 // size, BLOCK) * size % (BLOCK * 48)
        given = np.stack([places, random.below(size + 1, BLOCK)], axis=1)
        body = f"""
.shared .align 128 .b8 window[{WINDOW}];
{_filled(random)}
mad.wide.u32 %at, %T, 8, %in1; ld.global.b32 %r1, [%at]; ld.global.b32 %r2, [%at+4];
cvt.u64.u32 %x1, %r1; add.u64 %x1, %x1, %in0; mov.b32 %r3, window; mad.lo.u32 %r3, %T, {size}, %r3;
cp.async.{cache}.shared.global [%r3], [%x1], {size}, %r2;
cp.async.commit_group; cp.async.wait_group 0; bar.sync 0;
{copied(WINDOW, BLOCK, "OUT", to_shared=False, base="%out")}"""
        yield Program(f"cp.async.{cache} {size} {number}", body, (data, given.astype(np.uint32)), WINDOW)
    for number in range(6):
        yield _widths(number)


def _widths(number: int) -> Program:
    random = Random(f"ld st {number}")
    data = random.bits(4096, "u1")
    lines = [".shared .align 128 .b8 window[4096];", copied(4096, BLOCK, "IN", to_shared=True)]
    lines += ["mov.b32 %r24, window; mad.lo.u32 %r24, %T, 32, %r24; mad.wide.u32 %x8, %T, 32, %in0;"]
    lines.append("mad.wide.u32 %x9, %T, 64, %out;")
    for i in range(8):
        t = random.pick(["u8", "s8", "u16", "s16", "u32", "s32", "b32"])
        step = int(t[1:]) // 8
        offset = random.one(32 // step) * step
        source = random.pick(["ld.shared", "ld.global", "ld.volatile.shared", "ld.relaxed.cta.shared"])
        place = "%r24" if "shared" in source else "%x8"
        lines.append(f"{source}.{t} %r{i + 1}, [{place}+{offset}];")
    lines.append("ld.shared.v4.u8 {%r10, %r11, %r12, %r13}, [%r24+4]; ld.shared.v2.b64 {%x1, %x2}, [%r24+16];")
    lines.append("mad.lo.u32 %r10, %r11, 7, %r10; mad.lo.u32 %r12, %r13, 9, %r12; bar.sync 0;")
    lines.append(f"cvt.u16.u32 %h1, %r2; st.shared.u8 [%r24+{random.one(8)}], %r1;")
    lines.append(f"st.shared.b16 [%r24+{8 + 2 * random.one(4)}], %h1; st.shared.b64 [%r24+24], %x1;")
    lines.append("ld.shared.v4.b32 {%r14, %r15, %r16, %r17}, [%r24+0]; ld.shared.b64 %x3, [%r24+24];")
    lines.append("xor.b64 %x2, %x2, %x3; mov.b64 {%r18, %r19}, %x2;")
    lines.append(stores("%x9", "0", [f"%r{i}" for i in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15, 16, 17, 18, 19)]))
    return Program(f"ld st {number}", "\n".join(lines), (data,), BLOCK * 64)


def _filled(random: Random) -> str:
    """PTX that fills the window with a pattern of its place."""
    factor = random.bits(1, "u4")[0] | 1
    return f"""
mov.b32 %r24, window; mad.lo.u32 %r24, %T, 4, %r24; mad.lo.u32 %r25, %T, {factor}, 12345; mov.u32 %i, 0;
FILL: st.shared.b32 [%r24], %r25; add.u32 %r24, %r24, {4 * BLOCK}; mad.lo.u32 %r25, %r25, 1664525, 1013904223;
add.u32 %i, %i, 1; setp.lt.u32 %p7, %i, {WINDOW // 4 // BLOCK}; @%p7 bra FILL;
fence.proxy.async.shared::cta; bar.sync 0;
"""


REDUCTIONS = (
    *itertools.product(("add",), ("u32", "s32", "u64", "f32", "f64", "noftz.f16", "noftz.bf16")),
    *itertools.product(("min", "max"), ("u32", "s32", "u64", "s64", "f16", "bf16")),
    *itertools.product(("inc", "dec"), ("u32",)), *itertools.product(("and", "or", "xor"), ("b32", "b64")),
)  # fmt: skip


def bulk() -> Iterator[Program]:
    """cp.async.bulk in both directions, and its reductions."""
    for number in range(16):
        random = Random(f"bulk {number}")
        size = 16 * random.between(1, 256)
        target, source = (16 * random.one((WINDOW - size) // 16) for _ in range(2))
        start = f".shared .align 128 .b8 window[{WINDOW}];{_filled(random)}{READY}"
        if number % 2:
            work = f"""@%p1 bra WAITING; mbarrier.arrive.expect_tx.shared.b64 _, [%r1], {size}; mov.b32 %r2, window;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2+{target}], [%in0+{source}], {size}, [%r1];
WAITING:{WAIT}{copied(WINDOW, BLOCK, "OUT", to_shared=False, base="%out")}"""
        else:
            work = f"""@%p1 bra DONE; mov.b32 %r2, window;
cp.async.bulk.global.shared::cta.bulk_group [%out+{target}], [%r2+{source}], {size};
cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;
DONE:"""
        yield Program(f"bulk copy {number}", start + work, (random.bits(WINDOW, "u1"),), WINDOW, BLOCK)
    for op, t in REDUCTIONS:
        random = Random(f"bulk {op} {t}")
        size = 16 * random.between(8, 64)
        kind = t.removeprefix("noftz.")
        data = _numbers(kind, 1024, random)
        before = _numbers(kind, 1024, random)
        body = f""".shared .align 128 .b8 window[1024];
{copied(1024, 64, "IN", to_shared=True)}fence.proxy.async.shared::cta; bar.sync 0;
setp.ne.u32 %p1, %T, 0; @%p1 bra DONE; mov.b32 %r2, window;
cp.reduce.async.bulk.global.shared::cta.bulk_group.{op}.{t} [%out], [%r2], {size};
cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;
DONE:"""
        yield Program(f"bulk {op}.{t}", body, (data,), 1024, 64, fill=before)


def _numbers(kind: str, size: int, random: Random) -> Array:
    """Bytes of random numbers, finite if they are floats."""
    name = {"f16": "f2", "f32": "f4", "f64": "f8"}.get(kind)
    if kind == "bf16":
        floats = ((random.unit(size // 2) - 0.5) * 64).astype(np.float32).view(np.uint32) >> 16
        return floats.astype(np.uint16).view(np.uint8)
    if name is None:
        return random.bits(size, "u1")
    count = size // np.dtype(name).itemsize
    return ((random.unit(count) - 0.5) * 2.0 ** random.below(12, count)).astype(name).view(np.uint8)


BYTES = {0: 1, 1: 2, 2: 4, 3: 4, 4: 8, 5: 8, 6: 2, 7: 4, 8: 8, 9: 2, 10: 4, 11: 4, 12: 4}
SPANS = {0: 0, 1: 32, 2: 64, 3: 128}


def tma() -> Iterator[Program]:
    """TMA loads and stores: boxes of each rank, element type, swizzle and fill, and places in and out of tensors."""
    ways = itertools.product(("load", "load", "store", "reduce"), range(1, 6), range(24))
    for number, (op, rank, _) in enumerate(ways):
        yield _tma(op, rank, number)


def _tma(op: str, rank: int, number: int) -> Program:
    random = Random(f"tma {op} {number}")
    kind = random.pick([2, 3, 4, 6, 7, 9] if op == "reduce" else list(BYTES))
    size, swizzle = BYTES[kind], random.one(4)
    limit = min(SPANS[swizzle] or 256, 256 * size)
    box = [16 * random.between(1, limit // 16) // size]
    steps = [1]
    while len(box) < rank:
        room = WINDOW // 2 // (max(box[0] * size, SPANS[swizzle]) * prod(box[1:]))
        box.append(random.between(1, max(1, min(12, room))))
        steps.append(random.pick([1, 1, 1, 2, 3]))
    steps = [s if b * s <= 256 else 1 for b, s in zip(box, steps, strict=True)]
    counts = [-(-b // s) for b, s in zip(box, steps, strict=True)]
    dims = [random.between(1, box[0] * 2)] + [random.between(1, 2 * b + 3) for b in box[1:]]
    strides: list[int] = []
    pitch = -(-dims[0] * size // 16) * 16
    for dim in dims[1:]:
        strides.append(pitch + 16 * random.one(3))
        pitch = strides[-1] * dim
    if pitch > TENSOR:
        dims, strides = [dims[0], *(1 for _ in dims[1:])], [strides[0] for _ in strides]
    low = -1 if op == "load" else 0
    inner = 16 // size
    place = [inner * random.between(low, max(1, dims[0] // inner))]
    place += [random.between(low * 2, d) for d in dims[1:]]
    fill = random.one(2) if kind in (6, 7, 8, 9, 10, 11, 12) else 0
    align = {0: 128, 1: 256, 2: 512, 3: 1024}[swizzle]
    offset = align * random.one(max(1, (WINDOW // 2) // align))
    shape = tuple(dims), tuple(strides), tuple(box), tuple(steps)
    described = Map(0 if op == "load" else -1, kind, *shape, swizzle, fill)
    where = "{" + ", ".join(str(p) for p in place) + "}"
    start = f".shared .align 1024 .b8 window[{WINDOW}];"
    if op == "load":
        work = f"""{_filled(random)}{READY}@%p1 bra WAITING; mov.b32 %r2, window;
mbarrier.arrive.expect_tx.shared.b64 _, [%r1], {prod(counts) * size};
cp.async.bulk.tensor.{rank}d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2+{offset}], [%map, {where}], [%r1];
WAITING:{WAIT}{copied(WINDOW, BLOCK, "OUT", to_shared=False, base="%out")}"""
        data = random.bits(TENSOR, "u1")
        return Program(f"tma load {number}", start + work, (data,), WINDOW, BLOCK, map=described)
    reduce = random.pick(_OPERATIONS[kind]) if op == "reduce" else ""
    name = f"cp.reduce.async.bulk.tensor.{rank}d.global.shared::cta.{reduce}.bulk_group" if reduce else (
        f"cp.async.bulk.tensor.{rank}d.global.shared::cta.bulk_group")  # fmt: skip
    typed = _NAMES.get(kind, "b32")
    work = f"""{copied(WINDOW, BLOCK, "IN", to_shared=True)}fence.proxy.async.shared::cta; bar.sync 0;
setp.ne.u32 %p1, %T, 0; @%p1 bra DONE; mov.b32 %r2, window;
{name} [%map, {where}], [%r2+{offset}]; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;
DONE:"""
    data, before = _numbers(typed, WINDOW, random), _numbers(typed, TENSOR, random)
    title = f"tma {op} {reduce} {number}".replace("  ", " ")
    return Program(title, start + work, (data,), TENSOR, BLOCK, fill=before, map=described)


_NAMES = {6: "f16", 7: "f32", 8: "f64", 9: "bf16", 10: "f32", 11: "f32", 12: "f32"}
_OPERATIONS = {2: ("add", "min", "max", "inc", "dec", "and", "or", "xor"), 3: ("add", "min", "max"),
               4: ("add", "min", "max", "and", "or", "xor"), 6: ("add", "min", "max"), 7: ("add",),
               9: ("add", "min", "max")}  # fmt: skip

FAMILIES = {"phases": phases, "small_copies": small_copies, "bulk": bulk, "tma": tma}

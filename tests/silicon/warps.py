"""What the lanes of a warp do together, atomics, and sequences of instructions that depend on each other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from .program import Array, Program, address, loads, stores
from .values import BITS, Random, draw

THREADS = 128


def shuffles() -> Iterator[Program]:
    """shfl.sync with any lane and clamp operands, vote, match, redux and elect, whole warps and some of their lanes."""
    for round_, mode in itertools.product(range(3), ("up", "down", "bfly", "idx")):
        random = Random(f"shfl {mode} {round_}")
        clamp = random.pick([(0,), (31,), (0x1F, 0x081F, 0x101F, 0x181F, 0x1C03, 0x0400, 0x181C)])
        c = np.array(clamp, np.uint32)[random.below(len(clamp), THREADS)]
        given = np.stack([draw("b32", THREADS, random), draw("lane", THREADS, random), c], axis=1)
        code = f"shfl.sync.{mode}.b32 %r4|%p1, %r1, %r2, %r3, -1; selp.b32 %r5, 1, 0, %p1;"
        yield _lanes(f"shfl.sync.{mode} {round_}", code, given, 3, ("%r4", "%r5"))
    for round_, (name, (code, kind)) in itertools.product(range(3), _masked().items()):
        random = Random(f"{name} {round_}")
        masks = np.array([0xFFFF_FFFF, *random.bits(3, "u4")], np.uint32) | np.uint32(round_ == 0)
        if name.startswith("match.all"):
            masks[1] = 1 << random.one(32)
        values = draw(kind, THREADS, random)
        values[96:] = values[96]
        given = np.stack([values, np.zeros(THREADS, np.uint32), np.repeat(np.where(masks, masks, 1), 32)], axis=1)
        inside = "mov.u32 %r4, 0; mov.u32 %r5, 0; shr.u32 %r6, %r3, %L; and.b32 %r6, %r6, 1; "
        inside += f"setp.eq.u32 %p3, %r6, 0; @%p3 bra AFTER; {code} AFTER:"
        yield _lanes(f"{name} {round_}", inside, given, 3, ("%r4", "%r5"))


def _masked() -> dict[str, tuple[str, str]]:
    """(PTX that makes %r4 and %r5 of %r1 and the membermask %r3, kind of %r1) of what has a membermask."""
    arithmetic = itertools.product(("add", "min", "max"), ("u32", "s32"))
    named = {f"redux.sync.{op}.{t}": t for op, t in (*arithmetic, *((op, "b32") for op in ("and", "or", "xor")))}
    found = {name: (f"{name} %r4, %r1, %r3; mov.u32 %r5, %r1;", t) for name, t in named.items()}
    test = "setp.gt.u32 %p2, %r1, 1;"
    for op in ("all", "any", "uni"):
        vote = f"{test} vote.sync.{op}.pred %p1, %p2, %r3; selp.b32 %r4, 1, 0, %p1;"
        found[f"vote.sync.{op}.pred"] = vote, "small"
    found["vote.sync.ballot.b32"] = f"{test} vote.sync.ballot.b32 %r4, %p2, %r3;", "small"
    found["match.any.sync.b32"] = "match.any.sync.b32 %r4, %r1, %r3;", "small"
    found["match.all.sync.b32"] = "match.all.sync.b32 %r4|%p1, %r1, %r3; selp.b32 %r5, 1, 0, %p1;", "small"
    found["match.any.sync.b64"] = "mov.b64 %x1, {%r1, %r1}; match.any.sync.b64 %r4, %x1, %r3;", "small"
    found["elect.sync"] = "elect.sync %r4|%p1, %r3; selp.b32 %r5, 1, 0, %p1;", "b32"
    return found


def _lanes(name: str, code: str, given: Array, count: int, results: tuple[str, ...]) -> Program:
    registers = [f"%r{i + 1}" for i in range(count)]
    body = f"{loads('%in0', '%T', registers)}\n{code}\n{stores('%out', '%T', results)}"
    return Program(name, body, (given.astype(np.uint32),), THREADS * 4 * len(results), whole=True)


ATOMS = (
    *itertools.product(("add", "min", "max"), ("u32", "s32", "u64", "s64")),
    *itertools.product(("and", "or", "xor"), ("b32", "b64")),
    *itertools.product(("inc", "dec"), ("u32",)),
    *itertools.product(("add",), ("f32", "f64", "noftz.f16", "noftz.f16x2", "noftz.bf16", "noftz.bf16x2")),
    *itertools.product(("exch",), ("b32", "b64")),
    *itertools.product(("cas",), ("b16", "b32", "b64")),
)


def atomics() -> Iterator[Program]:
    """atom, and red: each thread at its own address, of global and of shared memory; then all of them at a few."""
    for (op, t), space in itertools.product(ATOMS, ("global", "shared")):
        kind = t.removeprefix("noftz.")
        if kind == "s64" and op == "add":
            continue
        yield _own(op, t, kind, space)
    for op, t in (("add", "u32"), ("min", "s32"), ("max", "u64"), ("xor", "b32"), ("inc", "u32"), ("add", "u64")):
        for space in ("global", "shared"):
            yield _contended(op, t, space)


def _own(op: str, t: str, kind: str, space: str) -> Program:
    bits = BITS[kind]
    size, b = bits // 8, f"b{bits}"
    random = Random(f"atom {op} {t} {space}")
    start, operand, other = (draw(kind, THREADS, random) for _ in range(3))
    if op == "cas":
        operand = np.where(random.below(2, THREADS) == 1, start, operand)
    third = ", %v2" if op == "cas" else ""
    body = [f".reg .b{bits} %v<8>;"]
    if space == "shared":
        body.append(f".shared .align 8 .b8 cells[{THREADS * size}]; .reg .b32 %cell;")
        body.append(f"mov.b32 %cell, cells; mad.lo.u32 %cell, %T, {size}, %cell;")
    else:
        body += [".reg .b64 %cell;", address("%out", "%T", size, "%cell")]
    for i in range(3):
        body += [address(f"%in{i}", "%T", size), f"ld.global.{b} %v{i}, [%at];"]
    body.append(f"st.{space}.{b} [%cell], %v0; atom.{space}.{op}.{t} %v3, [%cell], %v1{third};")
    if op not in ("exch", "cas"):
        body.append(f"red.{space}.{op}.{t} [%cell], %v2;")
    body.append(f"ld.{space}.{b} %v4, [%cell];")
    body.append(address("%out", "%T", size))
    body += [f"st.global.{b} [%at+{(i + 1) * THREADS * size}], %v{3 + i};" for i in range(2)]
    if space == "shared":
        body.append(f"st.global.{b} [%at], %v4;")
    name = f"atom.{space}.{op}.{t}"
    return Program(name, "\n".join(body), (start, operand, other), 3 * THREADS * size, whole=True)


def _contended(op: str, t: str, space: str) -> Program:
    bits = BITS[t]
    size, b = bits // 8, f"b{bits}"
    random = Random(f"red {op} {t} {space}")
    operand = draw("small" if op == "inc" else t, THREADS, random)
    operand = np.full(THREADS, 11, np.uint32) if op == "inc" else operand
    where = random.below(8, THREADS).astype(np.uint32)
    body = [f".reg .b{bits} %v<4>; .reg .b64 %cell;", address("%in0", "%T", size), f"ld.global.{b} %v0, [%at];"]
    body += [address("%in1", "%T", 4), "ld.global.b32 %r1, [%at];", "setp.lt.u32 %p1, %T, 8;", f"mov.b{bits} %v1, 0;"]
    if space == "shared":
        body.append(".shared .align 8 .b8 cells[64]; .reg .b32 %near; mov.b32 %near, cells;")
        body.append(f"mad.lo.u32 %r2, %T, {size}, %near; mad.lo.u32 %r3, %r1, {size}, %near;")
        body.append(f"@%p1 st.shared.{b} [%r2], %v1; bar.sync 0; red.shared.{op}.{t} [%r3], %v0; bar.sync 0;")
        body += [address("%out", "%T", size), f"@%p1 ld.shared.{b} %v2, [%r2];", f"@%p1 st.global.{b} [%at], %v2;"]
    else:
        body += [address("%out", "%r1", size, "%cell"), f"red.global.{op}.{t} [%cell], %v0;"]
    return Program(f"red.{space}.{op}.{t}", "\n".join(body), (operand, where), 8 * size, whole=True)


# --- sequences ---

STEPS = (
    "add.u32 {d}, {a}, {b};", "sub.u32 {d}, {a}, {b};", "mul.lo.u32 {d}, {a}, {b};", "mul.hi.s32 {d}, {a}, {b};",
    "mad.lo.u32 {d}, {a}, {b}, {c};", "xor.b32 {d}, {a}, {b};", "and.b32 {d}, {a}, {b};", "or.b32 {d}, {a}, {b};",
    "lop3.b32 {d}, {a}, {b}, {c}, {n};", "shl.b32 {d}, {a}, {m};", "shr.s32 {d}, {a}, {m};",
    "shf.l.wrap.b32 {d}, {a}, {b}, {c};", "prmt.b32 {d}, {a}, {b}, {c};", "bfe.s32 {d}, {a}, {m}, 9;",
    "bfi.b32 {d}, {a}, {b}, {m}, 7;", "popc.b32 {d}, {a};", "brev.b32 {d}, {a};", "min.s32 {d}, {a}, {b};",
    "dp4a.s32.u32 {d}, {a}, {b}, {c};", "add.cc.u32 {d}, {a}, {b}; addc.u32 {a}, {b}, {c};",
    "setp.lt.s32 %p1, {a}, {b}; selp.b32 {d}, {b}, {c}, %p1;", "setp.gt.u32 %p1, {a}, {b}; @%p1 xor.b32 {d}, {a}, {c};",
    "shfl.sync.bfly.b32 {d}, {a}, {m}, 31, -1;", "shfl.sync.idx.b32 {d}, {a}, {b}, 31, -1;",
    "setp.ne.u32 %p1, {a}, {b}; vote.sync.ballot.b32 {d}, %p1, -1;", "redux.sync.xor.b32 {d}, {a}, -1;",
    "st.shared.b32 [%r24], {a}; bar.sync 0; ld.shared.b32 {d}, [%r25]; bar.sync 0;",
    "cvt.rn.f32.s32 {d}, {a}; cvt.rzi.s32.f32 {d}, {d};",
    "cvt.u16.u32 %h1, {a}; cvt.s32.s16 {d}, %h1;", "bar.red.popc.u32 {d}, 1, %p1;",
    "and.b32 %r26, {a}, 1; setp.eq.u32 %p2, %r26, 0; @%p2 bra S{at}; add.u32 {d}, {b}, {c}; xor.b32 {d}, {d}, {n}; "
    "S{at}: bar.warp.sync -1;",
)  # fmt: skip


def sequences() -> Iterator[Program]:
    """Random straight lines and short branches over six registers, with barriers, shared memory and shuffles."""
    for number in range(64):
        random = Random(f"sequence {number}")
        registers = [f"%r{i + 1}" for i in range(6)]
        given = np.stack([draw(random.pick(["b32", "s32", "lane"]), THREADS, random) for _ in registers], axis=1)
        body = [".shared .align 4 .b8 words[512];", loads("%in0", "%T", registers), "mov.b32 %r24, words;"]
        body.append(
            f"xor.b32 %r25, %T, {random.one(THREADS)}; mad.lo.u32 %r25, %r25, 4, %r24; mad.lo.u32 %r24, %T, 4, %r24;"
        )
        body.append("setp.lt.u32 %p1, %T, 77;")
        outside = False
        for at in range(28):
            d, a, b, c = (registers[random.one(6)] for _ in "dabc")
            step, n, m = random.pick(STEPS), random.one(256), random.one(40)
            outside |= step.startswith("bfe") and m > 31
            body.append(step.format(d=d, a=a, b=b, c=c, n=n, m=m, at=at))
        if (
            outside
        ):  # ptxas 13.0 makes something else of a constant position outside of the word than of one in a register
            continue
        body.append(stores("%out", "%T", registers))
        yield Program(f"sequence {number}", "\n".join(body), (given.astype(np.uint32),), THREADS * 4 * len(registers))


FAMILIES = {"shuffles": shuffles, "atomics": atomics, "sequences": sequences}

"""ldmatrix, stmatrix, mma.sync, wmma and wgmma."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from .program import Array, Near, Program, copied, loads, stores
from .values import Random

WIDTH = {"f16": 2, "bf16": 2, "tf32": 4, "e4m3": 1, "e5m2": 1, "s8": 1, "u8": 1, "f32": 4, "s32": 4}
FLOAT8 = ("e4m3", "e5m2")


def exact(kind: str, size: int, random: Random) -> Array:
    """`size` bytes of numbers whose products add up exactly, in any order and with 13 bits of alignment."""
    count = size // WIDTH[kind]
    if kind in ("s8", "u8"):
        return random.bits(size, "u1")
    if kind == "s32":
        return (random.below(20001, count) - 10000).astype(np.int32).view(np.uint8)
    if kind == "e4m3":
        return (random.below(2, count) * 128 + 0x38 + random.below(8, count)).astype(np.uint8)
    if kind == "e5m2":
        return (random.below(2, count) * 128 + 0x3C + random.below(4, count)).astype(np.uint8)
    return _encoded((random.below(17, count) - 8).astype(np.float32), kind)


def rounded(kind: str, size: int, random: Random) -> Array:
    """`size` bytes of numbers with magnitudes in [1, 2), whose sums no accumulator holds exactly."""
    count = size // WIDTH[kind]
    signs = 1 - 2 * random.below(2, count)
    return _encoded((signs * (1 + random.unit(count))).astype(np.float32), kind)


def special(kind: str, size: int, random: Random) -> Array:
    """Exact numbers, with a few infinities and NaN among them."""
    count = size // WIDTH[kind]
    values = (random.below(17, count) - 8).astype(np.float32)
    values[random.below(40, count) == 0] = np.inf
    values[random.below(60, count) == 0] = -np.inf
    values[random.below(60, count) == 0] = np.nan
    return _encoded(values, kind)


def _encoded(values: Array, kind: str) -> Array:
    if kind == "f16":
        return values.astype(np.float16).view(np.uint8)
    if kind == "bf16":
        return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    return values.view(np.uint8)


def fragments() -> Iterator[Program]:
    """ldmatrix and stmatrix at random rows."""
    for number, count, trans in itertools.product(range(3), (1, 2, 4), ("", ".trans")):
        random = Random(f"ldmatrix {count} {trans} {number}")
        registers = ", ".join(f"%r{i + 1}" for i in range(count))
        rows = random.below(256, 32).astype(np.uint32)
        rows = (random.below(8, 1) + np.argsort(random.bits(32, "u4"))).astype(np.uint32) if number else rows
        where = "mad.wide.u32 %at, %T, 4, %in1; ld.global.b32 %r9, [%at]; "
        where += "mov.b32 %r10, window; mad.lo.u32 %r9, %r9, 16, %r10;"
        start = f".shared .align 128 .b8 window[4096];{copied(4096, 32, 'IN', to_shared=True)}{where}"
        data = random.bits(4096, "u1")
        names = [f"%r{i + 1}" for i in range(count)]
        load = f"ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{registers}}}, [%r9];"
        out = 128 * count
        yield Program(
            f"ldmatrix x{count}{trans} {number}",
            f"{start}{load}\n{stores('%out', '%T', names)}",
            (data, rows),
            out,
            32,
            whole=True,
        )
        if not number:
            rows = np.argsort(random.bits(256, "u4"))[:32].astype(np.uint32)  # no row twice
        values = random.bits(128 * count, "u1")
        save = f"stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [%r9], {{{registers}}};"
        end = copied(4096, 32, "OUT", to_shared=False, base="%out")
        body = f"{start}{loads('%in2', '%T', names)}\n{save}\nbar.sync 0;{end}"
        yield Program(f"stmatrix x{count}{trans} {number}", body, (data, rows, values), 4096, 32)


# --- mma.sync ---

SHAPES = (
    *(("m16n8k8", d, "f16", "f16") for d in ("f32", "f16")), *(("m16n8k16", d, "f16", "f16") for d in ("f32", "f16")),
    ("m16n8k8", "f32", "bf16", "bf16"), ("m16n8k16", "f32", "bf16", "bf16"),
    ("m16n8k4", "f32", "tf32", "tf32"), ("m16n8k8", "f32", "tf32", "tf32"),
    *(("m16n8k32", "f32", a, b) for a, b in itertools.product(FLOAT8, repeat=2)),
    *(("m16n8k16", "f32", a, b) for a, b in itertools.product(FLOAT8, repeat=2)),
    *((shape, "s32", a, b) for shape, a, b in itertools.product(("m16n8k16", "m16n8k32"), ("s8", "u8"), ("s8", "u8"))),
)  # fmt: skip


def mma() -> Iterator[Program]:
    """mma.sync of each type, on exact numbers, on rounded ones and with infinities and NaN."""
    for shape, d, a, b in SHAPES:
        yield _mma(shape, d, a, b, "exact")
        if d == "s32":
            yield _mma(shape, d, a, b, "exact", ".satfinite")
        elif d == "f32" and a not in FLOAT8:
            yield _mma(shape, d, a, b, "rounded")
            yield _mma(shape, d, a, b, "special")


def _mma(shape: str, d: str, a: str, b: str, how: str, sat: str = "") -> Program:
    depth = int(shape.rpartition("k")[2])
    random = Random(f"mma {shape} {d} {a} {b} {how}{sat}")
    draw = {"exact": exact, "rounded": rounded, "special": special}[how]
    counts = 16 * depth * WIDTH[a] // 128, 8 * depth * WIDTH[b] // 128, 2 if d == "f16" else 4
    grid = 4
    first, second = (draw(k, 128 * n * grid, random) for k, n in zip((a, b), counts, strict=False))
    third = draw(d, 128 * counts[2] * grid, random)
    if sat:
        third = (random.bits(128 * grid, "u4") | np.uint32(0x7F00_0000)).view(np.uint8)
    names = [[f"%{x}{i}" for i in range(n)] for x, n in zip("abc", counts, strict=True)]
    kind = f"mma.sync.aligned.{shape}.row.col{sat}.{d}.{a}.{b}.{d}"
    lists = [f"{{{', '.join(n)}}}" for n in names]
    body = ".reg .b32 %a<8>, %b<8>, %c<8>; mad.lo.u32 %r1, %C, 32, %T;\n"
    body += "\n".join(loads(f"%in{i}", "%r1", n) for i, n in enumerate(names))
    body += f"\n{kind} {lists[2]}, {lists[0]}, {lists[1]}, {lists[2]};\n{stores('%out', '%r1', names[2])}"
    near = Near("f4", absolute=(depth + 2) * 2.0**-22 * (4 * depth + 2)) if how == "rounded" else None
    title = f"{kind} {how}"
    return Program(title, body, (first, second, third), 128 * counts[2] * grid, 32, grid, whole=True, near=near)


WMMA = (
    *(("m16n16k16", d, "f16") for d in ("f32", "f16")), ("m32n8k16", "f32", "f16"), ("m8n32k16", "f32", "f16"),
    *((s, "f32", "bf16") for s in ("m16n16k16", "m32n8k16", "m8n32k16")), ("m16n16k8", "f32", "tf32"),
    *((s, "s32", t) for s, t in itertools.product(("m16n16k16", "m32n8k16", "m8n32k16"), ("s8", "u8"))),
)  # fmt: skip


def wmma() -> Iterator[Program]:
    """wmma.load, mma and store, rows and columns, from memory to memory."""
    for (shape, d, a), left, right in itertools.product(WMMA, ("row", "col"), ("row", "col")):
        m, n, k = (int(x) for x in shape.replace("m", "").replace("n", " ").replace("k", " ").split())
        random = Random(f"wmma {shape} {d} {a} {left} {right}")
        strides = [max(s, 16 // WIDTH[a]) for s in (k if left == "row" else m, n if right == "row" else k)]
        rows = m if left == "row" else k, k if right == "row" else n
        first, second = (exact(a, r * s * WIDTH[a], random) for r, s in zip(rows, strides, strict=True))
        third = exact(d, m * n * WIDTH[d], random)
        counts = _registers(a, m), _registers(a, n), 4 if d == "f16" else 8
        names = [", ".join(f"%{x}{i}" for i in range(count)) for x, count in zip("abc", counts, strict=True)]
        types = f"{d}.{d}" if a == "f16" else f"{d}.{a}.{a}.{d}"
        body = f""".reg .b32 %a<8>, %b<8>, %c<8>;
wmma.load.a.sync.aligned.{left}.{shape}.global.{a} {{{names[0]}}}, [%in0], {strides[0]};
wmma.load.b.sync.aligned.{right}.{shape}.global.{a} {{{names[1]}}}, [%in1], {strides[1]};
wmma.load.c.sync.aligned.row.{shape}.global.{d} {{{names[2]}}}, [%in2], {n};
wmma.mma.sync.aligned.{left}.{right}.{shape}.{types} {{{names[2]}}}, {{{names[0]}}}, {{{names[1]}}}, {{{names[2]}}};
wmma.store.d.sync.aligned.row.{shape}.global.{d} [%out], {{{names[2]}}}, {n};"""
        title = f"wmma {shape} {types} {left} {right}"
        yield Program(title, body, (first, second, third), m * n * WIDTH[d], 32)


def _registers(kind: str, rows: int) -> int:
    """Registers of a fragment of A or B (PTX ISA 9.7.15.4.1)."""
    if kind in ("f16", "tf32"):
        return 8 if kind == "f16" else 4
    return rows // (4 if kind == "bf16" else 8)


# --- wgmma ---

SMEM = 48 << 10
B_START = 16 << 10
WGMMA = (
    ("f32", "f16", "f16"), ("f16", "f16", "f16"), ("f32", "bf16", "bf16"), ("f32", "tf32", "tf32"),
    *(("f32", a, b) for a, b in itertools.product(FLOAT8, repeat=2)), ("f16", "e4m3", "e5m2"),
    *(("s32", a, b) for a, b in itertools.product(("s8", "u8"), repeat=2)),
)  # fmt: skip
NS = (8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256)
SWIZZLES = {0: 16, 3: 32, 2: 64, 1: 128}
"""The layout field of a matrix descriptor, and the bytes of a row of its pattern."""


def wgmma() -> Iterator[Program]:
    """Two wgmma.mma_async in a row, of each type, width, descriptor, sign and transposition; A also in registers."""
    for number, (d, a, b) in itertools.product(range(20), WGMMA):
        yield _wgmma(number, d, a, b, "exact")
    for number, (d, a, b) in itertools.product(range(2), WGMMA):
        if d == "f32" and a not in FLOAT8:
            yield _wgmma(number, d, a, b, "rounded")
            yield _wgmma(number, d, a, b, "special")
        elif d == "f32":
            yield _wgmma(number, d, a, b, "fp8")


def _wgmma(number: int, d: str, a: str, b: str, how: str) -> Program:
    random = Random(f"wgmma {number} {d} {a} {b} {how}")
    depth = 32 // WIDTH[a]
    n = random.pick(NS if how in ("exact", "special") else NS[:4])
    registers = random.one(3) == 0
    major = [random.one(2) if WIDTH[a] == 2 else 0 for _ in "ab"]
    major[0] = 0 if registers else major[0]
    layouts = [_layout(random, rows, major[i], base) for i, rows, base in ((0, 64, 0), (1, n, B_START))]
    draw = {"exact": exact, "rounded": rounded, "special": special, "fp8": _any_fp8}[how]
    data = np.concatenate([draw(a, B_START, random), draw(b, SMEM - B_START, random)])
    count = n // 4 if d == "f16" else n // 2
    start = (exact if how == "fp8" else draw)(d, 512 * count, random)
    left = draw(a, 128 * 16, random)
    signs = "" if d == "s32" else f", {random.pick([1, -1])}, {random.pick([1, -1])}"
    turned = "" if WIDTH[a] != 2 else f", {major[1]}" if registers else f", {major[0]}, {major[1]}"
    accumulators = [f"%d{i}" for i in range(count)]
    body = f""".shared .align 1024 .b8 window[{SMEM}]; .reg .b32 %d<{count}>, %a<4>;
{copied(SMEM, 128, "IN", to_shared=True)}fence.proxy.async.shared::cta; bar.sync 0;
mov.b32 %r1, window; shr.u32 %r1, %r1, 4; cvt.u64.u32 %x1, %r1;
{loads("%in1", "%T", accumulators)}
{loads("%in2", "%T", [f"%a{i}" for i in range(4)])}
wgmma.fence.sync.aligned;
"""
    for step in range(2):
        descriptors = [descriptor + (advance >> 4) * step for descriptor, advance in layouts]
        body += f"add.u64 %x2, %x1, {descriptors[0]}; add.u64 %x3, %x1, {descriptors[1]};\n"
        body += f"setp.ne.b32 %p{step + 1}, {step}, {number % 2};\n"
        first = "{%a0, %a1, %a2, %a3}" if registers else "%x2"
        sat = ".satfinite" if d == "s32" and number % 3 == 0 else ""
        kind = f"wgmma.mma_async.sync.aligned.m64n{n}k{depth}{sat}.{d}.{a}.{b}"
        body += f"{kind} {{{', '.join(accumulators)}}}, {first}, %x3, %p{step + 1}{signs}{turned};\n"
    body += f"wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;\n{stores('%out', '%T', accumulators)}"
    near = None
    if how == "rounded":
        near = Near("f4", absolute=(2 * depth + 2) * 2.0**-22 * (8 * depth + 2))
    elif how == "fp8":
        near = Near("f4", absolute=2 * 34 * 2.0**-13 * 64 * 3.75**2)
    whole = how in ("rounded", "fp8")
    title = f"wgmma {number} m64n{n} {d} {a} {b} {how}"
    return Program(title, body, (data, start, left), 512 * count, 128, whole=whole, near=near)


def _any_fp8(kind: str, size: int, random: Random) -> Array:
    """Numbers of magnitudes from 1/4 to 3.75, of which an accumulator with 13 bits loses some."""
    if kind == "e4m3":
        return (random.below(2, size) * 128 + 0x28 + random.below(0x18, size)).astype(np.uint8)
    return (random.below(2, size) * 128 + 0x34 + random.below(0x0C, size)).astype(np.uint8)


def _layout(random: Random, rows: int, major: int, base: int) -> tuple[int, int]:
    """(descriptor relative to the window, bytes from one step along K to the next) of an operand with `rows` rows,
    which lies wholly in its part of the window."""
    part = B_START if base == 0 else SMEM - B_START
    while True:
        mode = random.pick(list(SWIZZLES))
        span = SWIZZLES[mode]
        if major and mode:  # of 16-bit elements: rows along the pattern, 8 K in its height
            repeat = 8 * span
            blocks = -(-rows * 2 // span)
            sbo, lbo = repeat * random.between(1, 3), repeat * random.between(1, 3)
            reach, advance = (blocks - 1) * lbo + sbo + repeat, 2 * sbo
        elif major:
            sbo, lbo = 128 * random.between(1, 3), 128 * random.between(1, 3)
            reach, advance = (rows // 8 - 1) * sbo + lbo + 128, 2 * lbo
        elif mode:
            sbo, lbo = 8 * span * random.between(1, 3), 16 * random.between(0, 3)
            reach, advance = (rows // 8 - 1) * sbo + 8 * span, 32 if span > 32 else 0
        else:
            sbo, lbo = 128 * random.between(1, 4), 128 * random.between(1, 4)
            reach, advance = (rows // 8 - 1) * sbo + lbo + 128, 2 * lbo
        if reach + advance <= part:
            room = (part - reach - advance) // 1024
            start = base + 1024 * random.one(room + 1)
            return start >> 4 | (lbo >> 4) << 16 | (sbo >> 4) << 32 | mode << 62, advance


FAMILIES = {"fragments": fragments, "mma": mma, "wmma": wmma, "wgmma": wgmma}

"""Instructions of single lanes: one program runs a few of them on the same operands."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from .program import Near, Program, address
from .values import BITS, Random, draw

COUNT = 128
INTS = ("u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64")
WIDE = ("u16", "u32", "u64", "s16", "s32", "s64")
ROUND = ("rn", "rz", "rm", "rp")
FLOATS = ("f16", "bf16", "f32", "f64")


@dataclass(frozen=True, slots=True)
class Line:
    """PTX that makes %d (`bits` wide, `type`) of the operands %a, %b and %c, whose kinds (`values.draw`) are given."""

    code: str
    kinds: tuple[str, ...]
    bits: int
    near: Near | None = None


def _options(*groups: tuple[str, ...]) -> Iterator[str]:
    for chosen in itertools.product(*groups):
        yield "".join(f".{word}" for word in chosen if word)


def _plain(opcode: str, kinds: tuple[str, ...], bits: int, near: Near | None = None) -> Line:
    operands = ", ".join("%" + name for name in "abc"[: len(kinds)])
    return Line(f"{opcode} %d, {operands};", kinds, bits, near)


def _holds(to: str, frm: str) -> bool:
    """Whether an integer type has all values of another, so that there is nothing to saturate."""
    if to[0] == frm[0]:
        return BITS[to] >= BITS[frm]
    return to[0] == "s" and BITS[to] > BITS[frm]


def conversions() -> Iterator[Line]:
    """cvt of integers and of whole floats."""
    for frm, to in itertools.product(INTS, INTS):
        yield _plain(f"cvt.{to}.{frm}", (frm,), max(BITS[to], 16))
        if not _holds(to, frm):
            yield _plain(f"cvt.sat.{to}.{frm}", (frm,), max(BITS[to], 16))
    for frm, to, mode in itertools.product(FLOATS, INTS, ("rni", "rzi", "rmi", "rpi")):
        if (frm, BITS[to]) != ("bf16", 8):
            yield _plain(f"cvt.{mode}.{to}.{frm}", (frm,), max(BITS[to], 16))
    for to, mode in itertools.product(INTS, ("rni", "rzi", "rmi", "rpi")):
        yield _plain(f"cvt.{mode}.ftz.{to}.f32", ("f32",), max(BITS[to], 16))
    for frm, to, mode in itertools.product(INTS, FLOATS, ROUND):
        if (to, BITS[frm]) != ("bf16", 8):
            yield _plain(f"cvt.{mode}.{to}.{frm}", (frm,), BITS[to])
    yield from (_plain(f"cvt.pack.sat.{to}.s32", ("s32", "s32"), 32) for to in ("u16", "s16"))
    for to in ("u8", "s8", "u4", "s4", "u2", "s2"):
        yield _plain(f"cvt.pack.sat.{to}.s32.b32", ("s32", "s32", "b32"), 32)


def float_conversions() -> Iterator[Line]:
    """cvt between floats, packed and narrow ones included."""
    for to, frm in (("f16", "f32"), ("f16", "f64"), ("f32", "f64"), ("bf16", "f32"), ("bf16", "f64")):
        for mode in ROUND:
            yield _plain(f"cvt.{mode}.{to}.{frm}", (frm,), BITS[to])
    for mode in ROUND:
        yield _plain(f"cvt.{mode}.ftz.f32.f64", ("f64",), 32)
        yield _plain(f"cvt.{mode}.sat.f32.f64", ("f64",), 32)
    for to, frm in (("f32", "f16"), ("f64", "f16"), ("f64", "f32"), ("f32", "bf16"), ("f64", "bf16")):
        yield _plain(f"cvt.{to}.{frm}", (frm,), BITS[to])
    for kind, mode in itertools.product(("f16", "f32", "f64"), ("rni", "rzi", "rmi", "rpi")):
        yield _plain(f"cvt.{mode}.{kind}.{kind}", (kind,), BITS[kind])
        yield _plain(f"cvt.{mode}.sat.{kind}.{kind}", (kind,), BITS[kind])
    for mode in ("rni", "rzi", "rmi", "rpi"):
        yield _plain(f"cvt.{mode}.ftz.f32.f32", ("f32",), 32)
    yield from (_plain(f"cvt{x}.f32.f32", ("f32",), 32) for x in (".ftz", ".sat", ".ftz.sat"))
    yield from (_plain(f"cvt.rn{x}.f16.f32", ("f32",), 16) for x in (".ftz", ".sat", ".relu", ".satfinite"))
    yield from (_plain(f"cvt.{x}.bf16.f32", ("f32",), 16) for x in ("rn.relu", "rz.relu"))
    yield from (_plain(f"cvt{x}.tf32.f32", ("f32",), 32) for x in (".rna", ".rn", ".rz", ".rn.relu", ".rz.relu"))
    for to, mode, relu in itertools.product(("f16x2", "bf16x2"), ("rn", "rz"), ("", ".relu")):
        yield _plain(f"cvt.{mode}{relu}.{to}.f32", ("f32", "f32"), 32)
    for to, relu in itertools.product(("e4m3x2", "e5m2x2"), ("", ".relu")):
        yield _plain(f"cvt.rn.satfinite{relu}.{to}.f32", ("f32", "f32"), 16)
        yield _plain(f"cvt.rn.satfinite{relu}.{to}.f16x2", ("f16x2",), 16)
        yield _plain(f"cvt.rn{relu}.f16x2.{to}", ("pair",), 32)


def integers() -> Iterator[Line]:
    """Integer arithmetic, bits and bytes."""
    for t in WIDE:
        n, signed = BITS[t], t[0] == "s"
        yield from (_plain(f"{op}.{t}", (t, t), n) for op in ("add", "sub", "mul.lo", "mul.hi", "min", "max"))
        yield _plain(f"mad.lo.{t}", (t, t, t), n)
        yield _plain(f"mad.hi.{t}", (t, t, t), n)
        yield _plain(f"sad.{t}", (t, t, t), n)
        if n < 64:
            wide = f"{t[0]}{2 * n}"
            yield _plain(f"mul.wide.{t}", (t, t), 2 * n)
            yield _plain(f"mad.wide.{t}", (t, t, wide), 2 * n)
        nonzero = f"or.b{n} %b, %b, 1;"
        yield from (Line(f"{nonzero} {op}.{t} %d, %a, %b;", (t, t), n) for op in ("div", "rem"))
        yield from (_plain(f"{op}.{t}", (t,), n) for op in (("abs", "neg") if signed else ()))
        yield _plain(f"shr.{t}", (t, "shift"), n)
    for n in (16, 32, 64):
        b = f"b{n}"
        yield from (_plain(f"{op}.{b}", (b, b), n) for op in ("and", "or", "xor"))
        yield from (_plain(f"{op}.{b}", (b,), n) for op in ("not", "cnot"))
        yield _plain(f"shl.{b}", (b, "shift"), n)
    for n in (32, 64):
        yield from (_plain(f"{op}.b{n}", (f"b{n}",), 32) for op in ("popc", "clz"))
        yield _plain(f"brev.b{n}", (f"b{n}",), n)
        yield Line(f"bfi.b{n} %d, %a, %b, %c, 11;", (f"b{n}", f"b{n}", "shift"), n)
    for t in ("u32", "s32", "u64", "s64"):
        yield from (_plain(f"{op}.{t}", (t,), 32) for op in ("bfind", "bfind.shiftamt"))
        yield _plain(f"bfe.{t}", (t, "shift", "shift"), BITS[t])
    yield from (_plain(f"{op}.s32", ("s32", "s32"), 32) for op in ("add.sat", "sub.sat", "min.relu", "max.relu"))
    yield from (_plain(f"{op}", ("u32", "u32"), 32) for op in ("mul24.lo.u32", "mul24.lo.s32"))
    for mode in ("clamp", "wrap"):
        yield _plain(f"bmsk.{mode}.b32", ("shift", "shift"), 32)
        yield from (_plain(f"szext.{mode}.{t}", ("b32", "shift"), 32) for t in ("u32", "s32"))
        yield from (_plain(f"shf.{d}.{mode}.b32", ("b32", "b32", "shift"), 32) for d in "lr")
    for table in (0x96, 0xE8, 0xCA, 0x1B, 0x80, 0x6A):
        yield Line(f"lop3.b32 %d, %a, %b, %c, {table};", ("b32", "b32", "b32"), 32)
    yield _plain("prmt.b32", ("b32", "b32", "b32"), 32)
    yield from (_plain(f"prmt.b32.{m}", ("b32", "b32", "b32"), 32) for m in ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16"))
    for a, b in itertools.product(("u32", "s32"), repeat=2):
        yield _plain(f"dp4a.{a}.{b}", ("b32", "b32", "b32"), 32)
        yield from (_plain(f"dp2a.{part}.{a}.{b}", ("b32", "b32", "b32"), 32) for part in ("lo", "hi"))
    yield Line("fns.b32 %d, %a, 7, 2;", ("b32",), 32)
    for first, second in (("add.cc", "addc"), ("sub.cc", "subc"), ("mad.lo.cc", "madc.hi")):
        third = ", %c" if "mad" in first else ""
        for n in (32, 64):
            kinds = (f"u{n}",) * 3
            code = (
                f".reg .b{n} %z; {first}.u{n} %z, %a, %b{third}; {second}.u{n} %d, %b, %c{third}; xor.b{n} %d, %d, %z;"
            )
            yield Line(code, kinds, n)


def compares() -> Iterator[Line]:
    """setp, set, selp, slct, testp."""
    whole = ("eq", "ne", "lt", "le", "gt", "ge")
    for t in ("u16", "s16", "u32", "s32", "u64", "s64"):
        yield from (Line(f"setp.{op}.{t} %p1, %a, %b; selp.b32 %d, 1, 0, %p1;", (t, t), 32) for op in whole)
    floats = (*whole, "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan")
    for t, op in itertools.product(FLOATS, floats):
        yield Line(f"setp.{op}.{t} %p1, %a, %b; selp.b32 %d, 1, 0, %p1;", (t, t), 32)
    for op in floats:
        yield Line(f"setp.{op}.ftz.f32 %p1, %a, %b; selp.b32 %d, 1, 0, %p1;", ("f32", "f32"), 32)
        yield _plain(f"set.{op}.u32.f32", ("f32", "f32"), 32)
        yield _plain(f"set.{op}.ftz.f32.f32", ("f32", "f32"), 32)
        for t in ("f16x2", "bf16x2"):
            code = f"setp.{op}.{t} %p1|%p2, %a, %b; selp.b32 %d, 1, 0, %p1; @%p2 add.u32 %d, %d, 2;"
            yield Line(code, (t, t), 32)
    for combine in ("and", "or", "xor"):
        code = f"setp.ne.b32 %p2, %c, 0; setp.lt.{combine}.s32 %p1|%p3, %a, %b, %p2; selp.b32 %d, 1, 0, %p1; "
        yield Line(code + "@%p3 add.u32 %d, %d, 2;", ("s32", "s32", "small"), 32)
    yield _plain("slct.b32.s32", ("b32", "b32", "s32"), 32)
    yield _plain("slct.f32.s32", ("f32", "f32", "s32"), 32)
    for test, t in itertools.product(
        ("finite", "infinite", "number", "notanumber", "normal", "subnormal"), ("f32", "f64")
    ):
        yield Line(f"testp.{test}.{t} %p1, %a; selp.b32 %d, 1, 0, %p1;", (t,), 32)


def floats() -> Iterator[Line]:
    """f32 and f64 arithmetic that rounds once."""
    f32, f64 = ("f32",), ("f64",)
    for options in _options(ROUND, ("", "ftz"), ("", "sat")):
        yield from (_plain(f"{op}{options}.f32", f32 * 2, 32) for op in ("add", "sub", "mul"))
        yield _plain(f"fma{options}.f32", f32 * 3, 32)
    for options in _options(ROUND, ("", "ftz")):
        yield _plain(f"div{options}.f32", f32 * 2, 32)
        yield from (_plain(f"{op}{options}.f32", f32, 32) for op in ("rcp", "sqrt"))
    yield from (_plain(f"{op}.f64", f64 * 2, 64) for op in ("add", "sub", "mul"))
    yield _plain("fma.rn.f64", f64 * 3, 64)
    yield _plain("div.rn.f64", f64 * 2, 64)
    yield from (_plain(f"{op}.rn.f64", f64, 64) for op in ("rcp", "sqrt"))
    yield from (_plain(f"{op}.f64", f64 * 2, 64) for op in ("min", "max", "copysign"))
    yield from (_plain(f"{op}.f64", f64, 64) for op in ("abs", "neg"))
    for op, options in itertools.product(("min", "max"), _options(("", "ftz"), ("", "NaN"), ("", "xorsign.abs"))):
        yield _plain(f"{op}{options}.f32", f32 * 2, 32)
    yield from (_plain(f"{op}{x}.f32", f32, 32) for op, x in itertools.product(("abs", "neg"), ("", ".ftz")))
    yield _plain("copysign.f32", f32 * 2, 32)


def halves() -> Iterator[Line]:
    """f16 and bf16 arithmetic."""
    for t in ("f16", "f16x2"):
        for op, options in itertools.product(("add", "sub", "mul"), _options(("", "rn"), ("", "ftz"), ("", "sat"))):
            yield _plain(f"{op}{options}.{t}", (t, t), BITS[t])
        for options in _options(("", "ftz"), ("", "sat", "relu")):
            yield _plain(f"fma.rn{options}.{t}", (t, t, t), BITS[t])
        yield from (_plain(f"{op}.ftz.{t}", (t,), BITS[t]) for op in ("abs", "neg"))
        yield from (_plain(f"{op}.ftz.NaN.{t}", (t, t), BITS[t]) for op in ("min", "max"))
    for t in ("bf16", "bf16x2"):
        yield from (_plain(f"{op}.{t}", (t, t), BITS[t]) for op in ("add", "sub", "mul"))
        yield from (_plain(f"fma.rn{x}.{t}", (t, t, t), BITS[t]) for x in ("", ".relu"))
    for t, op in itertools.product(("f16", "bf16", "f16x2", "bf16x2"), ("min", "max")):
        yield from (_plain(f"{op}{x}.{t}", (t, t), BITS[t]) for x in ("", ".NaN", ".xorsign.abs", ".NaN.xorsign.abs"))
    for t in ("f16", "bf16", "f16x2", "bf16x2"):
        yield from (_plain(f"{op}.{t}", (t,), BITS[t]) for op in ("abs", "neg"))


def approximations() -> Iterator[Line]:
    """Functions whose last bits PTX leaves open, within the errors that it states (9.7.3, 9.7.4)."""
    close = Near("f4", 2.0**-21, 2.0**-126)
    for x in ("", ".ftz"):
        yield from (_plain(f"{op}.approx{x}.f32", ("f32",), 32, close) for op in ("rcp", "sqrt", "rsqrt", "ex2"))
        yield _plain(f"lg2.approx{x}.f32", ("f32",), 32, Near("f4", 2.0**-21, 2.0**-21))
        yield from (_plain(f"{op}{x}.f32", ("tame", "tame"), 32, close) for op in ("div.approx", "div.full"))
        angle = Near("f4", 2.0**-20, 2.0**-20)
        yield from (_plain(f"{op}.approx{x}.f32", ("angle",), 32, angle) for op in ("sin", "cos"))
    yield _plain("tanh.approx.f32", ("f32",), 32, Near("f4", 2.0**-10.9))
    yield _plain("rcp.approx.ftz.f64", ("f64",), 64, Near("f8", 2.0**-18))
    for t in ("f16", "f16x2"):
        yield _plain(f"tanh.approx.{t}", (t,), BITS[t], Near("f2", 2.0**-10, 2.0**-10.9))
        yield _plain(f"ex2.approx.{t}", (t,), BITS[t], Near("f2", 2.0**-9.9, 2.0**-24))
    for t in ("bf16", "bf16x2"):
        yield _plain(f"tanh.approx.{t}", (t,), BITS[t], Near("bf16", 2.0**-7, 2.0**-8))
        yield _plain(f"ex2.approx.ftz.{t}", (t,), BITS[t], Near("bf16", 2.0**-7, 2.0**-126))


FAMILIES = {"conversions": conversions, "float_conversions": float_conversions, "integers": integers,
            "compares": compares, "floats": floats, "halves": halves, "approximations": approximations}  # fmt: skip


def programs(family: str) -> Iterator[Program]:
    """The lines of a family, up to 16 with the same operands in a program."""
    groups: dict[tuple[tuple[str, ...], int, Near | None], list[Line]] = {}
    for line in FAMILIES[family]():
        groups.setdefault((line.kinds, line.bits, line.near), []).append(line)
    for (kinds, bits, near), lines in groups.items():
        for start in range(0, len(lines), 16):
            yield _program(f"{'-'.join(kinds)}-{bits}-{start}", kinds, bits, near, lines[start : start + 16])


def _program(name: str, kinds: tuple[str, ...], bits: int, near: Near | None, lines: list[Line]) -> Program:
    random = Random(f"{name} {lines[0].code}")
    inputs = tuple(draw(kind, COUNT, random) for kind in kinds)
    size = bits // 8
    body: list[str] = []
    for letter, kind, i in zip("abc", kinds, range(3), strict=False):
        width = BITS[kind]
        body.append(f".reg .b{max(width, 16)} %{letter}k;")
        body.append(address(f"%in{i}", "%T", width // 8))
        body.append(f"ld.global.{'u8' if width == 8 else f'b{width}'} %{letter}k, [%at];")
    body.append(address("%out", "%T", size))
    for number, line in enumerate(lines):
        registers = " ".join(f".reg .b{max(BITS[kind], 16)} %{x};" for x, kind in zip("abc", kinds, strict=False))
        moves = " ".join(f"mov.b{max(BITS[k], 16)} %{x}, %{x}k;" for x, k in zip("abc", kinds, strict=False))
        body.append(f"{{ {registers} .reg .b{bits} %d; {moves} {line.code}")
        body.append(f"st.global.b{bits} [%at+{number * COUNT * size}], %d; }}")
    label = f"{name}: {lines[0].code.split(' %d')[0]}"
    return Program(label, "\n".join(body), inputs, len(lines) * COUNT * size, COUNT, whole=True, near=near)

"""Integer and logic instructions against numpy and plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

EDGES32 = np.array(
    [
        0,
        1,
        2,
        3,
        31,
        32,
        33,
        0x7FFF_FFFF,
        0x8000_0000,
        0x8000_0001,
        0xFFFF_FFFF,
        0xFFFF_FFFE,
        0x1234_5678,
        0xDEAD_BEEF,
        0xFFFF,
        0x10000,
    ],
    np.uint32,
)


def signed(value: int, bits: int = 32) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def cross(rng: np.random.Generator, count: int, arity: int = 2) -> list[np.ndarray[Any, np.dtype[np.uint32]]]:
    grids = np.meshgrid(*[EDGES32[:: 1 if arity == 2 else 3]] * arity)
    return [np.concatenate([g.reshape(-1), rng.integers(0, 1 << 32, count, dtype=np.uint32)]) for g in grids]


BINARY = {
    "add.s32": lambda a, b: a + b,
    "add.u32": lambda a, b: a + b,
    "sub.s32": lambda a, b: a - b,
    "mul.lo.s32": lambda a, b: a * b,
    "mul.hi.s32": lambda a, b: signed(a) * signed(b) >> 32,
    "mul.hi.u32": lambda a, b: a * b >> 32,
    "min.s32": lambda a, b: min(signed(a), signed(b)),
    "max.s32": lambda a, b: max(signed(a), signed(b)),
    "min.u32": min,
    "max.u32": max,
    "max.relu.s32": lambda a, b: max(signed(a), signed(b), 0),
    "add.sat.s32": lambda a, b: min(max(signed(a) + signed(b), -(1 << 31)), (1 << 31) - 1),
    "sub.sat.s32": lambda a, b: min(max(signed(a) - signed(b), -(1 << 31)), (1 << 31) - 1),
    "and.b32": lambda a, b: a & b,
    "or.b32": lambda a, b: a | b,
    "xor.b32": lambda a, b: a ^ b,
    "shl.b32": lambda a, b: a << b if b < 32 else 0,
    "shr.u32": lambda a, b: a >> b if b < 32 else 0,
    "shr.b32": lambda a, b: a >> b if b < 32 else 0,
    "shr.s32": lambda a, b: signed(a) >> min(b, 31),
    "mul24.lo.u32": lambda a, b: (a & 0xFFFFFF) * (b & 0xFFFFFF),
    "mul24.lo.s32": lambda a, b: signed(a & 0xFFFFFF, 24) * signed(b & 0xFFFFFF, 24),
    "div.u32": lambda a, b: a // b if b else 0xFFFF_FFFF,
    "rem.u32": lambda a, b: a % b if b else a,
    "div.s32": lambda a, b: (
        int(abs(signed(a)) // abs(signed(b)) * (1 if (signed(a) < 0) == (signed(b) < 0) else -1)) if b else -1
    ),
    "rem.s32": lambda a, b: (abs(signed(a)) % abs(signed(b))) * (-1 if signed(a) < 0 else 1) if b else a,
    "bmsk.clamp.b32": lambda a, b: ((1 << min(b, 32)) - 1) << min(a, 32),
    "bmsk.wrap.b32": lambda a, b: ((1 << (b & 31)) - 1) << (a & 31),
    "szext.wrap.u32": lambda a, b: a & ((1 << (b & 31)) - 1),
    "szext.clamp.s32": lambda a, b: signed(a & ((1 << min(b, 32)) - 1), min(b, 32)) if b else 0,
}


@pytest.mark.parametrize("opcode", BINARY)
def test_binary(opcode: str, lanes: Any, rng: np.random.Generator) -> None:
    a, b = cross(rng, 64)
    got = lanes(f"{opcode} %out0, %in0, %in1;", a, b)
    want = [BINARY[opcode](int(x), int(y)) & 0xFFFF_FFFF for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(got, np.array(want, np.uint32))


@pytest.mark.parametrize("opcode", sorted(set(BINARY) - {"div.s32"}))
def test_binary_of_uniform_values(opcode: str, lanes: Any) -> None:
    """The same instructions where all lanes hold one value, which take another path of the code generator."""
    for a, b in ((0x8000_0001, 3), (7, 0xFFFF_FFFD), (0, 40)):
        got = lanes(f"mov.b32 %r0, {a}; mov.b32 %r1, {b}; {opcode} %out0, %r0, %r1;")
        assert set(got) == {BINARY[opcode](a, b) & 0xFFFF_FFFF}


WIDE = {
    "mul.wide.s32": lambda a, b: signed(a) * signed(b),
    "mul.wide.u32": lambda a, b: a * b,
}


@pytest.mark.parametrize("opcode", WIDE)
def test_wide_products(opcode: str, lanes: Any, rng: np.random.Generator) -> None:
    a, b = cross(rng, 64)
    got = lanes(f"{opcode} %out0, %in0, %in1;", a, b, out=np.uint64)
    want = [WIDE[opcode](int(x), int(y)) & (1 << 64) - 1 for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(got, np.array(want, np.uint64))


TERNARY = {
    "mad.lo.s32": lambda a, b, c: a * b + c,
    "mad.hi.u32": lambda a, b, c: (a * b >> 32) + c,
    "mad.hi.s32": lambda a, b, c: (signed(a) * signed(b) >> 32) + c,
    "sad.s32": lambda a, b, c: abs(signed(a) - signed(b)) + c,
    "sad.u32": lambda a, b, c: abs(a - b) + c,
    "dp4a.u32.u32": lambda a, b, c: sum((a >> s & 255) * (b >> s & 255) for s in (0, 8, 16, 24)) + c,
    "dp4a.s32.s32": lambda a, b, c: sum(signed(a >> s & 255, 8) * signed(b >> s & 255, 8) for s in (0, 8, 16, 24)) + c,
    "dp4a.s32.u32": lambda a, b, c: sum(signed(a >> s & 255, 8) * (b >> s & 255) for s in (0, 8, 16, 24)) + c,
    "dp2a.lo.s32.u32": lambda a, b, c: signed(a & 0xFFFF, 16) * (b & 255) + signed(a >> 16, 16) * (b >> 8 & 255) + c,
    "dp2a.hi.u32.s32": lambda a, b, c: (a & 0xFFFF) * signed(b >> 16 & 255, 8) + (a >> 16) * signed(b >> 24, 8) + c,
    "bfe.u32": lambda a, b, c: (a >> (b & 255) if (b & 255) < 32 else 0) & ((1 << min(c & 255, 32)) - 1),
    "shf.l.wrap.b32": lambda a, b, c: ((b << 32 | a) << (c & 31)) >> 32,
    "shf.r.wrap.b32": lambda a, b, c: (b << 32 | a) >> (c & 31),
    "shf.l.clamp.b32": lambda a, b, c: ((b << 32 | a) << min(c, 32)) >> 32,
    "shf.r.clamp.b32": lambda a, b, c: (b << 32 | a) >> min(c, 32),
}


@pytest.mark.parametrize("opcode", TERNARY)
def test_ternary(opcode: str, lanes: Any, rng: np.random.Generator) -> None:
    a, b, c = cross(rng, 64, 3)
    got = lanes(f"{opcode} %out0, %in0, %in1, %in2;", a, b, c)
    want = [TERNARY[opcode](int(x), int(y), int(z)) & 0xFFFF_FFFF for x, y, z in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(got, np.array(want, np.uint32))


def bfe_signed(a: int, position: int, length: int, bits: int = 32) -> int:
    """PTX ISA 9.7.1.19, its own pseudo code."""
    position, length = position & 255, length & 255
    sign = 0 if length == 0 else a >> min(position + length - 1, bits - 1) & 1
    result = 0
    for i in range(bits):
        bit = a >> (position + i) & 1 if i < length and position + i < bits else sign
        result |= bit << i
    return result


def bfi(a: int, b: int, position: int, length: int, bits: int = 32) -> int:
    """PTX ISA 9.7.1.20, its own pseudo code."""
    position, length = position & 255, length & 255
    for i in range(length):
        if position + i >= bits:
            break
        b = b & ~(1 << (position + i)) | (a >> i & 1) << (position + i)
    return b


@pytest.mark.parametrize("bits", [32, 64])
def test_bit_fields(bits: int, lanes: Any, rng: np.random.Generator) -> None:
    kind = np.uint32 if bits == 32 else np.uint64
    a, b = (rng.integers(0, (1 << bits) - 1, 512, dtype=kind) for _ in range(2))
    position, length = (rng.integers(0, 70, 512, dtype=np.uint32) for _ in range(2))
    got = lanes(f"bfe.s{bits} %out0, %in0, %in1, %in2;", a, position, length, out=kind)
    np.testing.assert_array_equal(
        got,
        np.array([bfe_signed(int(x), int(p), int(n), bits) for x, p, n in zip(a, position, length, strict=True)], kind),
    )
    got = lanes(f"bfi.b{bits} %out0, %in0, %in1, %in2, %in3;", a, b, position, length, out=kind)
    want = [bfi(int(x), int(y), int(p), int(n), bits) for x, y, p, n in zip(a, b, position, length, strict=True)]
    np.testing.assert_array_equal(got, np.array(want, kind))


UNARY = {
    "neg.s32": lambda a: -a,
    "abs.s32": lambda a: abs(signed(a)),
    "not.b32": lambda a: ~a,
    "popc.b32": lambda a: a.bit_count(),
    "clz.b32": lambda a: 32 - a.bit_length(),
    "brev.b32": lambda a: int(f"{a:032b}"[::-1], 2),
    "bfind.u32": lambda a: a.bit_length() - 1,
    "bfind.s32": lambda a: (~a & 0xFFFF_FFFF if a >> 31 else a).bit_length() - 1,
    "bfind.shiftamt.u32": lambda a: 32 - a.bit_length() if a else -1,
    "cnot.b32": lambda a: int(a == 0),
}


@pytest.mark.parametrize("opcode", UNARY)
def test_unary(opcode: str, lanes: Any, rng: np.random.Generator) -> None:
    a, _ = cross(rng, 64)
    got = lanes(f"{opcode} %out0, %in0;", a)
    np.testing.assert_array_equal(got, np.array([UNARY[opcode](int(x)) & 0xFFFF_FFFF for x in a], np.uint32))


@pytest.mark.parametrize("table", [0x00, 0x80, 0xFE, 0x96, 0xE8, 0xCA, 0x3C])
def test_lop3(table: int, lanes: Any, rng: np.random.Generator) -> None:
    a, b, c = (rng.integers(0, 1 << 32, 64, dtype=np.uint32) for _ in range(3))
    got = lanes(f"lop3.b32 %out0, %in0, %in1, %in2, {table};", a, b, c)
    want = np.zeros(64, np.uint32)
    for bit in range(32):
        index = (a >> bit & 1) << 2 | (b >> bit & 1) << 1 | (c >> bit & 1)
        want |= (np.uint32(table) >> index & 1) << np.uint32(bit)
    np.testing.assert_array_equal(got, want)


def test_prmt(lanes: Any, rng: np.random.Generator) -> None:
    a, b, c = (rng.integers(0, 1 << 32, 256, dtype=np.uint32) for _ in range(3))
    got = lanes("prmt.b32 %out0, %in0, %in1, %in2;", a, b, c)
    for x, y, selector, result in zip(a, b, c, got, strict=True):
        pool = int(y) << 32 | int(x)
        want = 0
        for i in range(4):
            nibble = int(selector) >> 4 * i & 15
            byte = pool >> 8 * (nibble & 7) & 255
            want |= ((255 if byte >> 7 else 0) if nibble & 8 else byte) << 8 * i
        assert int(result) == want


@pytest.mark.parametrize(
    ("mode", "orders"),
    [
        ("f4e", ["3210", "4321", "5432", "6543"]),
        ("b4e", ["5670", "6701", "7012", "0123"]),
        ("rc8", ["0000", "1111", "2222", "3333"]),
        ("ecl", ["3210", "3211", "3222", "3333"]),
        ("ecr", ["0000", "1110", "2210", "3210"]),
        ("rc16", ["1010", "3232", "1010", "3232"]),
    ],
)
def test_prmt_modes(mode: str, orders: list[str], lanes: Any) -> None:
    """The table of PTX ISA 9.7.9.7."""
    a, b = np.full(4, 0x33221100, np.uint32), np.full(4, 0x77665544, np.uint32)
    got = lanes(f"prmt.b32.{mode} %out0, %in0, %in1, %in2;", a, b, np.arange(4, dtype=np.uint32))
    assert [f"{int(x):08x}"[::2] for x in got] == orders


def test_64_bit(lanes: Any, rng: np.random.Generator) -> None:
    a, b = (rng.integers(0, (1 << 64) - 1, 256, dtype=np.uint64) for _ in range(2))
    out = [np.uint64] * 6
    code = (
        "add.s64 %out0, %in0, %in1; mul.lo.s64 %out1, %in0, %in1; mul.hi.u64 %out2, %in0, %in1; "
        "mul.hi.s64 %out3, %in0, %in1; "
        "sub.s64 %out4, %in0, %in1; xor.b64 %out5, %in0, %in1;"
    )
    results = lanes(code, a, b, out=out)
    word = (1 << 64) - 1
    for index, function in enumerate(
        [
            lambda x, y: x + y,
            lambda x, y: x * y,
            lambda x, y: x * y >> 64,
            lambda x, y: signed(x, 64) * signed(y, 64) >> 64,
            lambda x, y: x - y,
            lambda x, y: x ^ y,
        ]
    ):
        np.testing.assert_array_equal(
            results[index], np.array([function(int(x), int(y)) & word for x, y in zip(a, b, strict=True)], np.uint64)
        )


def test_moves_pack_and_unpack(lanes: Any, rng: np.random.Generator) -> None:
    a, b = (rng.integers(0, 1 << 32, 64, dtype=np.uint32) for _ in range(2))
    code = (
        "mov.b64 %rd0, {%in0, %in1}; mov.b64 {%r0, %r1}, %rd0; mov.b32 {%h0, %h1}, %r0; mov.b32 %out0, {%h1, %h0}; "
        "mov.b64 {_, %out1}, %rd0; mov.b64 {%h2, %h3, %h4, %h5}, %rd0; cvt.u32.u16 %out2, %h4; "
        "mov.b64 %out3, {%h5, %h4, %h3, %h2};"
    )
    swapped, high, third, reversed_ = lanes(code, a, b, out=[np.uint32, np.uint32, np.uint32, np.uint64])
    np.testing.assert_array_equal(swapped, a << 16 | a >> 16)
    np.testing.assert_array_equal(high, b)
    np.testing.assert_array_equal(third, b & 0xFFFF)
    words = np.stack([b >> 16, b & 0xFFFF, a >> 16, a & 0xFFFF], axis=1).astype(np.uint16)
    np.testing.assert_array_equal(reversed_, words.view(np.uint64)[:, 0])

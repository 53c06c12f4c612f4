"""Carry chains (PTX ISA 9.7.2), against Python's integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

WORDS = np.array([0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 0x12345678], np.uint32)


def _numbers(rng: np.random.Generator, bits: int, words: int, count: int = 96) -> list[np.ndarray[Any, Any]]:
    """Words of `count` numbers, the lowest first, many of them at an end of their range."""
    kind = np.uint32 if bits == 32 else np.uint64
    edge = np.array([0, 1, 2**bits - 1, 2**bits - 2, 2 ** (bits - 1), 2 ** (bits - 1) - 1], dtype=kind)
    return [
        np.where(rng.random(count) < 0.6, rng.choice(edge, count), rng.integers(0, 2**bits, count, dtype=kind))
        for _ in range(words)
    ]


def _whole(words: list[np.ndarray[Any, Any]], bits: int) -> list[int]:
    return [sum(int(w[i]) << (bits * k) for k, w in enumerate(words)) for i in range(len(words[0]))]


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("op", ["add", "sub"])
@pytest.mark.parametrize("kind", ["u", "s"])
def test_sums_of_three_words(bits: int, op: str, kind: str, lanes: Any, rng: np.random.Generator) -> None:
    a, b = _numbers(rng, bits, 3), _numbers(rng, bits, 3)
    t = f"{kind}{bits}"
    code = (
        f"{op}.cc.{t} %out0, %in0, %in3; {op}c.cc.{t} %out1, %in1, %in4; {op}c.cc.{t} %out2, %in2, %in5; "
        f"{op}c.{t} %out3, 0, 0;"
    )
    dtype = np.uint32 if bits == 32 else np.uint64
    for options in ({}, {"lockstep": "warp"}):
        got = lanes(code, *a, *b, out=[dtype] * 4, **options)
        whole = zip(_whole(a, bits), _whole(b, bits), strict=True)
        expected = [(x + y if op == "add" else x - y) & (1 << 4 * bits) - 1 for x, y in whole]
        assert _whole(got, bits) == expected


@pytest.mark.parametrize("bits", [32, 64])
def test_a_product_of_two_words(bits: int, lanes: Any, rng: np.random.Generator) -> None:
    """The schoolbook product, as compilers write it for wide integers."""
    a, b = _numbers(rng, bits, 2), _numbers(rng, bits, 2)
    t = f"u{bits}"
    code = (
        f"mul.lo.{t} %out0, %in0, %in2; mul.hi.{t} %out1, %in0, %in2;"
        f"mad.lo.cc.{t} %out1, %in0, %in3, %out1; madc.hi.{t} %out2, %in0, %in3, 0;"
        f"mad.lo.cc.{t} %out1, %in1, %in2, %out1; madc.hi.cc.{t} %out2, %in1, %in2, %out2; addc.{t} %out3, 0, 0;"
        f"mad.lo.cc.{t} %out2, %in1, %in3, %out2; madc.hi.{t} %out3, %in1, %in3, %out3;"
    )
    got = lanes(code, *a, *b, out=[np.uint32 if bits == 32 else np.uint64] * 4)
    assert _whole(got, bits) == [x * y for x, y in zip(_whole(a, bits), _whole(b, bits), strict=True)]


@pytest.mark.parametrize("bits", [32, 64])
def test_signed_high_products(bits: int, lanes: Any, rng: np.random.Generator) -> None:
    a, b, c = _numbers(rng, bits, 3)
    code = f"mad.hi.cc.s{bits} %out0, %in0, %in1, %in2; addc.u{bits} %out1, 0, 0;"
    got = lanes(code, a, b, c, out=[np.uint32 if bits == 32 else np.uint64] * 2)
    half = 1 << (bits - 1)
    high = [
        ((((int(x) ^ half) - half) * ((int(y) ^ half) - half)) >> bits) & (1 << bits) - 1
        for x, y in zip(a, b, strict=True)
    ]
    assert _whole(got, bits) == [h + int(z) for h, z in zip(high, c, strict=True)]


def test_a_guard_keeps_the_carry(kernel: Any) -> None:
    """Lanes that do not execute an instruction keep their carry; a function has one of its own."""
    helper = (
        ".func (.param .b32 r) helper(.param .b32 x) { .reg .b32 %a<4>; ld.param.b32 %a1, [x]; "
        "add.cc.u32 %a2, %a1, 1; st.param.b32 [r], %a2; ret; }\n"
    )
    body = (
        "setp.lt.u32 %p0, %L, 16; mov.u32 %r0, 0xFFFFFFFF; add.cc.u32 %r1, %r0, 1; @%p0 add.cc.u32 %r1, 0, 0; "
        "{ .param .b32 x0; .param .b32 r0; st.param.b32 [x0], %r0; call.uni (r0), helper, (x0); "
        "ld.param.b32 %r5, [r0]; }\n"
        "addc.u32 %r2, 0, 0; mad.wide.u32 %rd0, %T, 4, %out; st.global.b32 [%rd0], %r2;"
    )
    got = np.frombuffer(kernel(body, out=128, functions=helper), np.uint32)
    assert got.tolist() == [0] * 16 + [1] * 16

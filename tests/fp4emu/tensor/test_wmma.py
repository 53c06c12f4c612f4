"""wmma: products of whole matrices against numpy, in every shape, type and layout."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from fp4emu import Fault

SHAPES = {"m16n16k16": (16, 16, 16), "m8n32k16": (8, 32, 16), "m32n8k16": (32, 8, 16), "m16n16k8": (16, 16, 8)}
BYTES = {"f16": 2, "bf16": 2, "tf32": 4, "s8": 1, "u8": 1, "f32": 4, "s32": 4}
# Registers of a fragment by PTX ISA 9.7.15.4.1 (ptxas checks the numbers).
FRAGMENT = {
    "m16n16k16": {"f16": (8, 8), "bf16": (4, 4), "s8": (2, 2), "u8": (2, 2)},
    "m8n32k16": {"f16": (8, 8), "bf16": (2, 8), "s8": (1, 4), "u8": (1, 4)},
    "m32n8k16": {"f16": (8, 8), "bf16": (8, 2), "s8": (4, 1), "u8": (4, 1)},
    "m16n16k8": {"tf32": (4, 4)},
}


def _bits(values: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    if kind == "bf16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype({"f16": np.float16, "s8": np.int8, "u8": np.uint8, "s32": np.int32}.get(kind, np.float32))


def _laid(values: np.ndarray[Any, Any], kind: str, layout: str, pad: int) -> tuple[bytes, int]:
    """A matrix in memory with lines `pad` elements longer, and its stride."""
    lines = _bits(values if layout == "row" else values.T, kind)
    wide = np.pad(lines, ((0, 0), (0, pad)))
    return np.ascontiguousarray(wide).tobytes(), wide.shape[1]


def _vector(name: str, count: int) -> str:
    return "{" + ", ".join(f"%{name}{i}" for i in range(count)) + "}"


def _program(
    shape: str, kind: str, d: str, c: str, layouts: str, strides: list[int], how: dict[str, str]
) -> tuple[str, str]:
    """The body of a kernel that multiplies, and its registers."""
    la, lb, lc, ld = ("row" if x == "r" else "col" for x in layouts)
    count = FRAGMENT[shape][kind]
    accumulators = {"f16": 4, "f32": 8, "s32": 8}
    types = {"f32": "f32", "f16": "b32", "s32": "b32"}
    mma = f"{d}.{c}" if kind == "f16" else f"{d}.{kind}.{kind}.{c}"
    mma += how.get("satfinite", "")
    regs = (
        f".reg .b32 %a<{count[0]}>, %b<{count[1]}>; .reg .{types[c]} %c<{accumulators[c]}>; "
        f".reg .{types[d]} %d<{accumulators[d]}>;"
    )
    body = (
        f"wmma.load.a.sync.aligned.{la}.{shape}.{kind} {_vector('a', count[0])}, [%in0], {strides[0]};\n"
        f"wmma.load.b.sync.aligned.{lb}.{shape}.{kind} {_vector('b', count[1])}, [%in1], {strides[1]};\n"
        f"wmma.load.c.sync.aligned.{lc}.{shape}.{c} {_vector('c', accumulators[c])}, [%in2], {strides[2]};\n"
        f"{how.get('between', '')}"
        f"wmma.mma.sync.aligned.{how.get('a', la)}.{lb}.{shape}.{mma} {_vector('d', accumulators[d])}, "
        f"{_vector('a', count[0])}, {_vector('b', count[1])}, {_vector('c', accumulators[c])};\n"
        f"wmma.store.d.sync.aligned.{ld}.{shape}.{d} [%out], {_vector('d', accumulators[d])}, {strides[3]};"
    )
    return body, regs


def _matrices(shape: str, kind: str, rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
    m, n, k = SHAPES[shape]
    low, high = (0, 200) if kind == "u8" else (-100, 100) if kind == "s8" else (-8, 8)
    return [rng.integers(low, high, size).astype(np.float64) for size in ((m, k), (k, n), (m, n))]


def _multiply(kernel: Any, shape: str, kind: str, d: str, c: str, layouts: str, rng: np.random.Generator, pad: int = 0,
              **how: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:  # fmt: skip
    """(what the kernel made, what it should)."""
    a, b, acc = _matrices(shape, kind, rng)
    inputs, strides = [], []
    for values, type_, letter in zip((a, b, acc), (kind, kind, c), layouts, strict=False):
        data, stride = _laid(values, type_, "row" if letter == "r" else "col", pad * 16 // BYTES[type_])
        inputs.append(data)
        strides.append(stride)
    m, n = acc.shape
    lines, length = (m, n) if layouts[3] == "r" else (n, m)
    strides.append(length + pad * 16 // BYTES[d])
    body, regs = _program(shape, kind, d, c, layouts, strides, how)
    out = kernel(body, out=lines * strides[3] * BYTES[d], inputs=tuple(inputs), regs=regs, order="strict")
    dtype = {"f16": np.float16, "f32": np.float32, "s32": np.int32}[d]
    got = np.frombuffer(out, dtype).reshape(lines, strides[3])[:, :length]
    return (got if layouts[3] == "r" else got.T), (a @ b + acc).astype(dtype)


CASES = [
    *((shape, "f16", d, c) for shape in list(SHAPES)[:3] for d, c in product(("f16", "f32"), repeat=2)),
    *((shape, "bf16", "f32", "f32") for shape in list(SHAPES)[:3]),
    *((shape, kind, "s32", "s32") for shape in list(SHAPES)[:3] for kind in ("s8", "u8")),
    ("m16n16k8", "tf32", "f32", "f32"),
]


LAYOUTS = (("rcrr", 0), ("crrc", 1), ("rrcr", 2))
"""Of A, B, C and D, and by how many 16 bytes the lines of a matrix are longer than its rows or columns."""


@pytest.mark.parametrize("number", range(len(CASES)), ids=["-".join(case) for case in CASES])
def test_products(number: int, kernel: Any, rng: np.random.Generator) -> None:
    got, expected = _multiply(kernel, *CASES[number], LAYOUTS[number % 3][0], rng, LAYOUTS[number % 3][1])
    np.testing.assert_array_equal(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "kind", "d", "c"), CASES)
def test_products_in_every_layout(shape: str, kind: str, d: str, c: str, kernel: Any, rng: np.random.Generator) -> None:
    for layouts, pad in LAYOUTS:
        got, expected = _multiply(kernel, shape, kind, d, c, layouts, rng, pad)
        np.testing.assert_array_equal(got, expected)


def test_elements_may_be_changed_alike(kernel: Any, rng: np.random.Generator) -> None:
    """An operation on all elements of a fragment is one on the matrix, wherever its elements are."""
    between = "".join(f"mul.rn.f32 %c{i}, %c{i}, 0f40000000;\n" for i in range(8))
    a, b, acc = _matrices("m16n16k16", "f16", np.random.default_rng(7))
    got, _ = _multiply(kernel, "m16n16k16", "f16", "f32", "f32", "rrrr", np.random.default_rng(7), between=between)
    np.testing.assert_array_equal(got, (a @ b + 2 * acc).astype(np.float32))


def test_a_fragment_in_another_layout_is_another_matrix(kernel: Any, rng: np.random.Generator) -> None:
    got, expected = _multiply(kernel, "m16n16k16", "f16", "f32", "f32", "rrrr", rng, a="col")
    assert (got != expected).any()


def test_satfinite(kernel: Any) -> None:
    ones = np.full((16, 16), 127, np.int8).tobytes()
    most = np.full((16, 16), (1 << 31) - 5, np.int32).tobytes()
    for clip, expected in ((".satfinite", (1 << 31) - 1), ("", (1 << 31) - 5 + 16 * 127 * 127 - (1 << 32))):
        body, regs = _program("m16n16k16", "s8", "s32", "s32", "rrrr", [16] * 4, {"satfinite": clip})
        out = kernel(body, out=1024, inputs=(ones, ones, most), regs=regs)
        assert np.frombuffer(out, np.int32).tolist() == [expected] * 256


STAGED = (
    "mov.b32 %r1, tile; shl.b32 %r2, %L, 4; add.u32 %r2, %r2, %r1; mov.b32 %r3, 0x3C003C00;\n"
    "st.shared.v4.b32 [%r2], {{%r3, %r3, %r3, %r3}}; {sync}\n"
    "wmma.load.a.sync.aligned.row.m16n16k16.shared.f16 {{%a0, %a1, %a2, %a3, %a4, %a5, %a6, %a7}}, [{place}]{stride};\n"
    "wmma.store.d.sync.aligned.row.m16n16k16.global.f16 [%out], {{%a0, %a1, %a2, %a3}};"
)


@pytest.mark.parametrize(
    ("sync", "place", "stride", "why"),
    [
        ("bar.warp.sync -1;", "%r1", "", None),
        ("", "%r1", "", r"\[lanes\]"),
        ("bar.warp.sync -1;", "%r1+16", "", "is not a multiple of 32"),
        ("bar.warp.sync -1;", "%r2", "", "the address of a wmma instruction differs"),
        ("bar.warp.sync -1;", "%r1", ", 8", "a stride of 8 elements; it is at least 16, and a multiple of 8"),
        ("bar.warp.sync -1;", "%r1", ", 20", "a stride of 20 elements"),
        ("bar.warp.sync -1;", "%r1", ", 64", "outside|never written"),
    ],
)
def test_memory(sync: str, place: str, stride: str, why: str | None, kernel: Any) -> None:
    """Lanes write a matrix of ones, and the warp loads it."""
    head, regs = ".shared .align 128 .b8 tile[512];", ".reg .b32 %a<8>;"
    body = STAGED.format(sync=sync, place=place, stride=stride)
    if why is None:
        ones = np.frombuffer(kernel(body, out=512, head=head, regs=regs, order="strict"), np.float16)
        assert (ones == 1).all()
        return
    with pytest.raises(Fault, match=why):
        kernel(body, out=512, head=head, regs=regs, order="strict")


def test_a_wrong_number_of_registers(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FP4EMU_PTXAS", raising=False)
    body = "wmma.store.d.sync.aligned.row.m16n16k16.f32 [%out], {%f0, %f1, %f2, %f3};"
    with pytest.raises(Fault, match="4 registers where the fragment has 8"):
        kernel(body, out=1024)

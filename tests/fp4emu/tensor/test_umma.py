"""tcgen05.mma: operands laid out by loops over CuTe's canonical layouts, results read by its TMEM layouts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import fp4num
from fp4emu import Fault, instruction_descriptor, tmem
from fp4emu.instruction import Address, Immediate, Instruction
from fp4emu.machine import Cluster, Cta, ThreadContext, WarpContext

A_AT, B_AT = 8192, 65536
SPANS = {0: 16, 6: 32, 4: 64, 2: 128, 1: 128}
CUTE_SWIZZLES = {0: (0, 4, 3), 6: (1, 4, 3), 4: (2, 4, 3), 2: (3, 4, 3), 1: (2, 5, 2)}
CODES = {"e4m3": 0, "e5m2": 1, "e2m3": 3, "e3m2": 4, "e2m1": 5, "f16": 0, "bf16": 1, "tf32": 2, "u8": 0, "s8": 1}
BITS = {"e4m3": 8, "e5m2": 8, "e2m3": 6, "e3m2": 6, "e2m1": 4, "f16": 16, "bf16": 16, "tf32": 32, "u8": 8, "s8": 8}
K = {"f16": 16, "tf32": 8, "f8f6f4": 32, "i8": 32, "mxf8f6f4": 32, "mxf4": 64, "mxf4nvf4": 64}


def xor(address: int, layout: int) -> int:
    bits, base, shift = CUTE_SWIZZLES[layout]
    return address ^ ((address >> (base + shift) & ((1 << bits) - 1)) << base)


def numbers(rng: np.random.Generator, element: str, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(codes as bytes [rows, K, bytes], values)."""
    if element in ("u8", "s8"):
        raw = rng.integers(0, 256, shape).astype(np.uint8)
        return raw[..., None], (raw.view(np.int8) if element == "s8" else raw).astype(np.float64)
    if element in ("tf32", "f16", "bf16"):
        values = rng.integers(-8, 9, shape).astype(np.float32)
        if element == "tf32":
            return values.view(np.uint8).reshape(*shape, 4), values.astype(np.float64)
        if element == "f16":
            return values.astype(np.float16).view(np.uint8).reshape(*shape, 2), values.astype(np.float64)
        raw = (values.view(np.uint32) >> 16).astype(np.uint16)
        return raw.view(np.uint8).reshape(*shape, 2), values.astype(np.float64)
    codes = rng.integers(0, 1 << min(BITS[element], 8), shape).astype(np.uint8)
    if element in ("e4m3", "e5m2"):
        codes = (codes & 0x83) | 0x38
    return codes[..., None], fp4num.decode(codes, element).astype(np.float64)


@dataclass
class Operand:
    """Bytes of one CTA's share, stored where the canonical layout says; `word` is its descriptor."""

    word: int

    @staticmethod
    def place(cta: Cta, start: int, codes: np.ndarray, element: str, layout: int, major: str, dense4: bool) -> Operand:
        rows, depth, size = codes.shape
        span = SPANS[layout]
        if major == "k":
            # Byte of K for each element: dense, or 16 elements in 16 bytes for the padded sub-byte types.
            lbo, sbo = (rows * 16, 128) if layout == 0 else (16, 8 * span)
            for row in range(rows):
                line = _line(codes[row], element, dense4)
                for byte, value in line.items():
                    if layout == 0:
                        place = row % 8 * 16 + row // 8 * sbo + byte // 16 * lbo + byte % 16
                    else:
                        place = row % 8 * span + row // 8 * sbo + byte
                    _poke(cta, xor(start + place, layout), value)
        else:
            group = 4 if layout == 1 else 8
            lbo, sbo = (rows // (16 // size) * 128, 128) if layout == 0 else (4096, group * span)
            for row, k, byte in itertools.product(range(rows), range(depth), range(size)):
                offset = row * size + byte
                if layout == 0:
                    place = offset % 16 + offset // 16 * sbo + k % 8 * 16 + k // 8 * lbo
                else:
                    place = offset % span + offset // span * lbo + k % group * span + k // group * sbo
                _poke(cta, xor(start + place, layout), int(codes[row, k, byte]))
        return Operand(start >> 4 | (lbo >> 4) << 16 | (sbo >> 4) << 32 | 1 << 46 | layout << 61)


def _poke(cta: Cta, address: int, value: int) -> None:
    cta.shared.data[address] = value
    cta.shared.state[address] |= 2


def _line(codes: np.ndarray, element: str, dense4: bool) -> dict[int, int]:
    bits = BITS[element]
    if bits >= 8:
        return dict(enumerate(codes.reshape(-1).tolist()))
    packed = fp4num.pack(codes[:, 0], bits)
    if dense4:
        return dict(enumerate(packed.tolist()))
    per = 2 * bits  # bytes of 16 elements
    return {i // per * 16 + i % per: int(v) for i, v in enumerate(packed)}


def descriptor(kind: str, m: int, n: int, a: str, b: str, *, d: int = 1, majors: str = "kk", **bits: int) -> int:
    codes = {"e2m1": 1} if kind.startswith("mxf4") else CODES
    word = (
        codes[a] << 7
        | codes[b] << 10
        | (majors[0] == "m") << 15
        | (majors[1] == "m") << 16
        | n >> 3 << 17
        | m >> 4 << 24
    )
    if not kind.startswith("mx"):
        word |= d << 4
    for name, value in bits.items():
        word |= (
            value
            << {"negate_a": 13, "negate_b": 14, "saturate": 3, "ue8m0": 23, "id_a": 29, "id_b": 4, "wide": 31}[name]
        )
    return word


def d_cell(m: int, n: int, group: int, ws: bool, row: int, column: int) -> tuple[int, int, int]:
    """(CTA, lane, column) of D[row, column]: CuTe's tmem_frg."""
    rows = m // group
    cta, row = divmod(row, rows)
    if group == 1 and m == 64 and not ws:
        return cta, row % 16 + 32 * (row // 16), column
    width = n * rows // 128
    return cta, row + rows * (column // width), column % width


def read_d(ctas: list[Cta], at: int, m: int, n: int, ws: bool = False, dtype: str = "f32") -> np.ndarray:
    out = np.zeros((m, n))
    kinds = {"f32": np.float32, "s32": np.int32}
    for row, column in itertools.product(range(m), range(n)):
        cta, lane, col = d_cell(m, n, len(ctas), ws, row, column)
        word = ctas[cta].tensor.data[lane, at + col]
        out[row, column] = np.uint16(word & 0xFFFF).view(np.float16) if dtype == "f16" else word.view(kinds[dtype])
    return out


def issue(cta: Cta, ins: Instruction, *operands: object, a_in_tmem: bool = False) -> None:
    first = Address(Immediate(0)) if a_in_tmem else Immediate(0)
    called = Instruction(ins.name, (Address(Immediate(0)), first), None, 1, ins.name, ins.rule, ins.mods)
    ins.rule.handler(ThreadContext(WarpContext(cta, 0), 0), called, *operands)


World = Callable[..., Cluster]
Make = Callable[..., Instruction]

DENSE = [
    # kind, A, B, group, M, N, layout A, layout B, majors
    ("f16", "f16", "bf16", 1, 128, 32, 2, 2, "kk"),
    ("f16", "bf16", "bf16", 1, 64, 24, 4, 6, "kk"),
    ("f16", "f16", "f16", 1, 128, 64, 2, 4, "mm"),
    ("f16", "f16", "f16", 1, 128, 32, 0, 0, "mk"),
    ("f16", "f16", "f16", 1, 128, 32, 0, 6, "km"),
    ("f16", "bf16", "f16", 2, 256, 64, 2, 2, "kk"),
    ("f16", "f16", "f16", 2, 128, 64, 2, 2, "kk"),
    ("tf32", "tf32", "tf32", 1, 128, 32, 2, 0, "kk"),
    ("tf32", "tf32", "tf32", 2, 256, 64, 1, 1, "mm"),
    ("f8f6f4", "e4m3", "e5m2", 1, 128, 32, 2, 6, "kk"),
    ("f8f6f4", "e4m3", "e4m3", 1, 128, 128, 2, 2, "mm"),
    ("f8f6f4", "e2m1", "e3m2", 1, 128, 32, 2, 2, "kk"),
    ("f8f6f4", "e2m3", "e2m1", 2, 256, 32, 2, 2, "kk"),
    ("i8", "s8", "u8", 1, 128, 32, 2, 2, "kk"),
    ("i8", "u8", "s8", 1, 64, 8, 0, 0, "kk"),
]


@pytest.mark.parametrize("case", DENSE, ids=lambda c: "-".join(map(str, c)))
def test_dense(case: tuple, cluster: World, instruction: Make) -> None:
    kind, a, b, group, m, n, layout_a, layout_b, majors = case
    rng = np.random.default_rng(1)
    ctas = cluster(group).ctas
    codes_a, va = numbers(rng, a, (m, K[kind]))
    codes_b, vb = numbers(rng, b, (n, K[kind]))
    for rank, cta in enumerate(ctas):
        tmem.allocate(cta.tensor, 0, 512)
        pa, pb = slice(rank * m // group, (rank + 1) * m // group), slice(rank * n // group, (rank + 1) * n // group)
        da = Operand.place(cta, A_AT, codes_a[pa], a, layout_a, majors[0], False)
        db = Operand.place(cta, B_AT, codes_b[pb], b, layout_b, majors[1], False)
    d = 2 if kind == "i8" else 1
    name = "s32" if kind == "i8" else "f32"
    ins = instruction(f"tcgen05.mma.cta_group::{group}.kind::{kind}")
    word = descriptor(kind, m, n, a, b, d=d, majors=majors)
    issue(ctas[0], ins, 32, da.word, db.word, word, False)
    assert (read_d(ctas, 32, m, n, dtype=name) == va @ vb.T).all()
    issue(ctas[0], ins, 32, da.word, db.word, word, True)
    assert (read_d(ctas, 32, m, n, dtype=name) == 2 * (va @ vb.T)).all()


@pytest.mark.parametrize("element", ["e2m1", "e2m3", "e3m2"])
def test_a_decompressed_on_its_way_to_tensor_memory(element: str, cluster: World, instruction: Make) -> None:
    """tcgen05.cp .b8x16 makes of padded elements what an MMA reads as A in tensor memory."""
    rng = np.random.default_rng(6)
    (cta,) = cluster().ctas
    tmem.allocate(cta.tensor, 0, 128)
    codes_a, va = numbers(rng, element, (128, 32))
    codes_b, vb = numbers(rng, "e4m3", (32, 32))
    da = Operand.place(cta, A_AT, codes_a, element, 0, "k", False)
    db = Operand.place(cta, B_AT, codes_b, "e4m3", 2, "k", False)
    source = "b4x16_p64" if element == "e2m1" else "b6x16_p32"
    copy = instruction(f"tcgen05.cp.cta_group::1.128x256b.b8x16.{source}")
    copy.rule.handler(ThreadContext(WarpContext(cta, 0), 0), copy, 64, da.word)
    mma = instruction("tcgen05.mma.cta_group::1.kind::f8f6f4")
    issue(cta, mma, 0, 64, db.word, descriptor("f8f6f4", 128, 32, element, "e4m3"), False, a_in_tmem=True)
    assert (read_d([cta], 0, 128, 32) == va @ vb.T).all()


SCALED = [
    # kind, vec, A, B, scale, group, M, N, ids
    ("mxf4nvf4", "block16", "e2m1", "e2m1", "ue4m3", 1, 128, 64, (0,)),
    ("mxf4nvf4", "scale_vec::4X", "e2m1", "e2m1", "ue8m0", 2, 256, 256, (0,)),
    ("mxf4nvf4", "scale_vec::2X", "e2m1", "e2m1", "ue8m0", 1, 128, 24, (0, 2)),
    ("mxf4", "block32", "e2m1", "e2m1", "ue8m0", 2, 128, 64, (0, 2)),
    ("mxf8f6f4", "scale_vec::1X", "e4m3", "e2m1", "ue8m0", 1, 128, 192, (0, 1, 2, 3)),
    ("mxf8f6f4", "block32", "e3m2", "e5m2", "ue8m0", 2, 256, 96, (3,)),
]


def scales(rng: np.random.Generator, name: str, rows: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    codes = rng.integers(*((0x30, 0x40) if name == "ue4m3" else (125, 130)), (rows, count)).astype(np.uint8)
    return codes, fp4num.decode(codes, "e4m3" if name == "ue4m3" else "e8m0").astype(np.float64)


def put_scales(cta: Cta, column: int, codes: np.ndarray, first: int, halves: bool = False) -> None:
    """CuTe's tmem_sf_frg: row 32 g + i, scale j -> byte j % 4 of (lane i of all groups, column + j // 4 * G + g)."""
    rows = len(codes) // 2 if halves else len(codes)
    per = 4 * -(-rows // 128)
    for row, j in np.ndindex(*codes.shape):
        upper, r = divmod(row, rows)
        byte = first + j
        col = column + byte // 4 * per + r // 32
        for copy in range(4) if not halves else (2 * upper, 2 * upper + 1):
            lane = 32 * copy + r % 32
            cta.tensor.data[lane, col] &= np.uint32(0xFFFFFFFF ^ (0xFF << 8 * (byte % 4)))
            cta.tensor.data[lane, col] |= np.uint32(int(codes[row, j]) << 8 * (byte % 4))
    height = -(-rows // 32)
    for word in range((first + codes.shape[1] - 1) // 4 + 1):
        cta.tensor.written[:, column + word * per : column + word * per + height] = True


@pytest.mark.parametrize("case", SCALED, ids=lambda c: "-".join(map(str, c)))
def test_block_scaled(case: tuple, cluster: World, instruction: Make) -> None:
    kind, vec, a, b, scale, group, m, n, ids = case
    rng = np.random.default_rng(2)
    ctas, depth = cluster(group).ctas, K[kind]
    block = 16 if vec in ("block16", "scale_vec::4X") else 32
    codes_a, va = numbers(rng, a, (m, depth))
    codes_b, vb = numbers(rng, b, (n, depth))
    dense4 = kind != "mxf8f6f4"
    sa, fa = scales(rng, scale, m, depth // block)
    sb, fb = scales(rng, scale, n, depth // block)
    expected = (va * np.repeat(fa, block, 1)) @ (vb * np.repeat(fb, block, 1)).T
    ins = instruction(f"tcgen05.mma.cta_group::{group}.kind::{kind}.block_scale.{vec}.collector::a::discard")
    for id_a, id_b in itertools.product(ids, reversed(ids)):
        for rank, cta in enumerate(ctas):
            if rank == 0 or id_a == ids[0]:
                cta.tensor.allocated[:] = True
            pa = slice(rank * m // group, (rank + 1) * m // group)
            pb = slice(rank * n // group, (rank + 1) * n // group)
            da = Operand.place(cta, A_AT, codes_a[pa], a, 2, "k", dense4)
            db = Operand.place(cta, B_AT, codes_b[pb], b, 2, "k", dense4)
            put_scales(cta, 400, sa[pa], id_a)
            put_scales(cta, 440, sb, id_b, halves=group == 2 and m == 128)
        word = descriptor(kind, m, n, a, b, ue8m0=int(scale == "ue8m0"), id_a=id_a, id_b=id_b)
        issue(ctas[0], ins, 0, da.word, db.word, word, 400 | id_a << 30, 440 | id_b << 30, False)
        assert (read_d(ctas, 0, m, n) == expected).all()


def test_k_of_96_straddles_two_tiles(cluster: World, instruction: Make) -> None:
    """sm_103a: 48 bytes a row; what lies past the swizzle row is at the absolute address in the LBO field."""
    rng = np.random.default_rng(3)
    cta = cluster(1, "sm_103a").ctas[0]
    cta.tensor.allocated[:] = True
    m, n = 128, 32
    codes, values, words = {}, {}, {}
    for name, rows, start in (("a", m, A_AT), ("b", n, B_AT)):
        codes[name], values[name] = numbers(rng, "e2m1", (rows, 96))
        for row in range(rows):
            for byte, value in _line(codes[name][row], "e2m1", True).items():
                column = 96 + byte  # the operand starts 96 bytes into the row
                tile = start if column < 128 else start + 32768
                _poke(cta, xor(tile + row * 128 + column % 128, 2), value)
        words[name] = (start + 96) >> 4 | (start + 32768 >> 4) << 16 | 64 << 32 | 1 << 46 | 1 << 52 | 2 << 61
    sa, fa = scales(rng, "ue4m3", m, 6)
    sb, fb = scales(rng, "ue4m3", n, 6)
    put_scales(cta, 400, sa, 2)
    put_scales(cta, 440, sb, 2)
    ins = instruction("tcgen05.mma.cta_group::1.kind::mxf4nvf4.block_scale.block16", "sm_103a")
    word = descriptor("mxf4nvf4", m, n, "e2m1", "e2m1", id_a=2, id_b=2, wide=1)
    issue(cta, ins, 0, words["a"], words["b"], word, 400, 440, False)
    expected = (values["a"] * np.repeat(fa, 16, 1)) @ (values["b"] * np.repeat(fb, 16, 1)).T
    assert (read_d([cta], 0, m, n) == expected).all()
    plain = words["a"] & ~(1 << 52)
    with pytest.raises(Fault, match="past its 128-byte swizzle row"):
        issue(cta, ins, 0, plain, words["b"], word, 400, 440, False)


def small(cluster: World, group: int = 1, m: int = 128, n: int = 32) -> tuple[list[Cta], Operand, Operand, np.ndarray]:
    rng = np.random.default_rng(4)
    ctas = cluster(group).ctas
    codes_a, va = numbers(rng, "f16", (m, 16))
    codes_b, vb = numbers(rng, "f16", (n, 16))
    for cta in ctas:
        tmem.allocate(cta.tensor, 0, 256)
        da = Operand.place(cta, A_AT, codes_a, "f16", 2, "k", False)
        db = Operand.place(cta, B_AT, codes_b, "f16", 2, "k", False)
    return ctas, da, db, va @ vb.T


def test_modifiers(cluster: World, instruction: Make) -> None:
    (cta,), da, db, product = small(cluster)
    ins = instruction("tcgen05.mma.cta_group::1.kind::f16")
    word = descriptor("f16", 128, 32, "f16", "f16", negate_a=1)
    issue(cta, ins, 0, da.word, db.word, word, False)
    assert (read_d([cta], 0, 128, 32) == -product).all()
    issue(cta, ins, 0, da.word, db.word, descriptor("f16", 128, 32, "f16", "f16", negate_b=1), True, 2)
    assert (read_d([cta], 0, 128, 32) == -product / 4 - product).all()
    before = read_d([cta], 0, 128, 32)
    issue(cta, ins, 0, da.word, db.word, word, (0xFFFF_FFFF, 0, 0, 1), False)
    after = read_d([cta], 0, 128, 32)
    assert (after[:32] == before[:32]).all() and (after[96] == before[96]).all()
    assert (after[32:96] == -product[32:96]).all() and (after[97:] == -product[97:]).all()
    issue(cta, ins, 64, da.word, db.word, descriptor("f16", 128, 32, "f16", "f16", d=0), False)
    assert (read_d([cta], 64, 128, 32, dtype="f16") == product.astype(np.float16)).all()


@pytest.mark.parametrize("m", [32, 64, 128])
def test_weight_stationary(m: int, cluster: World, instruction: Make) -> None:
    (cta,), da, db, product = small(cluster, m=m, n=64)
    ins = instruction("tcgen05.mma.ws.cta_group::1.kind::f16.collector::b0::fill")
    issue(cta, ins, 0, da.word, db.word, descriptor("f16", m, 64, "f16", "f16"), False)
    assert (read_d([cta], 0, m, 64, ws=True) == product).all()


def test_a_from_tensor_memory(cluster: World, instruction: Make) -> None:
    cta = cluster().ctas[0]
    tmem.allocate(cta.tensor, 0, 256)
    rng = np.random.default_rng(5)
    codes_a, va = numbers(rng, "f16", (128, 16))
    codes_b, vb = numbers(rng, "f16", (32, 16))
    cta.tensor.data[:, 128:136] = codes_a.reshape(128, -1).view(np.uint32)
    cta.tensor.written[:, 128:136] = True
    db = Operand.place(cta, B_AT, codes_b, "f16", 2, "k", False)
    ins = instruction("tcgen05.mma.cta_group::1.kind::f16")
    issue(cta, ins, 0, 128, db.word, descriptor("f16", 128, 32, "f16", "f16"), False, a_in_tmem=True)
    assert (read_d([cta], 0, 128, 32) == va @ vb.T).all()


def test_extreme_scales_do_not_leave_float32(cluster: World, instruction: Make) -> None:
    cta = cluster().ctas[0]
    cta.tensor.allocated[:] = True
    ones = np.full((128, 32, 1), 0x38, np.uint8)
    da = Operand.place(cta, A_AT, ones, "e4m3", 2, "k", False)
    db = Operand.place(cta, B_AT, ones[:32], "e4m3", 2, "k", False)
    put_scales(cta, 400, np.full((128, 1), 254, np.uint8), 0)
    put_scales(cta, 440, np.full((32, 1), 0, np.uint8), 0)
    ins = instruction("tcgen05.mma.cta_group::1.kind::mxf8f6f4.block_scale")
    issue(cta, ins, 0, da.word, db.word, descriptor("mxf8f6f4", 128, 32, "e4m3", "e4m3", ue8m0=1), 400, 440, False)
    assert (read_d([cta], 0, 128, 32) == 32).all()


def test_faults(cluster: World, instruction: Make) -> None:
    (cta,), da, db, _ = small(cluster)
    ins = instruction("tcgen05.mma.cta_group::1.kind::f16")
    word = descriptor("f16", 128, 32, "f16", "f16")
    with pytest.raises(Fault, match="D of tcgen05.mma reads lane 0, column 0, which was never written"):
        issue(cta, ins, 0, da.word, db.word, word, True)
    with pytest.raises(Fault, match="not allocated"):
        issue(cta, ins, 240, da.word, db.word, word, False)
    with pytest.raises(Fault, match="shared byte .* never written"):
        issue(cta, ins, 0, da.word + 64, db.word, word, False)
    with pytest.raises(Fault, match="bits 46-48"):
        issue(cta, ins, 0, da.word & ~(1 << 46), db.word, word, False)
    with pytest.raises(Fault, match="layout type 3"):
        issue(cta, ins, 0, da.word | 1 << 61, db.word, word, False)
    with pytest.raises(Fault, match="reserved bits"):
        issue(cta, ins, 0, da.word | 1 << 14, db.word, word, False)
    with pytest.raises(Fault, match="D starts at lane 32"):
        issue(cta, ins, 32 << 16, da.word, db.word, word, False)
    with pytest.raises(Fault, match="even number of CTAs"):
        other = cluster().ctas[0]
        issue(other, instruction("tcgen05.mma.cta_group::2.kind::f16"), 0, da.word, db.word, word, False)


def test_scale_faults(cluster: World, instruction: Make) -> None:
    cta = cluster().ctas[0]
    cta.tensor.allocated[:] = True
    codes, _ = numbers(np.random.default_rng(0), "e2m1", (128, 64))
    da = Operand.place(cta, A_AT, codes, "e2m1", 2, "k", True)
    db = Operand.place(cta, B_AT, codes[:32], "e2m1", 2, "k", True)
    ins = instruction("tcgen05.mma.cta_group::1.kind::mxf4nvf4.block_scale.block16")
    word = descriptor("mxf4nvf4", 128, 32, "e2m1", "e2m1")
    with pytest.raises(Fault, match="the scales of A reads lane 0, column 400, which was never written"):
        issue(cta, ins, 0, da.word, db.word, word, 400, 440, False)
    put_scales(cta, 400, np.full((128, 4), 0x38, np.uint8), 0)
    put_scales(cta, 440, np.full((32, 4), 0x38, np.uint8), 0)
    cta.tensor.data[70, 401] ^= 1
    with pytest.raises(Fault, match="differ between the groups of 32 lanes"):
        issue(cta, ins, 0, da.word, db.word, word, 400, 440, False)
    cta.tensor.data[:, 401] |= 0x80
    cta.tensor.data[70, 401] ^= 1
    with pytest.raises(Fault, match="sign bit"):
        issue(cta, ins, 0, da.word, db.word, word, 400, 440, False)
    with pytest.raises(Fault, match="K = 96"):
        issue(cta, ins, 0, da.word, db.word, word | 1 << 31, 400, 440, False)


@pytest.mark.parametrize(
    ("kind", "group", "block", "change", "message"),
    [
        ("f16", 1, 0, {"m": 256}, "M 64 with N 8"),
        ("f16", 1, 0, {"n": 24}, "shape 128 x 24"),
        ("f16", 2, 0, {"m": 64}, "M 128 or 256"),
        ("mxf4nvf4", 1, 16, {"m": 64}, "M 128; N 8"),
        ("mxf4nvf4", 1, 16, {"id_a": 2}, "scale id 2 of A"),
        ("mxf4", 1, 32, {"ue8m0": 0}, "ue4m3 scales for blocks of 32"),
        ("mxf8f6f4", 1, 32, {"wide": 1}, "4-bit kinds"),
        ("i8", 1, 0, {"d": 1}, "type code 1 of D"),
    ],
)
def test_illegal_descriptors(kind: str, group: int, block: int, change: dict[str, int], message: str) -> None:
    element = {"f16": "f16", "i8": "s8", "mxf8f6f4": "e4m3"}.get(kind, "e2m1")
    arguments = {"m": 128, "n": 32, "d": 2 if kind == "i8" else 1} | (
        {"ue8m0": 1} if kind in ("mxf4", "mxf8f6f4") else {}
    )
    arguments |= change
    word = descriptor(kind, arguments.pop("m"), arguments.pop("n"), element, element, **arguments)
    with pytest.raises(Fault) as raised:
        instruction_descriptor.decode(word, kind, group, block)
    assert message in str(raised.value)

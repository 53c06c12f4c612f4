"""ldmatrix, stmatrix, mma.sync and wgmma: against what a Hopper GPU computed, and against CuTe's published layouts."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fp4num
from fp4emu import Fault, mma_sync
from fp4emu.instruction import Instruction
from fp4emu.machine import Cluster, Cta, WarpContext
from fp4emu.memory import SHARED_RESERVED

Mix = Callable[[int, int], np.ndarray]
Words = np.ndarray
NAMES = {"m16n8k64": 64, "m16n8k32": 32}


def typed(mix: Mix, kind: str, count: int, seed: int) -> np.ndarray:
    """`count` bytes of small numbers of a type."""
    raw = mix(count, seed)
    if kind == "f16":
        return (raw[: count // 2] % 17 - 8.0).astype(np.float16).view(np.uint8)
    if kind == "bf16":
        return (
            ((raw[: count // 2] % 17 - 8.0).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        )
    if kind in ("tf32", "f32"):
        return (raw[: count // 4] % 17 - 8.0).astype(np.float32).view(np.uint8)
    if kind == "s32":
        return (raw[: count // 4].astype(np.int32) - 100).view(np.uint8)
    if kind == "e4m3":
        return ((raw & 0x80) | (0x38 + (raw & 7))).astype(np.uint8)
    if kind == "e5m2":
        return ((raw & 0x80) | (0x3C + (raw & 3))).astype(np.uint8)
    return raw


def words(mix: Mix, kind: str, registers: int, lanes: int, seed: int) -> Words:
    return typed(mix, kind, 4 * registers * lanes, seed).view(np.uint32).reshape(registers, lanes)


def fill(cta: Cta, content: np.ndarray) -> None:
    cta.shared.check_write(SHARED_RESERVED, len(content))
    cta.shared.data[SHARED_RESERVED : SHARED_RESERVED + len(content)] = content


def digest(*parts: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()[:16]


def test_wgmma_equals_a_hopper_gpu(
    data: Callable[[str], Any],
    cluster: Callable[..., Cluster],
    instruction: Callable[..., Instruction],
    mix: Mix,
) -> None:
    for shape, d, a, b, flags, registers, da, db, accumulate, seed, expected in data("hopper_mma")["wgmma"]:
        width = int(shape.removeprefix("m64n").split("k")[0])
        count = width // 4 if d == "f16" else width // 2
        cta = cluster(1, "sm_90a").ctas[0]
        fill(cta, np.concatenate([typed(mix, a, 32768, seed + 1), typed(mix, b, 32768, seed + 2)]))
        old, left = words(mix, d, count, 128, seed + 3), words(mix, a, 4, 128, seed + 4)
        ins = instruction(f"wgmma.mma_async.sync.aligned.{shape}.{d}.{a}.{b}", "sm_90a")
        start = SHARED_RESERVED >> 4
        immediates = [int(f) & 0xFFFF_FFFF for f in flags.split(",") if f.strip()]
        out = np.empty((count, 128), np.uint32)
        for warp in range(4):
            lanes = slice(32 * warp, 32 * warp + 32)
            first = list(left[:, lanes]) if registers else np.full(32, da + start, np.uint64)
            second = np.full(32, db + start, np.uint64)
            out[:, lanes] = ins.rule.handler(
                WarpContext(cta, warp), ins, list(old[:, lanes]), first, second, accumulate, *immediates
            )
        assert digest(out) == expected, (shape, d, a, b, flags, registers, hex(da), hex(db), accumulate)


def test_warp_instructions_equal_a_hopper_gpu(
    data: Callable[[str], Any],
    cluster: Callable[..., Cluster],
    instruction: Callable[..., Instruction],
    mix: Mix,
) -> None:
    for name, seed, counts, expected in data("hopper_mma")["warp"]:
        cta = cluster(1, "sm_90a").ctas[0]
        fill(cta, mix(4096, 999))
        ins, warp = instruction(name, "sm_90a"), WarpContext(cta, 0)
        number = int(ins.mod("num")[1:]) if ins.has("num") else 0
        rows = ((np.arange(32, dtype=np.uint32) * 37 + number) % 256) * 16 + SHARED_RESERVED
        parts: list[np.ndarray] = []
        if name.startswith("ldmatrix"):
            parts.append(ins.rule.handler(warp, ins, rows))
        elif name.startswith("stmatrix"):
            ins.rule.handler(warp, ins, rows, list(words(mix, "u8", number, 32, seed + 1)))
        else:
            kinds = (ins.mod("a"), ins.mod("b"), ins.mod("d"))
            given = [
                list(words(mix, k, n, 32, seed + i + 1)) for i, (k, n) in enumerate(zip(kinds, counts, strict=True))
            ]
            parts.append(ins.rule.handler(warp, ins, *given))
        parts.append(cta.shared.data[SHARED_RESERVED : SHARED_RESERVED + 4096])
        assert digest(*parts) == expected, name


def _cute(shape: tuple[int, ...], stride: tuple[int, ...], index: int) -> int:
    """A CuTe layout of flat modes, leftmost fastest."""
    out = 0
    for extent, step in zip(shape, stride, strict=True):
        out += index % extent * step
        index //= extent
    return out


@pytest.mark.parametrize("count", [1, 2, 4])
def test_stmatrix_of_bytes_is_cutes_layout(count: int) -> None:
    """SM100_U8xN_STSM_T: thread (4, 8) : (256, 8), value (8, 2, 2, count) : (1, 128, 64, 1024), in bits of 16-byte
    rows."""
    height, rows, columns = mma_sync.matrix_layout("m16n8", count, True)
    assert height == 8 * count
    for lane, byte in itertools.product(range(32), range(4 * count)):
        bit = _cute((4, 8), (256, 8), lane) + _cute((8, 2, 2, count), (1, 128, 64, 1024), 8 * byte)
        register, part = divmod(byte, 4)
        assert (rows[register, lane, part], columns[register, lane, part]) == (bit // 128, bit % 128 // 8)


@pytest.mark.parametrize("count", [1, 2])
def test_ldmatrix_of_transposed_bytes_is_cutes_layout(count: int) -> None:
    """SM100_U8xN_LDSM_T, whose register bytes CuTe reorders: its byte pairs (0, 1) of both registers come first."""
    height, rows, columns = mma_sync.matrix_layout("m16n16", count, True)
    assert height == 16 * count
    for lane, byte in itertools.product(range(32), range(8 * count)):
        bit = _cute((4, 8), (256, 8), lane) + _cute((8, 2, 2, 2, count), (1, 128, 64, 1024, 2048), 8 * byte)
        logical, column = bit // 128, bit % 128 // 8
        # CuTe gives lane i of a matrix the logical row (i & 1) + 8 (i >> 1 & 1) + 2 (i >> 2).
        row = logical // 16 * 16 + (logical & 1) + 2 * (logical >> 3 & 1) + 4 * (logical >> 1 & 3)
        pair, within = divmod(byte % 8, 4)
        # dst register `pair`, bytes x y z w = tmp0 bytes of pair, then tmp1 bytes of pair
        register, part = 2 * (byte // 8) + within // 2, 2 * pair + within % 2
        assert (rows[register, lane, part], columns[register, lane, part]) == (row, column)


def test_ldmatrix_expands_sub_byte_rows() -> None:
    codes = np.random.default_rng(0).integers(0, 16, (8, 16)).astype(np.uint8)
    rows = np.zeros((8, 16), np.uint8)
    rows[:, :8] = fp4num.pack(codes, 4)
    assert (mma_sync.expand(rows, "b4x16_p64") == codes).all()
    codes = np.random.default_rng(0).integers(0, 64, (8, 16)).astype(np.uint8)
    rows[:, :12] = fp4num.pack(codes, 6)
    assert (mma_sync.expand(rows, "b6x16_p32") == codes).all()


def _fragment_words(
    codes: np.ndarray, rows: tuple[int, ...], values: tuple[tuple[int, ...], tuple[int, ...]], bits: int
) -> Words:
    """Registers [register, lane] of a (row, k) matrix by a CuTe (thread, value) layout over row + height * k."""
    height = codes.shape[0]
    shape, stride = values
    total = int(np.prod(shape))
    per = 32 // bits
    out = np.zeros((total // per, 32), np.uint32)
    for lane, value in itertools.product(range(32), range(total)):
        index = _cute((4, 8), rows, lane) + _cute(shape, stride, value)
        out[value // per, lane] |= np.uint32(int(codes[index % height, index // height]) << (bits * (value % per)))
    return out


@pytest.mark.parametrize(("scale", "vec", "count"), [("ue4m3", "scale_vec::4X", 4), ("ue8m0", "scale_vec::2X", 2)])
def test_mma_block_scale_of_four_bit_elements(
    scale: str, vec: str, count: int, cluster: Callable[..., Cluster], instruction: Callable[..., Instruction]
) -> None:
    """CuTe's SM120_16x8x64_TN_VS: A (T32,V32), B (T32,V16), scales by SFALayout and SFBLayout."""
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 16, (16, 64)).astype(np.uint8), rng.integers(0, 16, (8, 64)).astype(np.uint8)
    code = (0x30, 0x40) if scale == "ue4m3" else (126, 130)
    sa, sb = rng.integers(*code, (16, count)).astype(np.uint8), rng.integers(*code, (8, count)).astype(np.uint8)
    c = rng.integers(-9, 9, (16, 8)).astype(np.float32)
    left = _fragment_words(a, (128, 1), ((8, 2, 2), (16, 8, 512)), 4)
    right = _fragment_words(b, (64, 1), ((8, 2), (8, 256)), 4)
    for byte, thread_a, thread_b in [(0, 0, 0), (0, 1, 3), (4 - count, 0, 2)]:
        scales_a, scales_b = np.zeros((32, 4), np.uint8), np.zeros((32, 4), np.uint8)
        for lane in range(32):
            if lane // 2 % 2 == thread_a:
                scales_a[lane, byte : byte + count] = sa[lane // 4 + 8 * (lane % 2)]
            if lane % 4 == thread_b:
                scales_b[lane, byte : byte + count] = sb[lane // 4]
        rows, columns = mma_sync.accumulator(16, 8)
        kind = "kind::mxf4nvf4"
        ins = instruction(
            f"mma.sync.aligned.{kind}.block_scale.{vec}.m16n8k64.row.col.f32.e2m1.e2m1.f32.{scale}", "sm_120a"
        )
        found = ins.rule.handler(
            WarpContext(cluster(1, "sm_120a").ctas[0], 0),
            ins,
            list(left),
            list(right),
            list(c[rows, columns].view(np.uint32)),
            [scales_a.view(np.uint32)[:, 0]],
            [byte, thread_a],
            [scales_b.view(np.uint32)[:, 0]],
            [byte, thread_b],
        )
        name = "e4m3" if scale == "ue4m3" else "e8m0"
        va = fp4num.decode(a, "e2m1") * np.repeat(fp4num.decode(sa, name), 64 // count, 1)
        vb = fp4num.decode(b, "e2m1") * np.repeat(fp4num.decode(sb, name), 64 // count, 1)
        assert (found.view(np.float32) == (va @ vb.T + c)[rows, columns]).all()


def test_containers_must_be_clean() -> None:
    with pytest.raises(Fault, match="shifted left by two"):
        mma_sync.decode_words(np.full((1, 32), 0x0F, np.uint32), mma_sync.operands.E2M1, container=True)


def test_faults(cluster: Callable[..., Cluster], instruction: Callable[..., Instruction]) -> None:
    cta = cluster().ctas[0]
    ins = instruction("ldmatrix.sync.aligned.m8n8.x1.shared.b16")
    with pytest.raises(Fault, match="multiple of 16"):
        ins.rule.handler(WarpContext(cta, 0), ins, np.full(32, 2056, np.uint32))
    with pytest.raises(Fault, match="never written"):
        ins.rule.handler(WarpContext(cta, 0), ins, np.full(32, 2048, np.uint32))
    with pytest.raises(Fault, match="another CTA"):
        ins.rule.handler(WarpContext(cta, 0), ins, np.full(32, 2048 | 1 << 24, np.uint32))
    with pytest.raises(Fault, match="active mask"):
        ins.rule.handler(WarpContext(cta, 0, active=1), ins, np.full(32, 2048, np.uint32))
